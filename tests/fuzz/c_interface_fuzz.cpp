// Calls of the C interface with any variant, sizes, strides, types and overlaps, on memory as large as they
// claim, or NULL.
#include <aurora/aurora.h>
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <vector>

#include "fuzzed.hpp"

namespace {

using namespace aurora;

constexpr std::int64_t kMost = 12, kPlace = kMost * kMost,
                       kElements = 8 * kPlace;  // of two weights with all they need
alignas(64) std::array<double, kElements> memory;

/// Whether a view that could be right leaves the memory: the library takes the caller's word for that.
bool leaves_memory(const aurora_matrix& matrix) {
  using Wide = long double;
  const auto last = [](std::int64_t length, std::int64_t stride, std::int64_t other, std::int64_t line) {
    return (static_cast<Wide>(length) - 1) * static_cast<Wide>(std::max(stride, other == 1 ? line : 1));
  };
  const Wide elements = last(matrix.rows, matrix.row_stride, matrix.col_stride, matrix.cols) +
                        last(matrix.cols, matrix.col_stride, matrix.row_stride, matrix.rows) + 1;
  const auto first = static_cast<double*>(matrix.data) - memory.data();
  return matrix.rows > 0 && matrix.cols > 0 && matrix.row_stride >= 0 && matrix.col_stride >= 0 &&
         static_cast<Wide>(first) + elements > static_cast<Wide>(kElements);
}

/// A rows x cols matrix at its place, one of whose fields may be anything.
aurora_matrix matrix_of(FuzzedDataProvider& input, std::size_t place, std::int64_t rows, std::int64_t cols,
                        aurora_dtype dtype) {
  double* const data = memory.data() + static_cast<std::int64_t>(place) * kPlace;
  aurora_matrix matrix = aurora_row_major(data, rows, cols, dtype);
  if (input.ConsumeIntegralInRange(0, 15) != 15) return matrix;
  const auto anything = [&] {
    return input.ConsumeBool() ? input.ConsumeIntegral<std::int64_t>()
                               : input.ConsumeIntegralInRange<std::int64_t>(-2, 2 * kMost);
  };
  switch (input.ConsumeIntegralInRange(0, 6)) {
    case 0:
      matrix.data = nullptr;
      return matrix;
    case 1:
      matrix.data = memory.data() + input.ConsumeIntegralInRange<std::int64_t>(0, kElements - 1);
      break;
    case 2:
      matrix.rows = anything();
      break;
    case 3:
      matrix.cols = anything();
      break;
    case 4:
      matrix.row_stride = anything();
      break;
    case 5:
      matrix.col_stride = anything();
      matrix.row_stride = input.ConsumeBool() ? 1 : matrix.row_stride;
      break;
    default:
      const int number = input.ConsumeIntegralInRange(-1, 4);
      std::memcpy(&matrix.dtype, &number, sizeof number);
  }
  if (leaves_memory(matrix)) matrix.data = nullptr;
  return matrix;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static aurora_backend* const backend = [] {
    aurora_backend* made = nullptr;
    aurora_backend_create_cpu(1, &made);
    return made;
  }();
  FuzzedDataProvider input(data, size);
  constexpr std::array kVariants = {"adamw",
                                    "muon",
                                    "normuon",
                                    "u-normuon",
                                    "aurora",
                                    "riemannian-aurora",
                                    "aurora:balance=carried",
                                    "aurora:balance=optimum",
                                    "muon:polar=cans-12"};
  aurora_rule* rule = nullptr;
  const std::string variant = input.ConsumeBool() ? std::string(input.PickValueInArray(kVariants))
                                                  : input.ConsumeRandomLengthString(64);
  if (aurora_rule_create(variant.c_str(), &rule) != AURORA_OK) {
    fuzz::require(rule == nullptr && *aurora_last_error() != '\0',
                  "a refused rule is none, and there is a reason");
    return 0;
  }
  const std::string name = input.ConsumeBool() ? "lr" : input.ConsumeRandomLengthString(16);
  aurora_rule_set(rule, name.c_str(), input.ConsumeFloatingPoint<double>());
  std::minstd_rand random(input.ConsumeIntegral<std::uint16_t>());
  for (double& element : memory) element = std::uniform_real_distribution<double>(-2, 2)(random);
  if (input.ConsumeBool()) memory[100] = input.ConsumeFloatingPoint<double>();
  const auto before = memory;
  const auto count = input.ConsumeIntegralInRange<std::size_t>(0, 2);
  const auto dtype = input.ConsumeBool() ? AURORA_FLOAT64 : AURORA_FLOAT32;
  const int call = input.ConsumeIntegralInRange(0, 2);
  std::array<std::vector<aurora_matrix>, 4> lists;
  for (std::size_t i = 0; i < count; ++i) {
    const auto rows = input.ConsumeIntegralInRange<std::int64_t>(1, kMost);
    const auto cols = input.ConsumeIntegralInRange<std::int64_t>(1, kMost);
    for (std::size_t list = 0; list < 4; ++list) {
      const bool state = list == 2 && call == 0;
      const std::int64_t length =
          state ? std::max<std::int64_t>(1, aurora_rule_row_state_size(rule, rows, cols)) : rows;
      lists[list].push_back(matrix_of(input, 4 * i + list, length, state ? 1 : cols, dtype));
    }
  }
  const auto& [gradients, momenta, states, weights] = lists;
  const aurora_matrix *g = gradients.data(), *m = momenta.data(), *s = states.data(), *w = weights.data();
  const bool remembers = (aurora_rule_row_state_size(rule, 2, 2) > 0) != input.ConsumeBool();
  aurora_status status = AURORA_OK;
  switch (call) {
    case 0:
      status = aurora_step(backend, rule, count, g, m, remembers ? s : nullptr, w);
      break;
    case 1:
      status = aurora_adamw_step(backend, rule, input.ConsumeIntegralInRange<std::int64_t>(0, 9), count, g, m,
                                 s, w);
      break;
    default:
      status = aurora_direction(backend, rule, count, g, w);
  }
  fuzz::require((status == AURORA_OK) == (*aurora_last_error() == '\0'),
                "an error has a text, and a success none");
  fuzz::require(status == AURORA_OK || std::memcmp(&before, &memory, sizeof memory) == 0,
                "a refused call writes nothing");
  fuzz::require(status != AURORA_FAILED, "a call is taken or refused");
  aurora_rule_destroy(rule);
  return 0;
}
