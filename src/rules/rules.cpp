#include "aurora/rules.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <utility>

#include "kind.hpp"

namespace aurora {
namespace {

template <class Value>
using Names = std::span<const std::pair<std::string_view, Value>>;

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
constexpr std::array<std::pair<std::string_view, Precision>, 4> kPrecisions = {
    {{"auto", Precision::automatic},
     {"float32", Precision::float32},
     {"float16", Precision::float16},
     {"bfloat16", Precision::bfloat16}}};
constexpr std::array<std::pair<std::string_view, bool>, 2> kBooleans = {{{"true", true}, {"false", false}}};
constexpr auto kPolars = [] {
  std::array<std::pair<std::string_view, Polar>, kPolarSchedules.size()> names;
  for (std::size_t i = 0; i < names.size(); ++i)
    names[i] = {kPolarSchedules[i].name, kPolarSchedules[i].polar};
  return names;
}();

Names<bool> names_of(const bool*) { return kBooleans; }
Names<UpdateScale> names_of(const UpdateScale*) { return kScales; }
Names<Polar> names_of(const Polar*) { return kPolars; }
Names<Precision> names_of(const Precision*) { return kPrecisions; }
Names<Sides> names_of(const Sides*) { return kSides; }
Names<Balance> names_of(const Balance*) { return kBalances; }

template <class Value>
constexpr bool kIsNumber = std::is_same_v<Value, double> || std::is_same_v<Value, int>;

template <class Value>
bool holds(Value value, const Numbers& bounds) {
  if constexpr (kIsNumber<Value>) {
    return bounds.contains(value);
  } else {
    return std::ranges::any_of(names_of(&value), [&](const auto& entry) { return entry.second == value; });
  }
}

template <class Value>
std::string value_text(Value value) {
  if constexpr (kIsNumber<Value>) {
    return number_text(value);
  } else {
    for (const auto& [entry, named] : names_of(&value)) {
      if (named == value) return std::string(entry);
    }
    return "?";
  }
}

template <class Value>
HyperparameterValue typed(Value value) {
  if constexpr (std::is_same_v<Value, double> || std::is_same_v<Value, bool>) {
    return value;
  } else if constexpr (std::is_same_v<Value, int>) {
    return std::int64_t{value};
  } else {
    return value_text(value);
  }
}

template <class Value>
std::string bounds_text(const Value* value, const Numbers& bounds) {
  if constexpr (std::is_same_v<Value, double>) {
    return bounds.text();
  } else if constexpr (std::is_same_v<Value, int>) {
    return Integers{static_cast<int>(bounds.low), static_cast<int>(bounds.high)}.text();
  } else {
    return "one of " + listed(names_of(value), &std::pair<std::string_view, Value>::first);
  }
}

template <class Value>
bool read_text(Value& field, const Numbers& bounds, std::string_view text) {
  if constexpr (kIsNumber<Value>) {
    return read_number(field, text, bounds);
  } else {
    for (const auto& [entry, named] : names_of(&field)) {
      if (entry == text) return field = named, true;
    }
    return false;
  }
}

template <class Value>
bool read_typed(Value& field, const Numbers& bounds, const HyperparameterValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    return !kIsNumber<Value> && read_text(field, bounds, *text);
  }
  if constexpr (std::is_same_v<Value, bool>) {
    const bool* truth = std::get_if<bool>(&value);
    if (truth != nullptr) field = *truth;
    return truth != nullptr;
  } else if constexpr (kIsNumber<Value>) {
    double number = std::numeric_limits<double>::quiet_NaN();
    if (const auto* integer = std::get_if<std::int64_t>(&value)) number = static_cast<double>(*integer);
    if (const auto* real = std::get_if<double>(&value)) number = *real;
    if (!holds(number, bounds) || number != static_cast<double>(static_cast<Value>(number))) return false;
    field = static_cast<Value>(number);
    return true;
  }
  return false;
}

std::string text_of(const HyperparameterValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return "'" + *text + "'";
  if (const bool* truth = std::get_if<bool>(&value)) return value_text(*truth);
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return std::to_string(*integer);
  return value_text(std::get<double>(value));
}

/// Options are only read through it.
Rule& mutable_rule(const Rule& rule) { return const_cast<Rule&>(rule); }

const Field& field_named(const Rule& rule, std::string_view key) {
  const auto& fields = kind_of(rule).fields;
  const auto found = std::ranges::find(fields, key, &Field::name);
  if (found != fields.end()) return *found;
  std::vector<std::string> keys;
  for (const Field& field : fields) keys.emplace_back(field.name);
  fail("set_hyperparameter", name(rule), " has no hyperparameter '", key, "'; did you mean '",
       nearest(key, keys), "'? There are: ", listed(keys));
}

template <std::size_t... I>
std::vector<Rule> defaults(std::index_sequence<I...>) {
  return {Rule(std::in_place_index<I>)...};
}

double number_field(const Rule& rule, std::string_view key) {
  return *std::get<double*>(field_named(rule, key).in(mutable_rule(rule)));
}

}  // namespace

const RuleKind& kind_of(const Rule& rule) {
  return std::visit([](const auto& options) -> const RuleKind& { return options.kind(); }, rule);
}

std::string_view name(const Rule& rule) { return kind_of(rule).name; }
std::string_view class_name(const Rule& rule) { return kind_of(rule).class_name; }
std::string_view meaning(const Rule& rule) { return kind_of(rule).meaning; }
std::string_view formula(const Rule& rule) { return kind_of(rule).formula; }
bool takes_matrices(const Rule& rule) { return kind_of(rule).direction != nullptr; }
double lr_of(const Rule& rule) { return number_field(rule, "lr"); }
double weight_decay_of(const Rule& rule) { return number_field(rule, "weight_decay"); }

UpdateScale applied_scale(const Rule& rule) {
  const UpdateScale scale = *std::get<UpdateScale*>(field_named(rule, "scale").in(mutable_rule(rule)));
  return scale == UpdateScale::published ? kind_of(rule).published_scale : scale;
}
std::string applied_scale_name(const Rule& rule) { return value_text(applied_scale(rule)); }

std::vector<Rule> all_rules() { return defaults(std::make_index_sequence<std::variant_size_v<Rule>>{}); }

std::vector<std::string> rule_names() {
  std::vector<std::string> names;
  for (const Rule& rule : all_rules()) names.emplace_back(name(rule));
  return names;
}

Rule rule_of(std::string_view wanted) {
  for (const Rule& rule : all_rules()) {
    if (name(rule) == wanted) return rule;
  }
  const std::vector<std::string> names = rule_names();
  fail("rule_of", "There is no optimizer '", wanted, "'; did you mean '", nearest(wanted, names),
       "'? There are: ", listed(names));
}

std::vector<Hyperparameter> hyperparameters(const Rule& rule) {
  std::vector<Hyperparameter> list;
  for (const Field& field : kind_of(rule).fields) {
    std::visit(
        [&](auto* value) {
          list.push_back({std::string(field.name), value_text(*value), bounds_text(value, field.bounds),
                          std::string(field.meaning), typed(*value)});
        },
        field.in(mutable_rule(rule)));
  }
  return list;
}

void set_hyperparameter(Rule& rule, std::string_view key, std::string_view text) {
  const Field& field = field_named(rule, key);
  std::visit(
      [&](auto* value) {
        if (read_text(*value, field.bounds, text)) return;
        fail("set_hyperparameter", name(rule), ": ", key, " must be ", bounds_text(value, field.bounds),
             ", not '", text, "'");
      },
      field.in(rule));
}

void set_hyperparameter_value(Rule& rule, std::string_view key, const HyperparameterValue& wanted) {
  const Field& field = field_named(rule, key);
  std::visit(
      [&](auto* value) {
        if (read_typed(*value, field.bounds, wanted)) return;
        fail("set_hyperparameter", name(rule), ": ", key, " must be ", bounds_text(value, field.bounds),
             ", not ", text_of(wanted));
      },
      field.in(rule));
}

void validate(const Rule& rule) {
  for (const Field& field : kind_of(rule).fields) {
    std::visit(
        [&](auto* value) {
          if (holds(*value, field.bounds)) return;
          fail("validate", name(rule), ": ", field.name, " must be ", bounds_text(value, field.bounds),
               ", not ", value_text(*value));
        },
        field.in(mutable_rule(rule)));
  }
  if (const auto require_used = kind_of(rule).require_used) require_used(rule);
}

Variant split_variant(std::string_view text) {
  const auto colon = text.find(':');
  Variant variant{.name = std::string(text.substr(0, colon)), .options = {}};
  std::string_view rest = colon == text.npos ? std::string_view() : text.substr(colon + 1);
  for (bool more = colon != text.npos; more;) {
    const auto plus = rest.find('+');
    const std::string_view piece = rest.substr(0, plus);
    const auto equals = piece.find('=');
    if (equals == piece.npos) {
      fail("parse_variant", "A variant is NAME or NAME:KEY=VALUE+KEY=VALUE: '", piece, "' in '", text, "'");
    }
    variant.options.emplace_back(piece.substr(0, equals), piece.substr(equals + 1));
    more = plus != rest.npos;
    if (more) rest = rest.substr(plus + 1);
  }
  return variant;
}

Rule parse_variant(std::string_view text) {
  const Variant variant = split_variant(text);
  Rule rule = rule_of(variant.name);
  for (const auto& [key, value] : variant.options) {
    const auto comma = value.find(',');
    if (key == "betas" && comma != value.npos) {  // torch's pair
      set_hyperparameter(rule, "beta1", std::string_view(value).substr(0, comma));
      set_hyperparameter(rule, "beta2", std::string_view(value).substr(comma + 1));
    } else {
      set_hyperparameter(rule, key, value);
    }
  }
  validate(rule);
  return rule;
}

std::string_view row_state_name(const Rule& rule) {
  const auto name_of = kind_of(rule).row_state_name;
  return name_of == nullptr ? std::string_view() : name_of(rule);
}

Index row_state_size(const Rule& rule, Index rows, Index cols) {
  const auto size_of = kind_of(rule).row_state_size;
  return size_of == nullptr ? 0 : size_of(rule, rows, cols);
}

double step_cost(const Rule& rule, Index rows, Index cols, Device device) {
  constexpr double kPasses = 32;  // operations of blending and applying, as long as an element takes
  const auto cost_of = kind_of(rule).direction_cost;
  const double direction = cost_of == nullptr ? 0.0 : cost_of(rule, rows, cols, device);
  return direction + kPasses * static_cast<double>(rows) * static_cast<double>(cols);
}

std::string method_text(const Rule& rule, Device device, DType dtype) {
  for (const Field& field : kind_of(rule).fields) {
    if (field.name != "polar") continue;
    const Polar method = resolved(*std::get<Polar*>(field.in(mutable_rule(rule))), device, dtype);
    if (method == Polar::exact) return "exact polar factors";
    const Precision precision =
        resolved(*std::get<Precision*>(field_named(rule, "precision").in(mutable_rule(rule))), device);
    return std::string(schedule(method).name) + " in " + value_text(precision);
  }
  return takes_matrices(rule) ? "row norms" : "element by element";
}

void direction(Backend& backend, const Rule& rule, ConstMatrixView blended, MatrixView direction,
               MatrixView row_state) {
  const RuleKind& kind = kind_of(rule);
  blended = checked("direction", "The blended gradient", blended);
  direction = checked("direction", "The direction", direction);
  if (kind.direction == nullptr) fail("direction", "This rule has no directions: ", kind.name);
  if (!same_shape(blended, direction) || blended.dtype != direction.dtype || !is_wide(blended.dtype)) {
    fail("direction", "Shapes and types must be equal, float32 or float64: ", shape_text(blended), " ",
         name(blended.dtype), " vs ", shape_text(direction), " ", name(direction.dtype));
  }
  if (may_overlap(blended, direction)) {
    fail("direction", "Blended gradient and direction share memory: ", shape_text(blended));
  }
  if (const Index size = row_state_size(rule, blended.rows, blended.cols); size > 0) {
    row_state = checked("direction", row_state_name(rule), row_state);
    if (row_state.rows != size || row_state.cols != 1 || row_state.batch != blended.batch ||
        !is_wide(row_state.dtype)) {
      fail("direction", row_state_name(rule), " must be float32 or float64 of ", size, "x1 for each of ",
           shape_text(blended), ", not ", shape_text(row_state), " ", name(row_state.dtype));
    }
  }
  kind.direction(backend, rule, blended, row_state, direction);
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
