// Run by mpirun with two and with three processes; each of them makes all tests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>

#include "ranks/mpi.hpp"

namespace aurora::test {
namespace {

using testing::Each;
using testing::ElementsAreArray;

MpiRanks* ranks = nullptr;

/// MPI begins before the first test and ends after the last.
class Mpi : public testing::Environment {
 public:
  void SetUp() override {
    const char* size = std::getenv("OMPI_COMM_WORLD_SIZE");
    ranks_ = std::make_unique<MpiRanks>(size == nullptr ? 1 : std::atoi(size), 60);
    ranks = ranks_.get();
  }
  void TearDown() override { ranks_->finish(); }

 private:
  std::unique_ptr<MpiRanks> ranks_;
};
[[maybe_unused]] testing::Environment* const mpi = testing::AddGlobalTestEnvironment(new Mpi);

/// What a rank has for another: numbers that tell where they come from and go to. Rank 1 gets nothing.
std::vector<double> parcel(int from, int to) {
  if (to == 1) return {};
  std::vector<double> values(static_cast<std::size_t>(1 + 3 * to + from));
  std::iota(values.begin(), values.end(), 100.0 * from + 10.0 * to);
  return values;
}

template <class View, class Lists>
std::vector<View> views_of(Lists& lists) {
  std::vector<View> views;
  for (auto& list : lists) views.push_back(packed(list.data(), std::ssize(list)));
  return views;
}

struct Parcels {
  std::vector<std::vector<double>> sends, receives, expected;
  Parcels() {
    for (int r = 0; r < ranks->size(); ++r) {
      sends.push_back(parcel(ranks->rank(), r));
      expected.push_back(parcel(r, ranks->rank()));
      receives.emplace_back(expected.back().size());
    }
  }
  std::unique_ptr<Exchange> start() {
    return ranks->start_all_to_all(views_of<ConstMatrixView>(sends), views_of<MatrixView>(receives));
  }
};

TEST(MpiRanks, AddAndFindTheLeast) {
  const int size = ranks->size();
  std::vector<float> sum(5, static_cast<float>(ranks->rank() + 1));
  ranks->all_reduce(packed(sum.data(), 5), Reduction::sum);
  EXPECT_THAT(sum, Each(static_cast<float>(size * (size + 1) / 2)));
  std::vector<double> least = {10.0 - ranks->rank(), 1.0 * ranks->rank()};
  ranks->all_reduce(packed(least.data(), 2), Reduction::minimum);
  EXPECT_THAT(least, ElementsAreArray({11.0 - size, 0.0}));
}

TEST(MpiRanks, ScatterASumInUnevenParts) {
  // Part r has 4 r numbers: the first rank gets none.
  std::vector<std::vector<float>> parts;
  for (int r = 0; r < ranks->size(); ++r)
    parts.emplace_back(4 * static_cast<std::size_t>(r), static_cast<float>(10 * r + ranks->rank()));
  std::vector<float> own(4 * static_cast<std::size_t>(ranks->rank()));
  const Index before = ranks->bytes_sent();
  ranks->reduce_scatter(views_of<ConstMatrixView>(parts), packed(own.data(), std::ssize(own)));
  const int size = ranks->size();
  EXPECT_THAT(own, Each(static_cast<float>(10 * ranks->rank() * size + size * (size - 1) / 2)));
  EXPECT_EQ(ranks->bytes_sent() - before, 16 * (size * (size - 1) / 2 - ranks->rank()));
}

TEST(MpiRanks, GatherUnevenParts) {
  const auto own = parcel(ranks->rank(), 0);
  std::vector<std::vector<double>> parts, expected;
  for (int r = 0; r < ranks->size(); ++r) {
    expected.push_back(parcel(r, 0));
    parts.emplace_back(expected.back().size());
  }
  ranks->all_gather(packed(own.data(), std::ssize(own)), views_of<MatrixView>(parts));
  EXPECT_EQ(parts, expected);
}

TEST(MpiRanks, ExchangeParcelsOfUnevenSizes) {
  Parcels parcels;
  parcels.start()->wait();
  EXPECT_EQ(parcels.receives, parcels.expected);
}

TEST(MpiRanks, KeepTwoExchangesApart) {
  Parcels first, second;
  for (auto& list : second.sends)
    for (double& value : list) value += 0.5;
  for (auto& list : second.expected)
    for (double& value : list) value += 0.5;
  const auto one = first.start(), two = second.start();
  two->wait();
  one->wait();
  EXPECT_EQ(first.receives, first.expected);
  EXPECT_EQ(second.receives, second.expected);
}

TEST(MpiRanks, TakeTheValuesOfARoot) {
  const int root = ranks->size() - 1;
  std::vector<std::uint16_t> halves(3, static_cast<std::uint16_t>(ranks->rank()));
  ranks->broadcast({.data = halves.data(), .rows = 1, .cols = 3, .row_stride = 3, .dtype = DType::bf16},
                   root);
  EXPECT_THAT(halves, Each(root));
}

TEST(MpiRanks, AddNoHalves) {
  std::vector<std::uint16_t> halves(3);
  const MatrixView view = {
      .data = halves.data(), .rows = 1, .cols = 3, .row_stride = 3, .dtype = DType::bf16};
  EXPECT_THROW(ranks->all_reduce(view, Reduction::sum), std::invalid_argument);
  ranks->barrier();  // nothing was sent
}

}  // namespace
}  // namespace aurora::test
