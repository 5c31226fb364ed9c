#include "support/group.hpp"

namespace aurora::test {
namespace {

/// The step of a rule of either kind.
StepReport step_of(Backend& backend, const Rule& rule, Group& group) {
  const auto gradients = const_views(group.gradients);
  const auto momentum = views(group.momentum), weights = views(group.weights),
             directions = views(group.directions);
  if (const auto* adamw = std::get_if<AdamWOptions>(&rule)) {
    return adamw_step(backend, *adamw, group.steps + 1, {gradients, momentum, views(group.squares), weights});
  }
  const bool stateful = !row_state_name(rule).empty();
  const auto row_states = stateful ? views(group.row_states) : std::vector<MatrixView>{};
  return step(backend, rule, {gradients, momentum, weights, row_states, directions});
}

}  // namespace

Group::Group(const std::vector<Matrix>& start, Types types, Placement placement)
    : types_(types), placement_(placement) {
  for (const Matrix& weight : start) {
    const Matrix zero{weight.rows, weight.cols};
    gradients.emplace_back(zero, types.gradient, placement);
    weights.emplace_back(weight, types.weight, placement);
    momentum.emplace_back(zero, types.state, placement);
    squares.emplace_back(zero, types.state, placement);
    row_states.emplace_back(Matrix{weight.rows, 1}, types.state, placement);
  }
}

void Group::keep_directions() {
  directions.clear();
  for (const Stored& weight : weights) directions.emplace_back(weight.values(), types_.state, placement_);
}

StepReport Group::step(Backend& backend, const Rule& options, const std::vector<Matrix>& values) {
  gradients.clear();
  for (const Matrix& gradient : values) gradients.emplace_back(gradient, types_.gradient, placement_);
  return step(backend, options);
}

StepReport Group::step(Backend& backend, const Rule& options) {
  for (std::size_t i = 0; i < row_states.size(); ++i) {
    const ConstMatrixView weight = weights[i].cview();
    const Index size = row_state_size(options, weight.rows, weight.cols);
    if (size > 0 && row_states[i].cview().rows != size) {
      row_states[i] = Stored(Matrix{size, 1}, types_.state, placement_);
    }
  }
  const StepReport report = step_of(backend, options, *this);
  if (report.applied) ++steps;
  return report;
}

std::vector<MatrixView> views(std::vector<Stored>& matrices) {
  std::vector<MatrixView> list;
  for (Stored& matrix : matrices) list.push_back(matrix.view());
  return list;
}

std::vector<ConstMatrixView> const_views(const std::vector<Stored>& matrices) {
  std::vector<ConstMatrixView> list;
  for (const Stored& matrix : matrices) list.push_back(matrix.view());
  return list;
}

Matrix trajectory(Backend& backend, const Rule& options, const Matrix& start,
                  const std::vector<Matrix>& gradients, Types types, Placement placement) {
  Group group({start}, types, placement);
  for (const Matrix& gradient : gradients) group.step(backend, options, {gradient});
  return group.weights.front().values();
}

}  // namespace aurora::test
