#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "aurora/backend.hpp"

namespace aurora {

/// One step of a polar iteration, on every singular value s: p(s) = a s + b s^3 + c s^5.
struct Quintic {
  double a, b, c;
  bool operator==(const Quintic&) const = default;
};

/// How a polar factor is reached. `automatic` is exact on the CPU and for float64, and polar-express-7 for
/// float32 on accelerators, where a factorisation would make the host wait; resolved() says which. All others
/// mean what they say everywhere.
enum class Polar : std::uint8_t {
  automatic,
  exact,              // the polar factor itself, to the resolution of the arithmetic
  keller_jordan_5,    // Keller Jordan's Muon, torch.optim.Muon: singular values end in [0.68, 1.13]
  simple_quintic_12,  // aurora-release of May 2026, the modded-nanogpt baseline
  cans_12,            // CANS, arXiv 2506.10935, as in today's aurora-release
  polar_express_5,    // Polar Express, arXiv 2505.16932; 5 steps as in dion and modded-nanogpt
  polar_express_6,
  polar_express_7,
  polar_express_8
};

/// In which type the products of a polar schedule of float32 matrices are done; sums stay in float32.
/// `automatic` is float32 on the CPU and float16 on accelerators. Exact factors and float64 matrices do not
/// look at it.
enum class Precision : std::uint8_t { automatic, float32, float16, bfloat16 };

/// What `automatic` stands for on a device.
Polar resolved(Polar polar, Device device, DType dtype = DType::f32);
Precision resolved(Precision precision, Device device);

namespace schedule_steps {
inline constexpr std::array<Quintic, 5> kKellerJordan = {{{3.4445, -4.7750, 2.0315},
                                                          {3.4445, -4.7750, 2.0315},
                                                          {3.4445, -4.7750, 2.0315},
                                                          {3.4445, -4.7750, 2.0315},
                                                          {3.4445, -4.7750, 2.0315}}};
inline constexpr std::array<Quintic, 12> kSimpleQuintic = {{{2, -1.5, 0.5},
                                                            {2, -1.5, 0.5},
                                                            {2, -1.5, 0.5},
                                                            {2, -1.5, 0.5},
                                                            {2, -1.5, 0.5},
                                                            {2, -1.5, 0.5},
                                                            {2, -1.5, 0.5},
                                                            {2, -1.5, 0.5},
                                                            {2, -1.5, 0.5},
                                                            {2, -1.5, 0.5},
                                                            {2, -1.5, 0.5},
                                                            {2, -1.5, 0.5}}};
inline constexpr std::array<Quintic, 12> kCans = {{{5.18250, -5.17810, 0},
                                                   {2.58612, -0.64795, 0},
                                                   {2.56736, -0.64550, 0},
                                                   {2.52056, -0.63935, 0},
                                                   {2.41076, -0.62487, 0},
                                                   {2.18833, -0.59520, 0},
                                                   {1.85958, -0.55045, 0},
                                                   {1.58902, -0.51266, 0},
                                                   {1.50517, -0.50074, 0},
                                                   {1.5, -0.5, 0},
                                                   {1.5, -0.5, 0},
                                                   {1.5, -0.5, 0}}};
inline constexpr std::array<Quintic, 5> kPolarExpress5 = {
    {{8.156554524902461, -22.48329292557795, 15.878769915207462},
     {4.042929935166739, -2.808917465908714, 0.5000178451051316},
     {3.8916678022926607, -2.772484153217685, 0.5060648178503393},
     {3.285753657755655, -2.3681294933425376, 0.46449024233003106},
     {2.3465413258596377, -1.7097828382687081, 0.42323551169305323}}};
inline constexpr std::array<Quintic, 8> kPolarExpress = {{{8.2051, -22.9019, 16.4607},
                                                          {4.0664, -2.8612, 0.5184},
                                                          {3.9096, -2.8234, 0.5250},
                                                          {3.2856, -2.4153, 0.4853},
                                                          {2.2779, -1.6198, 0.3985},
                                                          {1.8726, -1.2307, 0.3585},
                                                          {1.8564, -1.2132, 0.3568},
                                                          {1.875, -1.25, 0.375}}};
}  // namespace schedule_steps

/// A schedule: after dividing by norm_factor |X|_F, every singular value goes through the steps.
struct PolarSchedule {
  Polar polar;
  std::string_view name;
  std::span<const Quintic> steps;  // none: exact, or to be resolved
  double norm_factor;
};
inline constexpr std::array<PolarSchedule, 9> kPolarSchedules = {{
    {Polar::automatic, "auto", {}, 1.0},
    {Polar::exact, "exact", {}, 1.0},
    {Polar::keller_jordan_5, "keller-jordan-5", schedule_steps::kKellerJordan, 1.0},
    {Polar::simple_quintic_12, "simple-quintic-12", schedule_steps::kSimpleQuintic, 1.0},
    {Polar::cans_12, "cans-12", schedule_steps::kCans, 1.0},
    {Polar::polar_express_5, "polar-express-5", schedule_steps::kPolarExpress5, 1.02},
    {Polar::polar_express_6, "polar-express-6", std::span(schedule_steps::kPolarExpress).first<6>(), 1.01},
    {Polar::polar_express_7, "polar-express-7", std::span(schedule_steps::kPolarExpress).first<7>(), 1.01},
    {Polar::polar_express_8, "polar-express-8", schedule_steps::kPolarExpress, 1.01},
}};
constexpr const PolarSchedule& schedule(Polar polar) {
  return kPolarSchedules[static_cast<std::size_t>(polar)];
}

/// About the floating point operations of a polar factor of a rows x cols matrix on a device: of an exact one
/// by the Cholesky factor and four steps of Halley's iteration.
double polar_cost(Polar method, Index rows, Index cols, Device device = Device::cpu);

/// Singular values of an exact polar factor below this share of the largest are zero, not amplified noise:
/// 2^-21 = 4.8e-7 for float32 input (four units in its last place, the resolution it was stored with),
/// max(rows, cols) 2^-52 for float64.
double polar_cut(const ConstMatrixView& gradient);

/// direction <- U V' where gradient = U S V' (thin; wide matrices through their transpose).
/// polar(c G) = polar(G) for c > 0, polar(G') = polar(G)', polar(0) = 0. Shapes m x n, float32 or float64,
/// equal types; the two may be the same memory. Exact: singular values at or below polar_cut give zero, by
///   for float64: a singular value decomposition, in float64;
///   for float32 of a condition number that turns out to be at most 3e5: a Cholesky factor and the
///     dynamically weighted Halley iteration, in float64 until the matrix is well conditioned, then in
///     float32, with an error below 2e-5;
///   for other float32: the eigen-decomposition of the Gram matrix in float64, exact to rounding up to
///     condition numbers of 1e5 and to 1e-4 at 1e6.
/// A schedule: each singular value goes through its steps. In float16 or bfloat16 clearly tall matrices (2 m
/// >= 3 n) go over their Gram matrix; in float16 polar-express-7 brings singular values above 1e-2 of the
/// largest within 5e-3 of 1, none above 1.01, and elements are off by up to 1e-2; those below about 1e-3
/// |G|_F stay small. Throws std::invalid_argument where shapes or types differ, for a precision that the
/// backend has no products in, and, for the exact factor, where an element is not finite; under a schedule
/// NaN goes through. Exact factors wait for the device.
void polar(Backend& backend, ConstMatrixView gradient, Polar method, MatrixView direction,
           Precision precision = Precision::automatic);

}  // namespace aurora
