#pragma once

#include <type_traits>

#include "../error.hpp"
#include "aurora/rules.hpp"
#include "aurora/value_text.hpp"

// What a rule is made of; each rule fills one RuleKind in its own file.
namespace aurora {

/// A hyperparameter: where it stands in the options, one phrase, and its bounds if it is a number; those of an
/// integer are integers.
struct Field {
  using Pointer = std::variant<double*, int*, bool*, UpdateScale*, Polar*, Precision*, Sides*, Balance*>;
  std::string_view name;
  Pointer (*in)(Rule&);
  std::string_view meaning;
  Numbers bounds = {};
};

template <class Options, class Value>
Options options_type(Value Options::*);

/// The member of the rule's options as a field: at<&MuonOptions::lr>.
template <auto Member>
Field::Pointer at(Rule& rule) {
  return &(std::get<decltype(options_type(Member))>(rule).*Member);
}

struct RuleKind {
  std::string_view name;        // "muon", in files, flags and checkpoints
  std::string_view class_name;  // "Muon", of the class in C++ and Python
  std::string_view meaning;     // one line for people, with its source
  std::string_view formula;     // B is the blended gradient, U the direction
  std::vector<Field> fields;
  UpdateScale published_scale = UpdateScale::aspect_ratio;
  /// Turns blended gradients (a batch) into directions; null for AdamW. Operands are checked before.
  void (*direction)(Backend&, const Rule&, ConstMatrixView blended, MatrixView row_state,
                    MatrixView direction) = nullptr;
  std::string_view (*row_state_name)(const Rule&) = nullptr;  // null: none
  Index (*row_state_size)(const Rule&, Index rows, Index cols) = nullptr;
  /// Operations of a direction; null: few beside those of a pass over the elements.
  double (*direction_cost)(const Rule&, Index rows, Index cols, Device) = nullptr;
  void (*require_used)(const Rule&) = nullptr;  // throws for an option that others switch off
};

const RuleKind& kind_of(const Rule& rule);

/// The fields that every matrix rule has, and those of the polar factor where it takes one.
template <class Options>
std::vector<Field> matrix_fields(std::initializer_list<Field> own = {}) {
  std::vector<Field> fields = {
      {"lr", at<&Options::lr>, "learning rate, eta"},
      {"momentum",
       at<&Options::momentum>,
       "mu of the momentum M <- mu M + (1 - mu) G",
       {.high = 1, .high_open = true}},
      {"nesterov", at<&Options::nesterov>, "whether the blended gradient is mu M + (1 - mu) G instead of M"},
      {"weight_decay", at<&Options::weight_decay>, "lambda of the decoupled decay W <- (1 - lr lambda) W"},
      {"scale", at<&Options::scale>, "factor between direction and update"},
  };
  if constexpr (requires(Options o) { o.polar; }) {
    fields.push_back({"polar", at<&Options::polar>, "how the polar factor is reached"});
    fields.push_back({"precision", at<&Options::precision>, "type of a schedule's products"});
  }
  fields.insert(fields.end(), own);
  return fields;
}

/// The direction_cost of a rule whose direction is one polar factor.
template <class Options>
double one_polar_cost(const Rule& rule, Index rows, Index cols, Device device) {
  return polar_cost(std::get<Options>(rule).polar, rows, cols, device);
}

}  // namespace aurora
