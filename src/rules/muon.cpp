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
                                .meaning = "the polar factor of the momentum; Keller Jordan",
                                .fields = matrix_fields<MuonOptions>(),
                                .direction = muon_direction};
  return kind;
}

}  // namespace aurora
