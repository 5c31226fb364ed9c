#pragma once

#include "aurora/torch/ranks.hpp"

namespace aurora::optim {

/// Steps the parameters of these ranks that lie in pieces: blends on the pieces, sends the blended gradient to
/// the owners, which compute directions of whole matrices, and applies what comes back.
void step_pieces(Backends& backends, Ranks& ranks, std::span<const SharedDue> due);

}  // namespace aurora::optim
