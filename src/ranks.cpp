#include "aurora/ranks.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "error.hpp"

namespace aurora {
namespace {

Index bytes_of(const ConstMatrixView& values) { return values.cols * byte_size(values.dtype); }

void require_packed(std::string_view operation, const ConstMatrixView& values) {
  const bool is_packed = values.rows == 1 && values.batch == 1 && values.cols >= 0 && values.col_stride == 1;
  if (!is_packed || (values.cols > 0 && values.data == nullptr)) {
    fail(operation, "Ranks exchange packed vectors, 1 x n, not ", shape_text(values));
  }
}

template <class View>
void require_one_for_each(std::string_view operation, const Collectives& ranks, std::span<const View> parts) {
  if (parts.size() != static_cast<std::size_t>(ranks.size())) {
    fail(operation, "One part for each rank is needed: ", parts.size(), " parts, ", ranks.size(), " ranks");
  }
  for (const View& part : parts) require_packed(operation, part);
}

void require_equal(std::string_view operation, int rank, const ConstMatrixView& own,
                   const ConstMatrixView& part) {
  if (own.cols != part.cols || own.dtype != part.dtype) {
    fail(operation, "Rank ", rank, " has a part for itself of another size: ", part.cols, " ",
         name(part.dtype), " instead of ", own.cols, " ", name(own.dtype));
  }
}

/// What is sent to others of one part for each rank.
template <class View>
Index bytes_to_others(std::span<const View> parts, int rank) {
  Index bytes = 0;
  for (std::size_t r = 0; r < parts.size(); ++r) {
    if (r != static_cast<std::size_t>(rank)) bytes += bytes_of(parts[r]);
  }
  return bytes;
}

}  // namespace

void Collectives::all_reduce(MatrixView values, Reduction reduction) {
  require_packed("all_reduce", values);
  do_all_reduce(values, reduction);
  bytes_sent_ += 2 * (size() - 1) * bytes_of(values) / size();
}

void Collectives::reduce_scatter(std::span<const ConstMatrixView> parts, MatrixView own) {
  require_one_for_each("reduce_scatter", *this, parts);
  require_packed("reduce_scatter", own);
  require_equal("reduce_scatter", rank(), own, parts[static_cast<std::size_t>(rank())]);
  do_reduce_scatter(parts, own);
  bytes_sent_ += bytes_to_others(parts, rank());
}

void Collectives::all_gather(ConstMatrixView own, std::span<const MatrixView> parts) {
  require_packed("all_gather", own);
  require_one_for_each("all_gather", *this, parts);
  require_equal("all_gather", rank(), own, parts[static_cast<std::size_t>(rank())]);
  do_all_gather(own, parts);
  bytes_sent_ += (size() - 1) * bytes_of(own);
}

void Collectives::all_to_all(std::span<const ConstMatrixView> sends, std::span<const MatrixView> receives) {
  start_all_to_all(sends, receives)->wait();
}

std::unique_ptr<Exchange> Collectives::start_all_to_all(std::span<const ConstMatrixView> sends,
                                                        std::span<const MatrixView> receives) {
  require_one_for_each("all_to_all", *this, sends);
  require_one_for_each("all_to_all", *this, receives);
  const auto own = static_cast<std::size_t>(rank());
  require_equal("all_to_all", rank(), receives[own], sends[own]);
  auto exchange = do_start_all_to_all(sends, receives);
  bytes_sent_ += bytes_to_others(sends, rank());
  return exchange;
}

void Collectives::broadcast(MatrixView values, int root) {
  require_packed("broadcast", values);
  if (root < 0 || root >= size()) fail("broadcast", "There is no rank ", root, " of ", size());
  do_broadcast(values, root);
  if (rank() == root) bytes_sent_ += (size() - 1) * bytes_of(values);
}

std::vector<int> assign_owners(std::span<const double> costs, int ranks) {
  if (ranks < 1) fail("assign_owners", "At least one rank is needed: ", ranks);
  for (const double cost : costs) {
    if (!(cost >= 0) || std::isinf(cost))
      fail("assign_owners", "A cost must be a finite number >= 0: ", cost);
  }
  std::vector<std::size_t> order(costs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return costs[a] > costs[b]; });
  std::vector<double> loads(static_cast<std::size_t>(ranks));
  std::vector<int> owners(costs.size());
  for (const std::size_t i : order) {
    const auto least = std::min_element(loads.begin(), loads.end());
    *least += costs[i];
    owners[i] = static_cast<int>(least - loads.begin());
  }
  return owners;
}

double unevenness(std::span<const double> costs, std::span<const int> owners, int ranks) {
  std::vector<double> loads(static_cast<std::size_t>(ranks));
  for (std::size_t i = 0; i < costs.size(); ++i) loads[static_cast<std::size_t>(owners[i])] += costs[i];
  const double sum = std::accumulate(loads.begin(), loads.end(), 0.0);
  return sum == 0 ? 1 : *std::max_element(loads.begin(), loads.end()) * ranks / sum;
}

}  // namespace aurora
