#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "aurora/diagnostics.hpp"
#include "aurora/roles.hpp"

namespace aurora::trainer {

/// A stored weight of two or more axes, by name and shape.
struct NamedShape {
  std::string_view name;
  std::vector<Index> shape;
};

/// What is known of the model beside its weights: `model_type` and the numbers of a config.json. Empty: no
/// more than names and shapes.
struct ModelConfiguration {
  std::string model_type;
  std::function<std::optional<Index>(const std::string&)> number;
};

/// What a stored weight is for, from the table of roles that routing has (aurora/roles.hpp).
///
/// The neuron axis is the output side ([out, in]: rows) of what makes hidden units: gate, up, query, key,
/// value; the input side of what reads them: down, attention output; the side of tokens, positions or experts
/// of embeddings, the output head and routers.
struct WeightRole {
  std::string name;  // "gate", "up", "down", "query", ...; "tall", "wide" or "square" where guessed
  NeuronAxis axis;   // of the matrix as stored, of a weight cut in several: of each as [out, in]
  bool hidden;       // hidden matrices: not an embedding, output head or router
  bool guessed;      // the name says nothing: by shape, the longer axis is that of neurons (square: rows);
                     // or it is a fused weight, of which it is not known how it is cut
  Dimensions dimensions = {};  // how it is cut; empty: one matrix, as stored
  bool cut() const { return !dimensions.rows.empty(); }
};

/// Of each weight; nothing for one of three or more axes of which it is not known how it is cut.
std::vector<std::optional<WeightRole>> weight_roles(std::span<const NamedShape> weights,
                                                    const ModelConfiguration& model = {});

}  // namespace aurora::trainer
