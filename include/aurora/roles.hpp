#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "aurora/dimensions.hpp"

namespace aurora {

/// What is known of a parameter before it is given to an optimizer.
struct ParameterInfo {
  std::string name;  // dotted, as in named_parameters: "layers.0.mlp.up_proj.weight"
  std::vector<Index> shape;
  /// Class of the module that owns it, then the classes it derives from: "FalconLinear", "Linear"; of a matrix
  /// in a file "StoredWeight". Empty: only the name is known, and every decision that stands on it is marked
  /// as a guess.
  std::vector<std::string> owner = {};
  /// Classes of the modules around the owner, outermost first: "GPT2LMHeadModel", ..., "GPT2Attention"; or a
  /// model type: "gpt_neox".
  std::vector<std::string> around = {};
  std::vector<std::string> other_names = {};  // under which the model has it too, or its memory: ties
  bool embedding = false;                     // an embedding module owns it under one of its names
  bool output = false;                        // the model itself calls it the output head
  bool trainable = true;                      // false: what is not known of it is no error, only marked
  bool described = false;                     // the caller says how it is cut
  /// A number of the modules around or of the model's configuration: "num_attention_heads", "groups".
  std::function<std::optional<Index>(const std::string&)> number = {};
};

/// Which optimizer steps a parameter.
enum class Route : std::uint8_t { matrix, adamw };

/// Which side of a weight's matrices has one entry for each of its neurons: what makes hidden units (gate,
/// up, query, key, value) the output side, rows; what reads them (down, attention output) the input side,
/// columns.
enum class NeuronSide : std::uint8_t { output, input };

struct RoutedParameter {
  std::string name;
  std::vector<Index> shape;
  Route route;
  std::string reason;  // "hidden matrix", "output head by name", "pattern '*.bias'", ...
  std::string role =
      {};                // "gate", "query", "embedding", "router", ...; empty: a hidden matrix without a name
  bool guessed = false;  // neither the module nor a row of the table says so
  /// How it is cut into matrices; for Route::adamw nothing, or how it would be.
  std::optional<Dimensions> dimensions = {};
  NeuronSide neurons = NeuronSide::output;
  /// How the matrix rule computes it, what `auto` stands for resolved: method_text of rules.hpp. Empty until an
  /// optimizer has the parameter.
  std::string method = {};
};

/// Sends every parameter whose name matches `pattern` (shell wildcards *, ? and [a-z]) to `route`.
struct RoutePattern {
  std::string pattern;
  Route route;
};

/// Where neither the model, a name nor a tie tells the output head: it is the last linear layer that is in no
/// block, or the model is known to have none.
enum class UnnamedHead : std::uint8_t { last_linear, none };

/// Whether a name matches a pattern, as a whole: POSIX fnmatch, in which * and ? also stand for dots and slashes
/// and a backslash is a character like others.
bool matches(const std::string& pattern, const std::string& name);

/// Routing by role, from one table (src/role_table.cpp) of what parameters of known classes and names are,
/// and how they are cut; the class of the owner counts more than the name. To AdamW: fewer than two
/// dimensions or a matrix with a side of length 1 (norms, biases, depthwise filters), embeddings, tables of
/// positions and biases of any shape, routers, and the output head: what the model says, a tie with an
/// embedding or a name tells, else the last linear layer that is in no block. Everything else is hidden
/// matrices: blocks of a fused weight, groups of a convolution and experts of a stack one by one.
///
/// Patterns override. Throws std::invalid_argument for two patterns that contradict each other on a
/// parameter, for a pattern that matches nothing or sends a vector to the matrix optimizer, and for a
/// trainable parameter of three or more axes, or a fused one, of which it is not known how it is cut: the
/// message says what to write.
std::vector<RoutedParameter> route(std::span<const ParameterInfo> parameters,
                                   std::span<const RoutePattern> patterns = {},
                                   UnnamedHead unnamed_head = UnnamedHead::last_linear);

/// The matrices of a parameter, rows x columns each: "32x8", "2 of 32x8", "4 of 32x8, 2 of 8x8".
std::string matrices_text(std::span<const Index> shape, const Dimensions& dimensions);

/// One line per parameter: name, shape, optimizer ("adamw" or `matrix_name`), matrices, reason; guesses are
/// marked "guess:".
std::string routing_table(std::span<const RoutedParameter> parameters, std::string_view matrix_name);

}  // namespace aurora
