#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "aurora/backend.hpp"

namespace aurora::cli {

/// Kinds of gradients, from flat to what training shows:
///   gauss      equal rows, flat spectrum
///   pow1+logn  spectrum j^-1, rows of lengths exp(normal)
///   pow.5+t2   spectrum j^-1/2, row lengths |Student t of 2 degrees|
///   clustered  rows near 48 directions, the k-th as popular as 1/k
///   sparse     sums over 4096 tokens of which some rows see only a few
inline constexpr std::array<std::string_view, 5> kFamilies = {"gauss", "pow1+logn", "pow.5+t2", "clustered",
                                                              "sparse"};

/// A rows x cols matrix of a family, packed by rows, of Frobenius norm 1. Throws std::invalid_argument that
/// lists the families for an unknown one.
std::vector<float> family_matrix(Backend& backend, std::string_view family, Index rows, Index cols,
                                 std::uint64_t seed);

}  // namespace aurora::cli
