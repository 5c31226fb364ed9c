#include "aurora/optimizers.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "error.hpp"

namespace aurora {

void MuonDirection::operator()(Backend& backend, ConstMatrixView blended, std::span<const MatrixView>,
                               MatrixView direction) const {
  aurora::polar(backend, blended, polar, direction);
}

void NorMuonDirection::operator()(Backend& backend, ConstMatrixView blended,
                                  std::span<const MatrixView> row_states, MatrixView direction) const {
  if (static_cast<Index>(row_states.size()) != blended.batch) {
    fail("NorMuonDirection", "One row state per matrix is needed: ", blended.batch, " vs ",
         row_states.size());
  }
  aurora::polar(backend, blended, polar, direction);
  const ScratchFrame frame(backend);
  const Index m = blended.rows, batch = blended.batch;
  const MatrixView h = backend.scratch(m, 1, batch, DType::f64);
  const MatrixView d = backend.scratch(m, 1, batch, DType::f64);
  const MatrixView scaled_h = backend.scratch(m, 1, batch, DType::f64);
  const MatrixView ones = backend.scratch(m, 1, batch, DType::f64);
  const MatrixView before = backend.scratch(1, 1, batch, DType::f64);
  const MatrixView after = backend.scratch(1, 1, batch, DType::f64);
  backend.row_dots(direction, direction, h);
  for (Index b = 0; b < batch; ++b) {
    const MatrixView v = row_states[static_cast<std::size_t>(b)];
    backend.axpby((1.0 - beta2) / static_cast<double>(blended.cols), matrix_of(h, b), beta2, v);
    backend.power_scales(v, 1.0, 0.5, 0.0, matrix_of(d, b));  // d = v^-1/2
  }
  backend.scale_rows(d, h, scaled_h);
  backend.scale_rows(d, scaled_h, scaled_h);
  backend.fill(1.0, ones);
  backend.multiply(1.0, transposed(ones), h, 0.0, before);        // |O|^2
  backend.multiply(1.0, transposed(ones), scaled_h, 0.0, after);  // |diag(d) O|^2
  backend.power_scales(after, 1.0, 0.5, 0.0, after);
  backend.power_scales(before, 1.0, -0.5, 0.0, before);
  backend.scale_rows(before, after, after);  // |O| / |diag(d) O|
  backend.multiply(1.0, d, after, 0.0, scaled_h);
  backend.scale_rows(scaled_h, direction, direction);
}

void UNorMuonDirection::operator()(Backend& backend, ConstMatrixView blended, std::span<const MatrixView>,
                                   MatrixView direction) const {
  aurora::polar(backend, blended, polar, direction);
  if (blended.rows <= blended.cols) return;
  const ScratchFrame frame(backend);
  const MatrixView h = backend.scratch(blended.rows, 1, blended.batch, DType::f64);
  backend.row_dots(direction, direction, h);
  const double r = static_cast<double>(blended.cols) / static_cast<double>(blended.rows);
  backend.power_scales(h, r, 0.5, 0.0, h);
  backend.scale_rows(h, direction, direction);
}

void AuroraDirection::operator()(Backend& backend, ConstMatrixView blended,
                                 std::span<const MatrixView> row_states, MatrixView direction) const {
  balanced_polar(backend, blended, options, row_states, direction);
}

void RiemannianAuroraDirection::operator()(Backend& backend, ConstMatrixView blended,
                                           std::span<const MatrixView>, MatrixView direction) const {
  riemannian_polar(backend, blended, options, direction);
}

namespace {

template <MatrixOptions Options>
StepReport checked_step(Backend& backend, const Options& options, const StepTensors& tensors) {
  validate(options);
  if (!row_state_name(options).empty() && tensors.row_states.size() != tensors.gradients.size()) {
    fail("spectral_step", name(options), " needs one row state, ", row_state_name(options),
         ", per gradient: ", tensors.gradients.size(), " vs ", tensors.row_states.size());
  }
  return spectral_step(backend, step_options(options), direction_of(options), tensors);
}

/// Rows [begin, end) of a view.
template <class Data>
BasicMatrixView<Data> row_range(BasicMatrixView<Data> view, Index begin, Index end) {
  using Byte = std::conditional_t<std::is_const_v<Data>, const std::byte, std::byte>;
  view.data = static_cast<Byte*>(view.data) + begin * view.row_stride * byte_size(view.dtype);
  view.rows = end - begin;
  return view;
}

/// A parameter cut into chunks of whole lines, for the threads to share.
struct Chunks {
  bool by_rows;
  Index lines, lines_per_chunk, count;
};

Chunks chunks_of(const ConstMatrixView& weight) {
  constexpr Index kElements = Index{1} << 16;
  const bool by_rows = layout_of(weight) == Layout::row_major && weight.rows > 1;
  const Index lines = by_rows ? weight.rows : weight.cols, length = by_rows ? weight.cols : weight.rows;
  const Index per_chunk = std::max<Index>(1, kElements / std::max<Index>(1, length));
  return {by_rows, lines, per_chunk, (lines + per_chunk - 1) / per_chunk};
}

}  // namespace

StepReport muon_step(Backend& backend, const MuonOptions& options, const StepTensors& tensors) {
  return checked_step(backend, options, tensors);
}
StepReport normuon_step(Backend& backend, const NorMuonOptions& options, const StepTensors& tensors) {
  return checked_step(backend, options, tensors);
}
StepReport unormuon_step(Backend& backend, const UNorMuonOptions& options, const StepTensors& tensors) {
  return checked_step(backend, options, tensors);
}
StepReport aurora_step(Backend& backend, const AuroraOptions& options, const StepTensors& tensors) {
  return checked_step(backend, options, tensors);
}
StepReport riemannian_aurora_step(Backend& backend, const RiemannianAuroraOptions& options,
                                  const StepTensors& tensors) {
  return checked_step(backend, options, tensors);
}

StepReport adamw_step(Backend& backend, const AdamWOptions& options, std::int64_t step,
                      const AdamWTensors& tensors) {
  validate(options);
  if (!all_finite(backend, tensors.gradients)) return {.applied = false};
  adamw_update(backend, options, step, tensors);
  return {};
}

void adamw_update(Backend& backend, const AdamWOptions& options, std::int64_t step,
                  const AdamWTensors& tensors) {
  // Not structured bindings: clang 14 cannot capture them.
  const auto& gradients = tensors.gradients;
  const auto& exp_avgs = tensors.exp_avgs;
  const auto& exp_avg_sqs = tensors.exp_avg_sqs;
  const auto& weights = tensors.weights;
  if (exp_avgs.size() != gradients.size() || exp_avg_sqs.size() != gradients.size() ||
      weights.size() != gradients.size()) {
    fail("adamw_update", "One view per gradient is needed: ", gradients.size(), " gradients vs ",
         exp_avgs.size(), ", ", exp_avg_sqs.size(), ", ", weights.size());
  }
  if (step < 1) fail("adamw_update", "The first step is number 1: ", step);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    for (const ConstMatrixView& other :
         {gradients[i], ConstMatrixView(exp_avgs[i]), ConstMatrixView(exp_avg_sqs[i])}) {
      if (!same_shape(other, weights[i]) || weights[i].batch != 1) {
        fail("adamw_update", "Shapes differ: ", shape_text(other), " vs weight ", shape_text(weights[i]));
      }
    }
  }
  const auto t = static_cast<double>(step);
  const AdamScalars scalars{.lr = options.lr,
                            .beta1 = options.beta1,
                            .beta2 = options.beta2,
                            .eps = options.eps,
                            .weight_decay = options.weight_decay,
                            .bias_correction1 = 1.0 - std::pow(options.beta1, t),
                            .bias_correction2 = 1.0 - std::pow(options.beta2, t)};
  Index count = 0;
  for (const auto& weight : weights) count += chunks_of(weight).count;
  backend.for_each_part(count, [&](Backend& part, Index begin, Index end) {
    Index first = 0;
    for (std::size_t i = 0; i < weights.size() && first < end; ++i) {
      const Chunks chunks = chunks_of(weights[i]);
      for (Index c = std::max(begin, first); c < std::min(end, first + chunks.count); ++c) {
        const Index line = (c - first) * chunks.lines_per_chunk;
        const Index line_end = std::min(chunks.lines, line + chunks.lines_per_chunk);
        const auto cut = [&](auto view) {
          return row_range(chunks.by_rows ? view : transposed(view), line, line_end);
        };
        part.adam(scalars, cut(gradients[i]), cut(exp_avgs[i]), cut(exp_avg_sqs[i]), cut(weights[i]));
      }
      first += chunks.count;
    }
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// The one list of hyperparameters.

namespace {

constexpr std::array<std::pair<std::string_view, UpdateScale>, 5> kScales = {{
    {"aspect_ratio", UpdateScale::aspect_ratio},
    {"rms_to_rms", UpdateScale::rms_to_rms},
    {"match_rms_adamw", UpdateScale::match_rms_adamw},
    {"none", UpdateScale::none},
    {"published", UpdateScale::published},
}};
constexpr std::array<std::pair<std::string_view, Sides>, 2> kSides = {
    {{"rows", Sides::rows}, {"longer", Sides::longer}}};
constexpr std::array<std::pair<std::string_view, Balance>, 4> kBalances = {{{"odds", Balance::odds},
                                                                            {"release", Balance::release},
                                                                            {"carried", Balance::carried},
                                                                            {"optimum", Balance::optimum}}};
constexpr std::array<std::pair<std::string_view, bool>, 2> kBooleans = {{{"true", true}, {"false", false}}};

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// An interval of numbers; open ends are excluded.
struct Bounds {
  double low = 0, high = kInfinity;
  bool low_open = false, high_open = true;

  bool contain(double value) const {
    return (low_open ? value > low : value >= low) && (high_open ? value < high : value <= high);
  }
  std::string text(std::string_view kind) const {
    std::ostringstream out;
    out << kind << (low_open ? " > " : " >= ") << low;
    if (high < kInfinity) out << (high_open ? " and < " : " and <= ") << high;
    return out.str();
  }
};

/// Calls visit(name, field, bounds, meaning) for every hyperparameter that `options` has.
template <class Options, class Visit>
void for_each_hyperparameter(Options& o, Visit&& visit) {
  visit("lr", o.lr, Bounds{}, "learning rate, eta");
  if constexpr (requires { o.momentum; }) {
    visit("momentum", o.momentum, Bounds{.high = 1}, "mu of the momentum M <- mu M + (1 - mu) G");
    visit("nesterov", o.nesterov, kBooleans,
          "whether the blended gradient is mu M + (1 - mu) G instead of M");
  }
  if constexpr (requires { o.beta1; })
    visit("beta1", o.beta1, Bounds{.high = 1}, "decay of the first moment");
  if constexpr (requires { o.beta2; })
    visit("beta2", o.beta2, Bounds{.high = 1}, "decay of the second moment");
  if constexpr (requires { o.eps; })
    visit("eps", o.eps, Bounds{.low_open = true}, "added to the root of the second moment");
  visit("weight_decay", o.weight_decay, Bounds{}, "lambda of the decoupled decay W <- (1 - lr lambda) W");
  if constexpr (requires { o.scale; })
    visit("scale", o.scale, kScales, "factor between direction and update");
  if constexpr (requires { o.polar; })
    visit("polar", o.polar, kPolarSchedules, "how the polar factor is reached");
  if constexpr (requires { o.sides; }) visit("sides", o.sides, kSides, "which side gets equal norms");
  if constexpr (requires { o.pp_iterations; }) {
    visit("pp_iterations", o.pp_iterations, Bounds{.low = 1, .high = 1000, .high_open = false},
          "leverage evaluations per direction");
    visit("pp_beta", o.pp_beta, Bounds{.low_open = true}, "exponent of the release's row scale update");
    visit("balance", o.balance, kBalances, "how rows are evened out");
  }
}

std::string text_of(double value) {
  std::array<char, 32> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), end};
}
std::string text_of(int value) { return std::to_string(value); }

template <class Value, std::size_t N>
std::string joined(const std::array<std::pair<std::string_view, Value>, N>& names) {
  std::string text;
  for (const auto& [entry, value] : names) text += (text.empty() ? "" : ", ") + std::string(entry);
  return text;
}

/// One hyperparameter's text, rule and reader, whatever its type.
struct NumberField {
  static std::string value(double v) { return text_of(v); }
  static std::string value(int v) { return text_of(v); }
  static std::string rule(double, const Bounds& bounds) { return bounds.text("a finite number"); }
  static std::string rule(int, const Bounds& bounds) { return bounds.text("an integer"); }
  template <class Number>
  static bool read(Number& field, const Bounds& bounds, std::string_view text) {
    Number number{};
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc{} || stop != end || !bounds.contain(static_cast<double>(number))) return false;
    field = number;
    return true;
  }
};

template <class Number>
requires std::is_same_v<Number, double> || std::is_same_v<Number, int> std::string value_text(
    const Number& field, const Bounds&) {
  return NumberField::value(field);
}
template <class Number>
requires std::is_same_v<Number, double> || std::is_same_v<Number, int> std::string rule_text(
    const Number& field, const Bounds& bounds) {
  return NumberField::rule(field, bounds);
}
template <class Number>
bool read_text(Number& field, const Bounds& bounds, std::string_view text) {
  return NumberField::read(field, bounds, text);
}
template <class Number>
bool holds(const Number& field, const Bounds& bounds) {
  return bounds.contain(static_cast<double>(field));
}

template <class Value, std::size_t N>
using Names = std::array<std::pair<std::string_view, Value>, N>;

template <class Value, std::size_t N>
std::string value_text(const Value& field, const Names<Value, N>& names) {
  for (const auto& [entry, value] : names) {
    if (value == field) return std::string(entry);
  }
  return "?";
}
template <class Value, std::size_t N>
std::string rule_text(const Value&, const Names<Value, N>& names) {
  return "one of " + joined(names);
}
template <class Value, std::size_t N>
bool read_text(Value& field, const Names<Value, N>& names, std::string_view text) {
  for (const auto& [entry, value] : names) {
    if (entry == text) return field = value, true;
  }
  return false;
}
template <class Value, std::size_t N>
bool holds(const Value& field, const Names<Value, N>& names) {
  return value_text(field, names) != "?";
}

using Schedules = decltype(kPolarSchedules);
std::string value_text(const PolarSchedule& field, const Schedules&) { return std::string(field.name()); }
std::string rule_text(const PolarSchedule&, const Schedules& schedules) {
  std::string text;
  for (const auto& schedule : schedules)
    text += (text.empty() ? "one of " : ", ") + std::string(schedule.name());
  return text;
}
bool read_text(PolarSchedule& field, const Schedules& schedules, std::string_view text) {
  for (const auto& schedule : schedules) {
    if (schedule.name() == text) return field = schedule, true;
  }
  return false;
}
bool holds(const PolarSchedule&, const Schedules&) { return true; }

std::string list_with_nearest(std::string_view text, const std::vector<std::string>& candidates) {
  std::string list;
  for (const auto& candidate : candidates) list += (list.empty() ? "" : ", ") + candidate;
  return "did you mean '" + nearest(text, candidates) + "'? There are: " + list;
}

}  // namespace

std::string_view name(const OptimizerOptions& options) { return kOptimizerNames[options.index()]; }

OptimizerOptions optimizer_options(std::string_view name) {
  if (name == "adamw") return AdamWOptions{};
  if (name == "muon") return MuonOptions{};
  if (name == "normuon") return NorMuonOptions{};
  if (name == "u-normuon") return UNorMuonOptions{};
  if (name == "aurora") return AuroraOptions{};
  if (name == "riemannian-aurora") return RiemannianAuroraOptions{};
  fail("optimizer_options", "There is no optimizer '", name, "'; ",
       list_with_nearest(name, {kOptimizerNames.begin(), kOptimizerNames.end()}));
}

std::vector<Hyperparameter> hyperparameters(const OptimizerOptions& options) {
  std::vector<Hyperparameter> list;
  std::visit(
      [&](const auto& alternative) {
        for_each_hyperparameter(alternative, [&](std::string_view key, const auto& field, const auto& domain,
                                                 std::string_view meaning) {
          list.push_back(
              {std::string(key), value_text(field, domain), rule_text(field, domain), std::string(meaning)});
        });
      },
      options);
  return list;
}

void set_hyperparameter(OptimizerOptions& options, std::string_view key, std::string_view value) {
  bool found = false;
  std::visit(
      [&](auto& alternative) {
        for_each_hyperparameter(
            alternative, [&](std::string_view entry, auto& field, const auto& domain, std::string_view) {
              if (entry != key) return;
              found = true;
              if (!read_text(field, domain, value)) {
                fail("set_hyperparameter", name(options), ": ", key, " must be ", rule_text(field, domain),
                     ", not '", value, "'");
              }
            });
      },
      options);
  if (found) return;
  std::vector<std::string> keys;
  for (const auto& entry : hyperparameters(options)) keys.push_back(entry.name);
  fail("set_hyperparameter", name(options), " has no hyperparameter '", key, "'; ",
       list_with_nearest(key, keys));
}

namespace {
/// An option that the others switch off is a mistake, not a wish to be ignored.
void require_used(const AuroraOptions& options) {
  if (options.balance != Balance::release && options.pp_beta != AuroraOptions{}.pp_beta) {
    fail("validate", "aurora: pp_beta belongs to balance=release, not to balance=",
         value_text(options.balance, kBalances));
  }
}
}  // namespace

void validate(const OptimizerOptions& options) {
  std::visit(
      [&](const auto& alternative) {
        for_each_hyperparameter(
            alternative, [&](std::string_view key, const auto& field, const auto& domain, std::string_view) {
              if (holds(field, domain)) return;
              fail("validate", name(options), ": ", key, " must be ", rule_text(field, domain), ", not ",
                   value_text(field, domain));
            });
      },
      options);
  if (const auto* aurora = std::get_if<AuroraOptions>(&options)) require_used(*aurora);
}

OptimizerOptions parse_variant(std::string_view text) {
  const auto colon = text.find(':');
  OptimizerOptions options = optimizer_options(text.substr(0, colon));
  if (colon == std::string_view::npos) return options;
  std::string_view rest = text.substr(colon + 1);
  while (true) {
    const auto plus = rest.find('+');
    const std::string_view piece = rest.substr(0, plus);
    const auto equals = piece.find('=');
    if (equals == std::string_view::npos) {
      fail("parse_variant", "A variant is NAME or NAME:KEY=VALUE+KEY=VALUE: '", piece, "' in '", text, "'");
    }
    set_hyperparameter(options, piece.substr(0, equals), piece.substr(equals + 1));
    if (plus == std::string_view::npos) break;
    rest = rest.substr(plus + 1);
  }
  validate(options);
  return options;
}

std::string_view row_state_name(const OptimizerOptions& options) {
  if (std::holds_alternative<NorMuonOptions>(options)) return "second_momentum_buffer";
  const auto* aurora = std::get_if<AuroraOptions>(&options);
  return aurora && aurora->balance == Balance::carried ? "row_scales" : "";
}

Index row_state_size(const OptimizerOptions& options, Index rows, Index cols) {
  if (row_state_name(options).empty()) return 0;
  return std::holds_alternative<NorMuonOptions>(options) ? rows : std::max(rows, cols);
}

std::string nearest(std::string_view text, std::span<const std::string> candidates) {
  const auto distance = [&](const std::string& candidate) {
    std::vector<std::size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= text.size(); ++i) {
      std::size_t diagonal = std::exchange(row[0], i);
      for (std::size_t j = 1; j <= candidate.size(); ++j) {
        const std::size_t substituted = diagonal + (text[i - 1] == candidate[j - 1] ? 0 : 1);
        diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, substituted}));
      }
    }
    return row.back();
  };
  const auto best = std::min_element(candidates.begin(), candidates.end(),
                                     [&](const auto& a, const auto& b) { return distance(a) < distance(b); });
  return best == candidates.end() ? std::string{} : *best;
}

}  // namespace aurora
