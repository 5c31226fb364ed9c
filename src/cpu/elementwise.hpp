#pragma once

#include <span>

#include "aurora/backend.hpp"

// The functions that touch each element once, for CPU memory; see aurora/backend.hpp for what they mean.
// Shapes are checked by the caller.
namespace aurora::cpu {

void axpby(double alpha, ConstMatrixView x, double beta, MatrixView y);
void fill(double value, MatrixView y);
void row_dots(ConstMatrixView x, ConstMatrixView y, MatrixView d);
void scale_rows(ConstMatrixView d, ConstMatrixView x, MatrixView y);
void normalize(ConstMatrixView x, MatrixView y);
void mirror_upper(MatrixView s);  // s_ji = s_ij for i < j
bool all_finite(ConstMatrixView x, DType as);
void download(ConstMatrixView x, std::span<double> values);

/// outputs = formula(inputs); see Backend::apply.
void apply(const Formula& formula, std::span<const Operand> inputs, std::span<const Result> outputs);

}  // namespace aurora::cpu
