#include <algorithm>

#include "kind.hpp"

namespace aurora {
namespace {

BalanceOptions balance_options(const Rule& rule) {
  const auto& options = std::get<AuroraOptions>(rule);
  return {.sides = options.sides,
          .balance = options.balance,
          .pp_iterations = options.pp_iterations,
          .pp_beta = options.pp_beta,
          .polar = options.polar,
          .precision = options.precision};
}

// U'U = I with rows of equal length, near B: see balanced_polar.
void aurora_direction(Backend& backend, const Rule& rule, ConstMatrixView B, MatrixView row_scales,
                      MatrixView U) {
  balanced_polar(backend, B, balance_options(rule), U, row_scales);
}

double aurora_cost(const Rule& rule, Index rows, Index cols, Device device) {
  return balanced_polar_cost(balance_options(rule), rows, cols, device);
}

std::string_view carried_scales(const Rule& rule) {
  return std::get<AuroraOptions>(rule).balance == Balance::carried ? "row_scales" : "";
}

Index carried_size(const Rule& rule, Index rows, Index cols) {
  return carried_scales(rule).empty() ? 0 : std::max(rows, cols);
}

void require_used(const Rule& rule) {
  const auto& options = std::get<AuroraOptions>(rule);
  if (options.balance != Balance::release && options.pp_beta != AuroraOptions{}.pp_beta) {
    for (const Hyperparameter& entry : hyperparameters(rule)) {
      if (entry.name != "balance") continue;
      fail("validate", "aurora: pp_beta belongs to balance=release, not to balance=", entry.value);
    }
  }
}

}  // namespace

const RuleKind& AuroraOptions::kind() {
  static const RuleKind kind = {
      .name = "aurora",
      .class_name = "Aurora",
      .meaning = "a semi-orthogonal direction with rows of equal length; tilde-research/aurora-release",
      .formula = "U near B with U'U = I and, for m x n with m > n, all rows of length sqrt(n/m)",
      .fields = matrix_fields<AuroraOptions>({
          {"sides", at<&AuroraOptions::sides>, "which side gets equal norms"},
          {"pp_iterations",
           at<&AuroraOptions::pp_iterations>,
           "leverage evaluations per direction",
           {.low = 1, .high = 1000}},
          {"pp_beta",
           at<&AuroraOptions::pp_beta>,
           "exponent of the release's row scale update",
           {.low_open = true}},
          {"balance", at<&AuroraOptions::balance>, "how rows are evened out"},
      }),
      .direction = aurora_direction,
      .row_state_name = carried_scales,
      .row_state_size = carried_size,
      .direction_cost = aurora_cost,
      .require_used = require_used};
  return kind;
}

}  // namespace aurora
