#include "kind.hpp"

namespace aurora {
namespace {

// Ascent of <B, U> on U'U = I, |u_i|^2 = n/m, from polar(B): see riemannian_polar.
void riemannian_direction(Backend& backend, const Rule& rule, ConstMatrixView B, MatrixView, MatrixView U) {
  const auto& options = std::get<RiemannianAuroraOptions>(rule);
  riemannian_polar(backend, B, {.polar = options.polar, .precision = options.precision}, U);
}

double riemannian_cost(const Rule& rule, Index rows, Index cols, Device device) {
  const auto& options = std::get<RiemannianAuroraOptions>(rule);
  return riemannian_polar_cost({.polar = options.polar, .precision = options.precision}, rows, cols, device);
}

}  // namespace

const RuleKind& RiemannianAuroraOptions::kind() {
  static const RuleKind kind = {
      .name = "riemannian-aurora",
      .class_name = "RiemannianAurora",
      .meaning = "ascent along the matrices that Aurora chooses from; tilde-research/aurora-release",
      .formula = "U by ascent of <B, U> on {U'U = I, rows of length sqrt(n/m)} from polar(B)",
      .fields = matrix_fields<RiemannianAuroraOptions>(),
      .direction = riemannian_direction,
      .direction_cost = riemannian_cost};
  return kind;
}

}  // namespace aurora
