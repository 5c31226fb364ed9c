#include <cmath>

#include "../formulas.hpp"
#include "kind.hpp"

namespace aurora {
namespace {

// Tall: O = polar(B);  U_i = sqrt(n/m) O_i / |O_i|. Others: U = polar(B).
void unormuon_direction(Backend& backend, const Rule& rule, ConstMatrixView B, MatrixView, MatrixView U) {
  const auto& options = std::get<UNorMuonOptions>(rule);
  polar(backend, B, options.polar, U, options.precision);
  if (B.rows <= B.cols) return;
  const ScratchFrame frame(backend);
  const MatrixView h = backend.scratch(B.rows, 1, B.batch, DType::f64);
  backend.row_dots(U, U, h);
  backend.apply(formulas::InverseRoot{.target = static_cast<double>(B.cols) / static_cast<double>(B.rows)},
                {h, h}, {h});
  backend.scale_rows(h, U, U);
}

}  // namespace

const RuleKind& UNorMuonOptions::kind() {
  static const RuleKind kind = {
      .name = "u-normuon",
      .class_name = "UNorMuon",
      .meaning = "the polar factor with the rows of tall matrices brought to one length; Tilde Research",
      .formula = "O = polar(B);  tall: U_i = sqrt(n/m) O_i / |O_i|, without memory;  others: U = O",
      .fields = matrix_fields<UNorMuonOptions>(),
      .published_scale = UpdateScale::none,
      .direction = unormuon_direction,
      .direction_cost = one_polar_cost<UNorMuonOptions>};
  return kind;
}

}  // namespace aurora
