#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aurora/roles.hpp"

namespace aurora {

// What the name of a parameter and the classes around it say.

std::vector<std::string_view> split(std::string_view text, char at);

/// The name without ".weight", and without what adapters put between: "q_proj.base_layer.weight".
std::string_view stem_of(std::string_view name);

/// Whether the last parts of a stem are those of `end`.
bool ends_with_parts(std::string_view stem, std::string_view end);

/// Whether it stands in one of several layers: a number and then the name of a module, "layers.3.fc1.weight".
bool in_block(std::string_view name);

/// Whether a class around it, or its owner's, begins with `family`, in small letters without "_".
bool is_of_family(const ParameterInfo& parameter, std::string_view family);

/// Whether its owner is of this class, or derives from it.
bool owner_is(const ParameterInfo& parameter, std::string_view kind);

/// Whether the name of its owner's class, or of one from which that derives, contains `part`.
bool owner_contains(const ParameterInfo& parameter, std::string_view part);

/// Whether its owner is a convolution of torch, transposed or not.
bool is_convolution(const ParameterInfo& parameter);

/// A number of the modules around, under whatever name these keep it.
std::optional<Index> number_of(const ParameterInfo& parameter, std::string_view name);

}  // namespace aurora
