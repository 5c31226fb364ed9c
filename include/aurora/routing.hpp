#pragma once

#include <span>
#include <string>
#include <vector>

#include "aurora/dimensions.hpp"

namespace aurora {

/// What is known of a trainable parameter before it is given to an optimizer.
struct ParameterInfo {
  std::string name;  // dotted, as in named_parameters: "layers.0.mlp.up_proj.weight"
  std::vector<Index> shape;
  bool embedding = false;    // owned by an embedding module
  bool linear = false;       // the weight of a linear layer
  std::string tied_to = {};  // name of another parameter with the same storage; empty: none
};

/// Which optimizer steps a parameter.
enum class Route : std::uint8_t { matrix, adamw };

struct RoutedParameter {
  std::string name;
  std::vector<Index> shape;
  Route route;
  std::string reason;  // "hidden matrix", "output head by name", "pattern '*.bias'", ...
};

/// Sends every parameter whose name matches `pattern` (shell wildcards * and ?) to `route`.
struct RoutePattern {
  std::string pattern;
  Route route;
};

/// Routing by role. To AdamW: fewer than two dimensions or a side of length 1 (norms, biases), embeddings
/// (module type or name), tied weights, routers, and the output head: known by name (lm_head, head,
/// classifier, ...), else the last linear weight in module order. Everything else with two or more dimensions
/// is a hidden matrix. Patterns override; two patterns that contradict each other on a parameter, a pattern
/// that matches nothing, and a pattern that sends a vector to the matrix optimizer throw
/// std::invalid_argument.
std::vector<RoutedParameter> route(std::span<const ParameterInfo> parameters,
                                   std::span<const RoutePattern> patterns = {});

/// One line per parameter: name, shape, optimizer ("adamw" or `matrix_name`), reason.
std::string routing_table(std::span<const RoutedParameter> parameters, std::string_view matrix_name);

}  // namespace aurora
