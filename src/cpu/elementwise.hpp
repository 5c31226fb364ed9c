#pragma once

#include <span>

#include "aurora/backend.hpp"

// The primitives that touch each element once, for CPU memory; see aurora/backend.hpp for what they mean.
// Shapes are checked by the caller.
namespace aurora::cpu {

void axpby(double alpha, ConstMatrixView x, double beta, MatrixView y);
/// blend_momentum for one matrix; blended has the momentum's type.
void blend(ConstMatrixView gradient, double momentum, bool nesterov, MatrixView momentum_buffer,
           MatrixView blended);
void scale_rows(ConstMatrixView d, ConstMatrixView x, MatrixView y);
void row_dots(ConstMatrixView x, ConstMatrixView y, MatrixView d);
void power_scales(ConstMatrixView h, double target, double exponent, double cut, MatrixView d);
void odds_step(ConstMatrixView h, MatrixView d);
void tyler_step(ConstMatrixView h, MatrixView d);
void spread(ConstMatrixView h, ConstMatrixView d, MatrixView s);
void select_less(ConstMatrixView a, ConstMatrixView b, ConstMatrixView x, MatrixView y);
void adopt_scales(ConstMatrixView e, MatrixView d);
void resolvent_sums(ConstMatrixView y, ConstMatrixView s, ConstMatrixView lam, MatrixView p, MatrixView q);
void resolvent(ConstMatrixView y, ConstMatrixView s, ConstMatrixView lam, MatrixView w);
void resolvent_newton(ConstMatrixView p, ConstMatrixView q, double target, double floor, MatrixView x);
void normalize(ConstMatrixView x, MatrixView y);
void fill(double value, MatrixView y);
void mirror_upper(MatrixView s);  // s_ji = s_ij for i < j
void adam(const AdamScalars& scalars, ConstMatrixView gradient, MatrixView exp_avg, MatrixView exp_avg_sq,
          MatrixView weight);
bool all_finite(ConstMatrixView x);
double largest(ConstMatrixView x);
double smallest(ConstMatrixView x);
void download(ConstMatrixView x, std::span<double> values);

}  // namespace aurora::cpu
