#include <algorithm>

#include "../formulas.hpp"
#include "kind.hpp"

namespace aurora {
namespace {

// U_i = sqrt(min(m, n) / m) B_i / |B_i|: rows of one length and |U|_F that of a semi-orthogonal matrix.
void row_normalized_direction(Backend& backend, const Rule&, ConstMatrixView B, MatrixView, MatrixView U) {
  const ScratchFrame frame(backend);
  const MatrixView h = backend.scratch(B.rows, 1, B.batch, DType::f64);
  const double rank = static_cast<double>(std::min(B.rows, B.cols));
  backend.normalize(B, U);
  backend.row_dots(U, U, h);
  backend.apply(formulas::InverseRoot{.target = rank / static_cast<double>(B.rows)}, {h, h}, {h});
  backend.scale_rows(h, U, U);
}

}  // namespace

const RuleKind& RowNormalizedOptions::kind() {
  static const RuleKind kind = {
      .name = "row-normalized",
      .class_name = "RowNormalized",
      .meaning = "the momentum with rows of one length and no polar factor; MuonEq, RMNP",
      .formula = "U_i = sqrt(min(m, n) / m) B_i / |B_i|",
      .fields = matrix_fields<RowNormalizedOptions>(),
      .direction = row_normalized_direction};
  return kind;
}

}  // namespace aurora
