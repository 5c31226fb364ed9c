#include "mpi.hpp"

#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <sstream>
#include <thread>
#include <vector>

namespace aurora {
namespace {

using Clock = std::chrono::steady_clock;

constexpr Index kLongestPiece = Index{1} << 30;  // elements: MPI counts in int
constexpr int kExchangeTag = 1, kFailureTag = 2;
// A wait gives its core away at once, and from here on sleeps between its looks.
constexpr auto kSleepsAfter = std::chrono::seconds(2);
constexpr auto kSleep = std::chrono::milliseconds(1);

struct Failure {
  int code = 0;
  std::array<char, 1020> message{};
};

MPI_Datatype moved_type(DType dtype) {
  return dtype == DType::f64 ? MPI_DOUBLE : dtype == DType::f32 ? MPI_FLOAT : MPI_UINT16_T;
}

MPI_Datatype summed_type(const char* operation, DType dtype) {
  if (is_wide(dtype)) return moved_type(dtype);
  throw std::invalid_argument("[aurora::" + std::string(operation) + "] MPI adds float32 and float64, not " +
                              std::string(name(dtype)));
}

/// Calls visit(address, count) for pieces that MPI can count.
template <class Data, class Visit>
void for_each_piece(const BasicMatrixView<Data>& values, const Visit& visit) {
  using Byte = std::conditional_t<std::is_const_v<Data>, const std::byte, std::byte>;
  for (Index begin = 0; begin < values.cols; begin += kLongestPiece) {
    visit(static_cast<Byte*>(values.data) + begin * byte_size(values.dtype),
          static_cast<int>(std::min(kLongestPiece, values.cols - begin)));
  }
}

void copy(const ConstMatrixView& from, const MatrixView& to) {
  if (from.cols > 0 && from.data != to.data)
    std::memcpy(to.data, from.data, static_cast<std::size_t>(from.cols * byte_size(from.dtype)));
}

}  // namespace

struct MpiRanks::Impl {
  MPI_Comm exchanges = MPI_COMM_NULL, failures = MPI_COMM_NULL;
  int rank = 0, size = 1, neighbours = 1;
  double limit_seconds;
  std::string place = "the start";
  Failure received;
  MPI_Request failure = MPI_REQUEST_NULL;

  std::string prefix(const char* operation) const {
    return "[aurora::" + std::string(operation) + "] rank " + std::to_string(rank) + " of " +
           std::to_string(size) + ", in " + place + ": ";
  }

  void require(const char* operation, int status) const {
    if (status == MPI_SUCCESS) return;
    std::array<char, MPI_MAX_ERROR_STRING> text{};
    int length = 0;
    MPI_Error_string(status, text.data(), &length);
    throw std::runtime_error(prefix(operation) + text.data());
  }

  void wait(const char* operation, std::vector<MPI_Request>& requests) {
    const auto start = Clock::now();
    while (true) {
      int done = 0;
      require(operation,
              MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE));
      if (done != 0) return;
      int failed = 0;
      require(operation, MPI_Test(&failure, &failed, MPI_STATUS_IGNORE));
      if (failed != 0) throw RankFailed(received.code, received.message.data());
      const auto waited = Clock::now() - start;
      if (waited > std::chrono::duration<double>(limit_seconds)) {
        std::ostringstream text;
        text << prefix(operation) << "the other ranks did not answer within " << limit_seconds << " s";
        throw std::runtime_error(text.str());
      }
      if (waited > kSleepsAfter) {
        std::this_thread::sleep_for(kSleep);
      } else {
        sched_yield();
      }
    }
  }

  void receive(const char* operation, const MatrixView& values, int from,
               std::vector<MPI_Request>& requests) const {
    for_each_piece(values, [&](std::byte* data, int count) {
      require(operation, MPI_Irecv(data, count, moved_type(values.dtype), from, kExchangeTag, exchanges,
                                   &requests.emplace_back()));
    });
  }
  void send(const char* operation, const ConstMatrixView& values, int to,
            std::vector<MPI_Request>& requests) const {
    for_each_piece(values, [&](const std::byte* data, int count) {
      require(operation, MPI_Isend(data, count, moved_type(values.dtype), to, kExchangeTag, exchanges,
                                   &requests.emplace_back()));
    });
  }
};

MpiRanks::MpiRanks(int expected, double limit_seconds) : impl_(std::make_unique<Impl>()) {
  impl_->limit_seconds = limit_seconds;
  int provided = 0;
  // torch has threads of its own, and this one alone talks.
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
    throw std::runtime_error("[aurora::ranks] MPI does not start");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &impl_->rank);
  MPI_Comm_size(MPI_COMM_WORLD, &impl_->size);
  if (impl_->size != expected) {
    const int size = impl_->size;
    MPI_Finalize();
    throw std::runtime_error("the launcher started " + std::to_string(expected) + " processes, MPI sees " +
                             std::to_string(size) + ": start them with the mpirun of the MPI that aurora " +
                             "was built with");
  }
  impl_->require("ranks", MPI_Comm_dup(MPI_COMM_WORLD, &impl_->exchanges));
  impl_->require("ranks", MPI_Comm_dup(MPI_COMM_WORLD, &impl_->failures));
  MPI_Comm here = MPI_COMM_NULL;
  impl_->require("ranks", MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here));
  MPI_Comm_size(here, &impl_->neighbours);
  MPI_Comm_free(&here);
  impl_->require("ranks", MPI_Irecv(&impl_->received, sizeof(Failure), MPI_BYTE, MPI_ANY_SOURCE, kFailureTag,
                                    impl_->failures, &impl_->failure));
}

MpiRanks::~MpiRanks() = default;

int MpiRanks::rank() const { return impl_->rank; }
int MpiRanks::size() const { return impl_->size; }
int MpiRanks::neighbours() const { return impl_->neighbours; }
void MpiRanks::set_place(std::string place) { impl_->place = std::move(place); }

std::string MpiRanks::description() const {
  return "MPI, rank " + std::to_string(impl_->rank) + " of " + std::to_string(impl_->size);
}

void MpiRanks::fail(int code, const std::string& message) noexcept {
  Failure sent{.code = code};
  message.copy(sent.message.data(), sent.message.size() - 1);
  std::vector<MPI_Request> requests;
  for (int r = 0; r < impl_->size; ++r) {
    if (r == impl_->rank) continue;
    MPI_Isend(&sent, sizeof(Failure), MPI_BYTE, r, kFailureTag, impl_->failures, &requests.emplace_back());
  }
  try {
    // So short a message goes out at once; who is dead does not take it.
    impl_->limit_seconds = std::min(impl_->limit_seconds, 5.0);
    impl_->wait("fail", requests);
  } catch (const std::exception&) {
    return;
  }
}

void MpiRanks::abort(int code) noexcept {
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

void MpiRanks::finish() {
  do_barrier();
  MPI_Cancel(&impl_->failure);
  MPI_Request_free(&impl_->failure);
  MPI_Comm_free(&impl_->exchanges);
  MPI_Comm_free(&impl_->failures);
  MPI_Finalize();
}

void MpiRanks::do_all_reduce(MatrixView values, Reduction reduction) {
  // To one rank and from there to all, so that the bits are the same everywhere.
  constexpr const char* kName = "all_reduce";
  MPI_Datatype type = summed_type(kName, values.dtype);
  MPI_Op op = reduction == Reduction::sum ? MPI_SUM : MPI_MIN;
  std::vector<MPI_Request> requests;
  for_each_piece(values, [&](std::byte* data, int count) {
    const void* from = impl_->rank == 0 ? MPI_IN_PLACE : data;
    impl_->require(kName,
                   MPI_Ireduce(from, data, count, type, op, 0, impl_->exchanges, &requests.emplace_back()));
  });
  impl_->wait(kName, requests);
  do_broadcast(values, 0);
}

void MpiRanks::do_reduce_scatter(std::span<const ConstMatrixView> parts, MatrixView own) {
  constexpr const char* kName = "reduce_scatter";
  MPI_Datatype type = summed_type(kName, own.dtype);
  std::vector<MPI_Request> requests;
  for (int r = 0; r < impl_->size; ++r) {
    Index begin = 0;
    for_each_piece(parts[static_cast<std::size_t>(r)], [&](const std::byte* data, int count) {
      void* to = r == impl_->rank ? static_cast<std::byte*>(own.data) + begin : nullptr;
      begin += count * byte_size(own.dtype);
      impl_->require(
          kName, MPI_Ireduce(data, to, count, type, MPI_SUM, r, impl_->exchanges, &requests.emplace_back()));
    });
  }
  impl_->wait(kName, requests);
}

void MpiRanks::do_all_gather(ConstMatrixView own, std::span<const MatrixView> parts) {
  constexpr const char* kName = "all_gather";
  std::vector<MPI_Request> requests;
  copy(own, parts[static_cast<std::size_t>(impl_->rank)]);
  for (int r = 0; r < impl_->size; ++r)
    if (r != impl_->rank) impl_->receive(kName, parts[static_cast<std::size_t>(r)], r, requests);
  for (int r = 0; r < impl_->size; ++r)
    if (r != impl_->rank) impl_->send(kName, own, r, requests);
  impl_->wait(kName, requests);
}

std::unique_ptr<Exchange> MpiRanks::do_start_all_to_all(std::span<const ConstMatrixView> sends,
                                                        std::span<const MatrixView> receives) {
  struct Begun final : Exchange {
    Impl& ranks;
    std::vector<MPI_Request> requests;
    explicit Begun(Impl& impl) : ranks(impl) {}
    void wait() override { ranks.wait("all_to_all", requests); }
  };
  constexpr const char* kName = "all_to_all";
  auto begun = std::make_unique<Begun>(*impl_);
  const auto own = static_cast<std::size_t>(impl_->rank);
  copy(sends[own], receives[own]);
  for (std::size_t r = 0; r < receives.size(); ++r)
    if (r != own) impl_->receive(kName, receives[r], static_cast<int>(r), begun->requests);
  for (std::size_t r = 0; r < sends.size(); ++r)
    if (r != own) impl_->send(kName, sends[r], static_cast<int>(r), begun->requests);
  return begun;
}

void MpiRanks::do_broadcast(MatrixView values, int root) {
  constexpr const char* kName = "broadcast";
  std::vector<MPI_Request> requests;
  for_each_piece(values, [&](std::byte* data, int count) {
    impl_->require(kName, MPI_Ibcast(data, count, moved_type(values.dtype), root, impl_->exchanges,
                                     &requests.emplace_back()));
  });
  impl_->wait(kName, requests);
}

void MpiRanks::do_barrier() {
  std::vector<MPI_Request> requests(1);
  impl_->require("barrier", MPI_Ibarrier(impl_->exchanges, requests.data()));
  impl_->wait("barrier", requests);
}

}  // namespace aurora
