#include "pieces.hpp"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "../formulas.hpp"
#include "aurora/torch/gather.hpp"
#include "place_error.hpp"
#include "views.hpp"

namespace aurora::optim {
namespace {

using at::Tensor;

/// The part of a whole parameter that a box is.
Tensor part_of(Tensor whole, const Box& box) {
  for (std::size_t axis = 0; axis < box.size.size(); ++axis) {
    whole = whole.narrow(static_cast<std::int64_t>(axis), box.offset[axis], box.size[axis]);
  }
  return whole;
}

/// The tensor, or a copy, with elements in a row of a type that the core knows.
Tensor in_a_row(const Tensor& tensor) {
  return (tensor.scalar_type() == at::kHalf ? tensor.to(at::kFloat) : tensor).contiguous();
}

void give_back_row(const Tensor& row, const Tensor& tensor) {
  if (!row.is_same(tensor) && row.const_data_ptr() != tensor.const_data_ptr()) tensor.copy_(row);
}

/// Elements of a box that are of matrices of one shape: `length` lines of the box along `axis`.
struct Run {
  MatrixShape matrix;
  std::int64_t axis, begin, length;
};

/// A box cut where matrices of another shape begin; one run where all have the same.
std::vector<Run> runs_of(const Place& place, const Box& box) {
  const std::vector<MatrixShape> matrices = matrices_at(place);
  if (std::ranges::all_of(matrices, [&](const MatrixShape& shape) { return shape == matrices.front(); })) {
    return {{matrices.front(), 0, 0, box.size[0]}};
  }
  const Dimensions dimensions = dimensions_at(place);
  if (dimensions.rows.size() != 1) {
    fail_at(place, "Fused blocks of several sizes on more than one axis of rows cannot lie in pieces");
  }
  const auto axis = static_cast<std::size_t>(dimensions.rows.front());
  std::int64_t period = 0;
  for (const Index block : dimensions.row_blocks) period += block;
  std::vector<Run> runs;
  const std::int64_t begin = box.offset[axis], end = begin + box.size[axis];
  for (std::int64_t row = begin; row < end;) {
    std::int64_t left = row % period;
    std::size_t block = 0;
    while (left >= dimensions.row_blocks[block]) left -= dimensions.row_blocks[block++];
    const std::int64_t length = std::min(end - row, dimensions.row_blocks[block] - left);
    runs.push_back({matrices[block], static_cast<std::int64_t>(axis), row - begin, length});
    row += length;
  }
  return runs;
}

/// The elements of a run in a packed tensor of the box's size, as one strided view.
MatrixView view_of(const Tensor& box, const Run& run) {
  std::int64_t outer = 1, inner = 1;
  for (std::int64_t axis = 0; axis < run.axis; ++axis) outer *= box.size(axis);
  for (std::int64_t axis = run.axis + 1; axis < box.dim(); ++axis) inner *= box.size(axis);
  const DType type = dtype_of(box);
  auto* data = static_cast<std::byte*>(const_cast<void*>(box.const_data_ptr()));
  return {.data = data + run.begin * inner * byte_size(type),
          .rows = outer,
          .cols = run.length * inner,
          .row_stride = box.size(run.axis) * inner,
          .dtype = type};
}

/// A parameter of which this rank has a piece, in a form that the core takes.
struct Piece {
  const SharedDue* shared;
  Tensor weight, gradient, momentum;  // in a row
  const Share& share() const { return *shared->share; }
  const Rule& rule() const { return shared->due.place.options.rule; }
  const Box& box(int rank) const { return share().boxes[static_cast<std::size_t>(rank)]; }
  bool sends(int rank) const { return share().sends[static_cast<std::size_t>(rank)]; }
  const Tensor& row_state() const { return shared->due.state->row_state; }
  std::int64_t row_count() const { return row_state().defined() ? row_state().numel() : 0; }
};

/// What goes to, or comes from, each rank: parts of one buffer.
class Buffer {
 public:
  Buffer(int ranks, at::TensorOptions options)
      : lengths_(static_cast<std::size_t>(ranks)), options_(options) {}
  /// Every slice is announced first, rank by rank.
  void announce(int rank, std::int64_t count) { lengths_[static_cast<std::size_t>(rank)] += count; }
  void allocate() {
    std::int64_t sum = 0;
    for (const auto length : lengths_) sum += length;
    memory_ = at::empty({sum}, options_);
  }
  /// The next slice in the order in which they were announced.
  Tensor next(std::int64_t count) {
    used_ += count;
    return memory_.narrow(0, used_ - count, count);
  }
  template <class View>
  std::vector<View> parts() const {
    std::vector<View> views;
    std::int64_t at = 0;
    for (const auto length : lengths_) {
      MatrixView view = flat(memory_.narrow(0, at, length));
      if (length == 0) view.data = nullptr;
      views.push_back(view);
      at += length;
    }
    return views;
  }

 private:
  std::vector<std::int64_t> lengths_;
  at::TensorOptions options_;
  Tensor memory_;
  std::int64_t used_ = 0;
};

/// Parameters whose pieces are exchanged together.
class Chunk {
 public:
  Chunk(Backends& backends, Ranks& ranks, std::vector<Piece> pieces)
      : backends_(&backends),
        ranks_(&ranks),
        pieces_(std::move(pieces)),
        own_(ranks.collectives->rank()),
        size_(ranks.collectives->size()) {}

  /// Blends, and sends what the owners lack.
  void start_gather() {
    for (Piece& piece : pieces_) {
      const Due& due = piece.shared->due;
      piece.weight = in_a_row(due.place.parameter.detach());
      piece.gradient = in_a_row(due.gradient);
      piece.momentum = in_a_row(due.state->momentum_buffer);
    }
    Buffer sent = buffer();
    received_ = buffer();
    for (int rank = 0; rank < size_; ++rank) {
      for (const Piece& piece : pieces_) {
        if (piece.share().owner == rank && piece.sends(own_)) sent.announce(rank, piece.box(own_).count());
        if (piece.share().owner == own_ && piece.sends(rank))
          received_.announce(rank, piece.box(rank).count());
      }
    }
    sent.allocate();
    received_.allocate();
    std::vector<Tensor> blended(pieces_.size());
    for (int rank = 0; rank < size_; ++rank) {
      for (std::size_t i = 0; i < pieces_.size(); ++i) {
        const Piece& piece = pieces_[i];
        if (piece.share().owner == rank && piece.sends(own_)) blended[i] = sent.next(piece.box(own_).count());
      }
    }
    blend_all(blended);
    exchange_ =
        ranks_->collectives->start_all_to_all(sent.parts<ConstMatrixView>(), received_.parts<MatrixView>());
    sent_ = std::move(sent);
  }

  /// Directions of what this rank owns, and sends them to who has pieces.
  void compute_and_start_spread() {
    exchange_->wait();
    std::vector<Tensor> wholes(pieces_.size()), memories(pieces_.size());
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      if (pieces_[i].share().owner != own_) continue;
      wholes[i] = at::empty(pieces_[i].share().shape, options());
      if (pieces_[i].row_state().defined()) memories[i] = pieces_[i].row_state().clone();
    }
    for (int rank = 0; rank < size_; ++rank) {
      for (std::size_t i = 0; i < pieces_.size(); ++i) {
        if (!wholes[i].defined() || !pieces_[i].sends(rank)) continue;
        const Box& box = pieces_[i].box(rank);
        part_of(wholes[i], box).copy_(received_.next(box.count()).view(box.size));
      }
    }
    direct(wholes, memories);

    Buffer sent = buffer();
    received_ = buffer();
    for (int rank = 0; rank < size_; ++rank) {
      for (const Piece& piece : pieces_) {
        if (piece.share().owner == own_) sent.announce(rank, piece.box(rank).count() + piece.row_count());
        if (piece.share().owner == rank)
          received_.announce(rank, piece.box(own_).count() + piece.row_count());
      }
    }
    sent.allocate();
    received_.allocate();
    for (int rank = 0; rank < size_; ++rank) {
      for (std::size_t i = 0; i < pieces_.size(); ++i) {
        if (!wholes[i].defined()) continue;
        const Box& box = pieces_[i].box(rank);
        if (!box.empty()) sent.next(box.count()).view(box.size).copy_(part_of(wholes[i], box));
        if (memories[i].defined())
          sent.next(pieces_[i].row_count()).view(memories[i].sizes()).copy_(memories[i]);
      }
    }
    exchange_ =
        ranks_->collectives->start_all_to_all(sent.parts<ConstMatrixView>(), received_.parts<MatrixView>());
    sent_ = std::move(sent);
  }

  /// Applies what came, and gives the memory back.
  void finish() {
    exchange_->wait();
    std::vector<Tensor> directions(pieces_.size());
    for (int rank = 0; rank < size_; ++rank) {
      for (std::size_t i = 0; i < pieces_.size(); ++i) {
        if (pieces_[i].share().owner != rank) continue;
        const Box& box = pieces_[i].box(own_);
        directions[i] = received_.next(box.count()).view(box.size);
        const Tensor& row_state = pieces_[i].row_state();
        if (row_state.defined()) row_state.copy_(received_.next(row_state.numel()).view(row_state.sizes()));
      }
    }
    apply_all(directions);
    for (const Piece& piece : pieces_) {
      const Due& due = piece.shared->due;
      give_back_row(piece.weight, due.place.parameter.detach());
      due.place.parameter.unsafeGetTensorImpl()->bump_version();
      ++due.state->step;
    }
    *this = Chunk(*backends_, *ranks_, {});
  }

 private:
  at::TensorOptions options() const {
    const Tensor& state = pieces_.front().shared->due.state->momentum_buffer;
    return at::TensorOptions(state.device()).dtype(state.scalar_type());
  }
  Buffer buffer() const { return Buffer(size_, options()); }
  Backend& backend() { return backends_->on(pieces_.front().shared->due.place.parameter.device()); }

  /// Calls work(part, i) for every piece of which this rank has something.
  template <class Work>
  void for_each_piece(Work&& work) {
    std::vector<std::size_t> filled;
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      if (!pieces_[i].box(own_).empty()) filled.push_back(i);
    }
    const std::vector<Index> ones(filled.size(), 1);
    backend().for_each_part(ones, [&](Backend& part, std::size_t at, Index, Index) {
      const ScratchFrame frame(part);
      work(part, filled[at]);
    });
  }

  /// Momentum of all pieces; blended[i] receives what is to be sent of piece i, if it is.
  void blend_all(const std::vector<Tensor>& blended) {
    for_each_piece([&](Backend& part, std::size_t i) {
      const Piece& piece = pieces_[i];
      const ConstMatrixView gradient = flat(piece.gradient);
      const MatrixView momentum = flat(piece.momentum);
      const MatrixView to =
          blended[i].defined() ? flat(blended[i]) : part.scratch(1, momentum.cols, 1, momentum.dtype);
      blend(part, Gate{}, piece.rule(), {&gradient, 1}, {&momentum, 1}, to);
    });
    for (const Piece& piece : pieces_)
      give_back_row(piece.momentum, piece.shared->due.state->momentum_buffer);
  }

  /// Directions in place of the blended gradients, of all matrices of one shape together.
  void direct(const std::vector<Tensor>& wholes, const std::vector<Tensor>& memories) {
    struct Batch {
      std::vector<MatrixView> matrices, row_states;
      const Rule* rule;
    };
    std::map<std::tuple<double, const GroupOptions*, Index, Index, Layout>, Batch>
        batches;  // the dearest first
    std::vector<Matrices> all(wholes.size());
    for (std::size_t i = 0; i < wholes.size(); ++i) {
      if (!wholes[i].defined()) continue;
      const Place& place = pieces_[i].shared->due.place;
      all[i] = matrices_of(wholes[i], dimensions_at(place));
      const auto row_states = memories[i].defined() ? row_views(place.options.rule, memories[i], all[i].views)
                                                    : std::vector<MatrixView>{};
      for (std::size_t k = 0; k < all[i].views.size(); ++k) {
        const MatrixView& matrix = all[i].views[k];
        Batch& batch = batches[{-step_cost(place.options.rule, matrix.rows, matrix.cols), &place.options,
                                matrix.rows, matrix.cols, layout_of(matrix)}];
        batch.rule = &place.options.rule;
        batch.matrices.push_back(matrix);
        if (!row_states.empty() && row_states[k].rows > 0) batch.row_states.push_back(row_states[k]);
      }
    }
    std::vector<Batch> list;
    std::vector<Index> sizes;
    for (auto& [key, batch] : batches) {
      sizes.push_back(static_cast<Index>(batch.matrices.size()));
      list.push_back(std::move(batch));
    }
    backend().for_each_part(sizes, [&](Backend& part, std::size_t group, Index begin, Index end) {
      const auto of = [&](const std::vector<MatrixView>& views) {
        return std::span(views).subspan(static_cast<std::size_t>(begin),
                                        static_cast<std::size_t>(end - begin));
      };
      const Batch& batch = list[group];
      const auto matrices = of(batch.matrices);
      const ScratchFrame frame(part);
      const MatrixView& first = matrices.front();
      const MatrixView B = part.scratch(first.rows, first.cols, end - begin, first.dtype, layout_of(first));
      const MatrixView U = part.scratch(first.rows, first.cols, end - begin, first.dtype, layout_of(first));
      part.apply(formulas::Copy{}, {matrices}, {B});
      MatrixView memory = {};
      if (!batch.row_states.empty()) {
        const auto states = of(batch.row_states);
        memory = part.scratch(states.front().rows, 1, end - begin, states.front().dtype);
        part.apply(formulas::Copy{}, {states}, {memory});
      }
      directions(part, *batch.rule, B, memory, U);
      part.apply(formulas::Copy{}, {U}, {matrices});
      if (memory.data != nullptr) part.apply(formulas::Copy{}, {memory}, {of(batch.row_states)});
    });
    for (std::size_t i = 0; i < wholes.size(); ++i) {
      if (wholes[i].defined()) give_back(all[i], dimensions_at(pieces_[i].shared->due.place), wholes[i]);
    }
  }

  void apply_all(const std::vector<Tensor>& directions) {
    for_each_piece([&](Backend& part, std::size_t i) {
      const Piece& piece = pieces_[i];
      for (const Run& run : runs_of(piece.shared->due.place, piece.box(own_))) {
        apply_to_piece(part, Gate{}, piece.rule(), run.matrix.rows, run.matrix.cols,
                       view_of(directions[i], run), view_of(piece.weight, run));
      }
    });
  }

  Backends* backends_;
  Ranks* ranks_;
  std::vector<Piece> pieces_;
  int own_, size_;
  Buffer received_{0, {}}, sent_{0, {}};
  std::unique_ptr<Exchange> exchange_;  // ends before the buffers
};

/// Chunks in which every owner has about as many bytes: its parameters in their order, cut into equal shares.
std::vector<Chunk> chunks_of(Backends& backends, Ranks& ranks, const std::vector<Piece>& pieces) {
  const auto bytes_of = [](const Piece& piece) {
    std::int64_t bytes = piece.shared->due.state->momentum_buffer.element_size();
    for (const auto length : piece.share().shape) bytes *= length;
    return bytes;
  };
  std::map<int, std::int64_t> sums;
  for (const Piece& piece : pieces) sums[piece.share().owner] += bytes_of(piece);
  std::int64_t most = 0;
  for (const auto& [owner, sum] : sums) most = std::max(most, sum);
  const std::int64_t limit = std::max<std::int64_t>(1, ranks.options.chunk_bytes);
  const std::int64_t count = std::max<std::int64_t>(1, (most + limit - 1) / limit);
  std::vector<std::vector<Piece>> parts(static_cast<std::size_t>(count));
  std::map<int, std::int64_t> before;
  for (const Piece& piece : pieces) {
    const int owner = piece.share().owner;
    parts[static_cast<std::size_t>(before[owner] * count / std::max<std::int64_t>(1, sums[owner]))].push_back(
        piece);
    before[owner] += bytes_of(piece);
  }
  std::vector<Chunk> chunks;
  for (auto& part : parts) {
    if (!part.empty()) chunks.emplace_back(backends, ranks, std::move(part));
  }
  return chunks;
}

}  // namespace

void choose_senders(const Place& place, Share& share) {
  std::int64_t whole = 1, sum = 0;
  for (const auto length : share.shape) whole *= length;
  share.sends.assign(share.boxes.size(), false);
  std::vector<std::vector<std::size_t>> holders;  // of each box
  for (std::size_t rank = 0; rank < share.boxes.size(); ++rank) {
    const Box& box = share.boxes[rank];
    if (box.empty()) continue;
    const auto same =
        std::ranges::find_if(holders, [&](const auto& of) { return share.boxes[of.front()] == box; });
    if (same != holders.end()) {
      same->push_back(rank);
      continue;
    }
    for (const auto& of : holders) {
      const Box& other = share.boxes[of.front()];
      bool apart = false;
      for (std::size_t axis = 0; axis < box.size.size(); ++axis) {
        apart = apart || box.offset[axis] >= other.offset[axis] + other.size[axis] ||
                other.offset[axis] >= box.offset[axis] + box.size[axis];
      }
      if (!apart) fail_at(place, "Pieces of ranks ", of.front(), " and ", rank, " overlap");
    }
    holders.push_back({rank});
    sum += box.count();
    runs_of(place, box);
  }
  if (sum != whole) fail_at(place, "The pieces of all ranks have ", sum, " of ", whole, " elements");
  for (const auto& of : holders) {
    const auto owner = static_cast<std::size_t>(share.owner);
    const bool has_it = std::ranges::find(of, owner) != of.end();
    share.sends[has_it ? owner : of[owner % of.size()]] = true;
  }
}

void step_pieces(Backends& backends, Ranks& ranks, std::span<const SharedDue> due) {
  std::map<std::string, std::vector<Piece>> by_memory;  // one device and type of state per exchange
  for (const SharedDue& each : due) {
    if (each.ranks != &ranks || each.share->kind != Share::Kind::pieces) continue;
    const Tensor& state = each.due.state->momentum_buffer;
    by_memory[state.device().str() + c10::toString(state.scalar_type())].push_back({&each, {}, {}, {}});
  }
  std::vector<Chunk> chunks;
  for (auto& [key, pieces] : by_memory) {
    for (Chunk& chunk : chunks_of(backends, ranks, pieces)) chunks.push_back(std::move(chunk));
  }
  if (!ranks.options.overlap) {
    for (Chunk& chunk : chunks) {
      chunk.start_gather();
      chunk.compute_and_start_spread();
      chunk.finish();
    }
    return;
  }
  // Two slots: while one chunk is computed, the next arrives and the last leaves.
  for (std::size_t k = 0; k < chunks.size(); ++k) {
    if (k == 0) chunks[k].start_gather();
    if (k + 1 < chunks.size()) chunks[k + 1].start_gather();
    chunks[k].compute_and_start_spread();
    if (k > 0) chunks[k - 1].finish();
  }
  if (!chunks.empty()) chunks.back().finish();
}

}  // namespace aurora::optim
