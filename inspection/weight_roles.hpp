#pragma once

#include <span>
#include <string>
#include <string_view>

#include "aurora/diagnostics.hpp"

namespace aurora::trainer {

/// A weight matrix by name and shape, as stored.
struct NamedShape {
  std::string_view name;
  Index rows, cols;
};

/// What a weight matrix is for.
///
/// The neuron axis is the output side ([out, in]: rows) of what makes hidden units: gate, up, query, key,
/// value; the input side of what reads them: down, attention output; the side of tokens, positions or experts
/// of embeddings, the output head and routers.
struct WeightRole {
  std::string_view name;  // "gate", "up", "down", "query", ...; "tall", "wide" or "square" where guessed
  NeuronAxis axis;        // of the matrix as stored
  bool hidden;            // a hidden matrix: not an embedding, output head or router
  bool guessed;  // the name says nothing: by shape, the longer axis is that of neurons (square: rows)
};

/// Whether the MLP and attention weights with GPT-2's names (c_attn, c_fc, c_proj) are stored [in, out], as
/// by the Conv1D of transformers, or [out, in]: an MLP and a fused attention have more hidden units than
/// inputs. True where the names are there and no shape tells.
bool stores_in_out(std::span<const NamedShape> matrices);

/// By one table of patterns for the ends of dotted names (".weight" left out), Llama-like, GPT-2 and others.
/// `in_out`: what stores_in_out said of the model.
WeightRole weight_role(const NamedShape& matrix, bool in_out);

}  // namespace aurora::trainer
