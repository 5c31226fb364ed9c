#pragma once

#include <span>

#include "aurora/backend.hpp"

// The primitives that touch each element once, for CPU memory; see aurora/backend.hpp for what they mean.
// Shapes are checked by the caller.
namespace aurora::cpu {

void axpby(double alpha, ConstMatrixView x, double beta, MatrixView y);
void scale_rows(ConstMatrixView d, ConstMatrixView x, MatrixView y);
void row_dots(ConstMatrixView x, ConstMatrixView y, MatrixView d);
void power_scales(ConstMatrixView h, double target, double exponent, double cut, MatrixView d);
void normalize(ConstMatrixView x, MatrixView y);
void fill(double value, MatrixView y);
void mirror_upper(MatrixView s);  // s_ji = s_ij for i < j
void adam(const AdamScalars& scalars, ConstMatrixView gradient, MatrixView exp_avg, MatrixView exp_avg_sq,
          MatrixView weight);
bool all_finite(ConstMatrixView x);
double largest(ConstMatrixView x);
void download(ConstMatrixView x, std::span<double> values);

}  // namespace aurora::cpu
