#pragma once

#include <array>
#include <span>
#include <string_view>

#include "aurora/backend.hpp"

namespace aurora {

/// One step of a polar iteration, on every singular value s: p(s) = a s + b s^3 + c s^5.
struct Quintic {
  double a, b, c;
  bool operator==(const Quintic&) const = default;
};

/// How a polar factor is reached: a named list of steps after dividing by norm_factor |X|_F, or no step at
/// all: exactly.
class PolarSchedule {
 public:
  constexpr PolarSchedule(std::string_view name, std::span<const Quintic> steps, double norm_factor)
      : name_(name), steps_(steps), norm_factor_(norm_factor) {}

  constexpr std::string_view name() const { return name_; }
  constexpr std::span<const Quintic> steps() const { return steps_; }
  constexpr double norm_factor() const { return norm_factor_; }
  constexpr bool exact() const { return steps_.empty(); }
  bool operator==(const PolarSchedule& other) const { return name_ == other.name_; }

 private:
  std::string_view name_;
  std::span<const Quintic> steps_;  // of static storage duration
  double norm_factor_;
};

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

/// The polar factor itself, to the resolution of the arithmetic. The default of every optimizer.
inline constexpr PolarSchedule kExact{"exact", {}, 1.0};
/// The ways to it that `exact` chooses between, for who wants one of them; see polar for what they cost and
/// resolve.
inline constexpr PolarSchedule kExactHalley{"exact-halley", {}, 1.0};
inline constexpr PolarSchedule kExactEigen{"exact-eigen", {}, 1.0};
inline constexpr PolarSchedule kExactSvd{"exact-svd", {}, 1.0};
/// Keller Jordan's Muon (KellerJordan/Muon, torch.optim.Muon): singular values end in [0.68, 1.13].
inline constexpr PolarSchedule kKellerJordan5{"keller-jordan-5", schedule_steps::kKellerJordan, 1.0};
/// aurora-release of May 2026 and the modded-nanogpt baseline.
inline constexpr PolarSchedule kSimpleQuintic12{"simple-quintic-12", schedule_steps::kSimpleQuintic, 1.0};
/// CANS, arXiv 2506.10935, as in today's aurora-release.
inline constexpr PolarSchedule kCans12{"cans-12", schedule_steps::kCans, 1.0};
/// Polar Express, arXiv 2505.16932; five steps as in dion and modded-nanogpt (norm 1.02), longer ones with
/// norm 1.01.
inline constexpr PolarSchedule kPolarExpress5{"polar-express-5", schedule_steps::kPolarExpress5, 1.02};
inline constexpr PolarSchedule kPolarExpress6{"polar-express-6",
                                              std::span(schedule_steps::kPolarExpress).first<6>(), 1.01};
inline constexpr PolarSchedule kPolarExpress7{"polar-express-7",
                                              std::span(schedule_steps::kPolarExpress).first<7>(), 1.01};
inline constexpr PolarSchedule kPolarExpress8{"polar-express-8", schedule_steps::kPolarExpress, 1.01};

inline constexpr std::array kPolarSchedules = {
    kExact,         kKellerJordan5, kSimpleQuintic12, kCans12,     kPolarExpress5, kPolarExpress6,
    kPolarExpress7, kPolarExpress8, kExactHalley,     kExactEigen, kExactSvd};

/// Singular values of an exact polar factor below this share of the largest are zero, not amplified noise:
/// 2^-21 = 4.8e-7 for float32 input (four units in its last place, the resolution it was stored with),
/// max(rows, cols) 2^-52 for float64.
double polar_cut(const ConstMatrixView& gradient);

/// direction <- U V' where gradient = U S V' (thin; wide matrices through their transpose).
/// polar(c G) = polar(G) for c > 0, polar(G') = polar(G)', polar(0) = 0. Shapes m x n, float32 or float64,
/// equal types; the two may share memory. A schedule: each singular value goes through its steps. Exact:
/// singular values at or below polar_cut give zero, and `exact` takes
///   exact-svd     for float64: a singular value decomposition, in float64;
///   exact-halley  for float32 of a condition number that turns out to be at most 3e5: a Cholesky factor and
///                 the dynamically weighted Halley iteration, in float64 until the matrix is well
///                 conditioned, then in float32, with an error below 2e-5;
///   exact-eigen   for the other float32: the eigen-decomposition of the Gram matrix in float64, exact to
///                 rounding up to condition numbers of 1e5 and to 1e-4 at 1e6.
/// On a backend that is asynchronous() (a GPU) `exact` of float32 is polar-express-7 in the backend's
/// product_type, because a factorisation would make the host wait: in float16 singular values above 1e-2 of
/// the largest come out within 5e-3 of 1, none above 1.01, and elements are off by up to 1e-2; those below
/// about 1e-3 |G|_F stay small. There every schedule of a clearly tall matrix goes over its Gram matrix, and
/// NaN goes through. Where exact-halley is asked for and that number is too large or the type is float64,
/// exact-eigen takes its place. Throws std::invalid_argument where shapes or types differ and, for the exact
/// factor, where an element is not finite; under a schedule NaN goes through.
void polar(Backend& backend, ConstMatrixView gradient, const PolarSchedule& schedule, MatrixView direction);

}  // namespace aurora
