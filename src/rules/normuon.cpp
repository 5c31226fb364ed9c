#include "../formulas.hpp"
#include "kind.hpp"

namespace aurora {
namespace {

// O = polar(B);  v_i <- beta2 v_i + (1 - beta2) mean_j O_ij^2;  U = diag(v)^-1/2 O |O|_F / |diag(v)^-1/2 O|_F.
void normuon_direction(Backend& backend, const Rule& rule, ConstMatrixView B, MatrixView v, MatrixView U) {
  const auto& options = std::get<NorMuonOptions>(rule);
  const ScratchFrame frame(backend);
  const MatrixView d = backend.scratch(B.rows, 1, B.batch, DType::f64), h = d;  // d takes the place of h
  const MatrixView before = backend.scratch(1, 1, B.batch, DType::f64),
                   after = backend.scratch(1, 1, B.batch, DType::f64);
  polar(backend, B, options.polar, U, options.precision);
  backend.row_dots(U, U, h);
  backend.apply(formulas::NorMuonMoment{options.beta2, static_cast<double>(B.cols)}, {h, v}, {v});
  backend.apply(formulas::NorMuonSums{}, {transposed(h), transposed(v)}, {before, after});
  backend.apply(formulas::NorMuonScale{}, {v, before, after}, {d});
  backend.scale_rows(d, U, U);
}

}  // namespace

const RuleKind& NorMuonOptions::kind() {
  static const RuleKind kind = {
      .name = "normuon",
      .class_name = "NorMuon",
      .meaning = "the polar factor with rows evened by their moving second moments; arXiv 2510.05491",
      .formula =
          "O = polar(B);  v_i <- beta2 v_i + (1 - beta2) mean_j O_ij^2;  U = diag(v)^-1/2 O, rescaled to "
          "|O|_F",
      .fields = matrix_fields<NorMuonOptions>({{"beta2",
                                                at<&NorMuonOptions::beta2>,
                                                "decay of the second moment",
                                                {.high = 1, .high_open = true}}}),
      .published_scale = UpdateScale::match_rms_adamw,
      .direction = normuon_direction,
      .row_state_name = [](const Rule&) -> std::string_view { return "second_momentum_buffer"; },
      .row_state_size = [](const Rule&, Index rows, Index) { return rows; },
      .direction_cost = one_polar_cost<NorMuonOptions>};
  return kind;
}

}  // namespace aurora
