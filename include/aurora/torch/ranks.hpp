#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aurora/ranks.hpp"
#include "aurora/torch/step.hpp"

namespace aurora::optim {

// A step whose parameters other ranks have too. Every rank looks at what it has; the ranks agree; then each
// takes its part. See docs/ranks.md for what is exchanged.

/// A piece of a parameter: where it begins and how long it is along each axis. A size of 0: nothing.
struct Box {
  std::vector<std::int64_t> offset, size;
  bool operator==(const Box&) const = default;
  bool empty() const;
  std::int64_t count() const;
};

/// How the ranks of a group share a parameter.
///   alone    each steps what it has: AdamW, and pieces that are whole matrices
///   owned    all have all of it, and the owner, which alone has its state, steps it for all
///   pieces   each has a box of it and of its momentum, and the owner computes its direction; a state of rows
///            is whole on every rank
struct Share {
  enum class Kind : std::uint8_t { alone, owned, pieces };
  Kind kind = Kind::alone;
  bool replicated = false;          // the same weights and gradients on every rank: the first step makes sure
  int owner = 0;                    // where it is not alone
  std::vector<std::int64_t> shape;  // pieces: of the whole
  std::vector<Box> boxes;           // pieces: of every rank
  std::vector<bool> sends;  // pieces: whether a rank sends its box; one of those that have the same does
};

struct RanksOptions {
  bool overlap = true;                                // exchange one chunk while the one before is computed
  std::int64_t chunk_bytes = std::int64_t{32} << 20;  // of whole matrices per rank and exchange
};

/// The ranks of one group, as a step needs them.
struct Ranks {
  std::shared_ptr<Collectives> collectives;
  c10::Device device = c10::kCPU;  // of what they exchange
  RanksOptions options = {};
  bool has_stepped = false;        // whether replicas have been compared
  std::int64_t bytes_of_step = 0;  // sent by this rank in the last step
};

/// A parameter of a step and how it is shared; `ranks` null: with nobody.
struct SharedDue {
  Due due;
  const Share* share = nullptr;
  Ranks* ranks = nullptr;
  /// Whether this rank steps it without talking.
  bool is_here() const;
};

/// Checks that the boxes make up the parameter, each element once or in equal boxes, and chooses who sends.
/// Throws std::invalid_argument where they do not, and where an update could not be applied to a box.
void choose_senders(const Place& place, Share& share);

/// What ranks must agree on before a step, and what one of them has to say.
struct Verdict {
  bool finite = true;      // every gradient here
  std::string error = {};  // what made a step impossible here
  std::int64_t step = 0;   // for messages
};

/// Returns whether every gradient of every rank is finite. Throws std::invalid_argument on every rank, with one
/// text, where one has an error, where they have gradients for other parameters, other hyperparameters, or, in
/// the first step, other values of replicated weights or gradients. All groups are gone through in order, and
/// twice where there are several, so that what one rank knows reaches all. Waits for the device.
bool agree(std::span<Ranks* const> groups, std::span<const SharedDue> due, const Verdict& verdict);

/// Steps all parameters, whose states are complete where this rank has one. Those of one group stand
/// together. All ranks call it after agree.
void step_shared(Backends& backends, std::span<Ranks* const> groups, std::span<const SharedDue> due,
                 std::int64_t step);

}  // namespace aurora::optim
