#include "kind.hpp"

namespace aurora {
namespace {

// U = polar(B).
void muon_direction(Backend& backend, const Rule& rule, ConstMatrixView B, MatrixView, MatrixView U) {
  const auto& options = std::get<MuonOptions>(rule);
  polar(backend, B, options.polar, U, options.precision);
}

}  // namespace

const RuleKind& MuonOptions::kind() {
  static const RuleKind kind = {.name = "muon",
                                .class_name = "Muon",
                                .meaning = "the polar factor of the momentum; Keller Jordan",
                                .formula = "U = polar(B), the semi-orthogonal matrix nearest to B",
                                .fields = matrix_fields<MuonOptions>(),
                                .direction = muon_direction,
                                .direction_cost = one_polar_cost<MuonOptions>};
  return kind;
}

}  // namespace aurora
