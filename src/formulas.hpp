#pragma once

#include <cmath>
#include <cstddef>
#include <type_traits>
#include <variant>

// Every formula on the numbers of rows and elements, once, as a template on the number type T: float and
// double in the loops of the CPU, tensors in ATen. A backend applies them by Backend::apply. Functions that
// take T are found by its type: sqrt, pow, log, exp, max and select(condition, then, otherwise); a condition
// is what comparing numbers gives, and & joins two.
//
// A formula returns One, Two or Three numbers (of arrays of numbers g++ makes no vectors). It has members for
// what is the same for all elements, and kSums: whether its results are summed along rows. Sums over the rows
// of a vector are sums along the one row of its transpose.
namespace aurora {
namespace formulas {

template <class T>
struct One {
  static constexpr std::size_t kSize = 1;
  T first;
};
template <class T>
struct Two {
  static constexpr std::size_t kSize = 2;
  T first, second;
};
template <class T>
struct Three {
  static constexpr std::size_t kSize = 3;
  T first, second, third;
};

template <class T>
requires std::is_floating_point_v<T>
inline T sqrt(T x) { return std::sqrt(x); }
template <class T>
requires std::is_floating_point_v<T>
inline T pow(T x, double exponent) { return std::pow(x, static_cast<T>(exponent)); }
template <class T>
requires std::is_floating_point_v<T>
inline T log(T x) { return std::log(x); }
template <class T>
requires std::is_floating_point_v<T>
inline T exp(T x) { return std::exp(x); }
template <class T>
requires std::is_floating_point_v<T>
inline T max(T x, T y) { return x < y ? y : x; }
template <class T>
requires std::is_floating_point_v<T>
inline T select(bool condition, T then, T otherwise) { return condition ? then : otherwise; }

// ---- The ends of a step.

/// g, m -> M = mu m + (1 - mu) g; B = mu M + (1 - mu) g with Nesterov, else M.
struct Blend {
  static constexpr bool kSums = false;
  double momentum;
  bool nesterov;
  template <class T>
  Two<T> operator()(T g, T m) const {
    const T added = T(1 - momentum) * g;
    const T fresh = added + T(momentum) * m;
    return {fresh, nesterov ? added + T(momentum) * fresh : fresh};
  }
};

/// u, w -> W = keep w - rate u.
struct Update {
  static constexpr bool kSums = false;
  double rate, keep;
  template <class T>
  One<T> operator()(T u, T w) const {
    return {T(-rate) * u + T(keep) * w};
  }
};

/// x -> x.
struct Copy {
  static constexpr bool kSums = false;
  template <class T>
  One<T> operator()(T x) const {
    return {x};
  }
};

/// g, m, v, w -> m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w = (1 - lr wd) w - lr (m / c1) / (sqrt(v /
/// c2) + eps), with c1 = 1 - b1^t and c2 = 1 - b2^t.
struct Adam {
  static constexpr bool kSums = false;
  double lr, beta1, beta2, eps, weight_decay, correction1, correction2;
  template <class T>
  Three<T> operator()(T g, T m, T v, T w) const {
    const T step = T(lr / correction1), root = T(1 / std::sqrt(correction2));
    const T m1 = T(beta1) * m + T(1 - beta1) * g;
    const T v1 = T(beta2) * v + T(1 - beta2) * g * g;
    return {m1, v1, T(1 - lr * weight_decay) * w - step * m1 / (sqrt(v1) * root + T(eps))};
  }
};

// ---- Row balancing: scales d > 0 and leverage scores h in [0, 1] of the rows of diag(d) X.

/// Rows that balancing can move: not a row of zeros, and not alone on its direction, where the leverage is 1
/// whatever the scale.
template <class T>
auto takes_part(T h, T d) {
  constexpr double kAlone = 1 - 1e-6;
  return (d > T(0)) & (h > T(0)) & (h < T(kAlone));
}

/// h, d -> number, sum of sqrt(h) and sum of h of the rows that take part.
struct BalanceSums {
  static constexpr bool kSums = true;
  template <class T>
  Three<T> operator()(T h, T d) const {
    const auto part = takes_part(h, d);
    return {select(part, T(1), T(0)), select(part, sqrt(h), T(0)), select(part, h, T(0))};
  }
};

/// number, sum of sqrt(h), sum of h -> standard deviation / mean of sqrt(h), 0 where no row takes part.
struct Spread {
  static constexpr bool kSums = false;
  template <class T>
  One<T> operator()(T count, T roots, T total) const {
    const T mean = roots / count;
    return {select(count > T(0), sqrt(max(T(0), total / count - mean * mean)) / mean, T(0))};
  }
};

/// h, d, number, sum of h -> d max(1/100, sqrt(r / (1 - r) (1 - h) / h)), r the mean leverage: exact for each
/// row as if the others stood still. The floor, because a leverage next to 1 is mostly rounding error.
struct OddsStep {
  static constexpr bool kSums = false;
  template <class T>
  One<T> operator()(T h, T d, T count, T total) const {
    const T r = total / count;
    return {select(takes_part(h, d), d * max(T(1e-2), sqrt(r / (T(1) - r) * (T(1) - h) / h)), d)};
  }
};

/// h, d, number, sum of h -> d sqrt(r / h): Tyler's fixed-point map.
struct TylerStep {
  static constexpr bool kSums = false;
  template <class T>
  One<T> operator()(T h, T d, T count, T total) const {
    return {select(takes_part(h, d), d * sqrt(total / count / h), d)};
  }
};

/// h, d -> d (r / h)^beta, 0 where h is: the release's step, with r = n/m.
struct ReleaseStep {
  static constexpr bool kSums = false;
  double r, beta;
  template <class T>
  One<T> operator()(T h, T d) const {
    const T ratio = T(r) / h;
    return {select(h > T(0), (beta == 0.5 ? sqrt(ratio) : pow(ratio, beta)) * d, T(0))};
  }
};

/// d, e -> sum of log(d / e) and number of the rows where both are positive.
struct AdoptSums {
  static constexpr bool kSums = true;
  template <class T>
  Two<T> operator()(T d, T e) const {
    const auto both = (d > T(0)) & (e > T(0));
    return {select(both, log(d / e), T(0)), select(both, T(1), T(0))};
  }
};

/// d, e, sum of log(d / e), number -> d for new rows with inverse norms e: with g the geometric mean of d / e,
/// g e where d is 0 or further from it than a factor of 1000, and 0 where e is 0.
struct Adopt {
  static constexpr bool kSums = false;
  template <class T>
  One<T> operator()(T d, T e, T logs, T count) const {
    constexpr double kFactor = 1000;
    const T fresh = select(count > T(0), exp(logs / count), T(1)) * e;
    const auto keep = (fresh > T(0)) & (d <= T(kFactor) * fresh) & (d * T(kFactor) >= fresh);
    return {select(keep, d, fresh)};
  }
};

/// a, b, x, y -> x where a < b, else y.
struct SelectLess {
  static constexpr bool kSums = false;
  template <class T>
  One<T> operator()(T a, T b, T x, T y) const {
    return {select(a < b, x, y)};
  }
};

// ---- NorMuon: h_i = |o_i|^2 of a polar factor O with n columns, v its moving average per element.

/// h, v -> beta2 v + (1 - beta2) h / n.
struct NorMuonMoment {
  static constexpr bool kSums = false;
  double beta2, cols;
  template <class T>
  One<T> operator()(T h, T v) const {
    return {T((1 - beta2) / cols) * h + T(beta2) * v};
  }
};

/// h, v -> |O|^2 and |diag(v)^-1/2 O|^2.
struct NorMuonSums {
  static constexpr bool kSums = true;
  template <class T>
  Two<T> operator()(T h, T v) const {
    return {h, select(v > T(0), h / v, T(0))};
  }
};

/// v, |O|^2, |diag(v)^-1/2 O|^2 -> v^-1/2 |O| / |diag(v)^-1/2 O|, 0 where v is.
struct NorMuonScale {
  static constexpr bool kSums = false;
  template <class T>
  One<T> operator()(T v, T before, T after) const {
    return {select((v > T(0)) & (after > T(0)), sqrt(before / after / v), T(0))};
  }
};

// ---- Roots, 0 where the number is at most cut times `reference`, or 0.

/// x, reference -> sqrt(target / x).
struct InverseRoot {
  static constexpr bool kSums = false;
  double target = 1, cut = 0;
  template <class T>
  One<T> operator()(T x, T reference) const {
    return {select(x > max(T(cut) * reference, T(0)), sqrt(T(target) / x), T(0))};
  }
};

/// x, reference -> x^-1/4.
struct InverseFourthRoot {
  static constexpr bool kSums = false;
  double cut = 0;
  template <class T>
  One<T> operator()(T x, T reference) const {
    return {select(x > max(T(cut) * reference, T(0)), pow(T(1) / x, 0.25), T(0))};
  }
};

/// x, reference -> 1.
struct Above {
  static constexpr bool kSums = false;
  double cut = 0;
  template <class T>
  One<T> operator()(T x, T reference) const {
    return {select(x > max(T(cut) * reference, T(0)), T(1), T(0))};
  }
};

/// x -> sqrt(x), 0 where x < 0.
struct Root {
  static constexpr bool kSums = false;
  template <class T>
  One<T> operator()(T x) const {
    return {sqrt(max(x, T(0)))};
  }
};

/// x, y -> x / y, 0 where y is.
struct Quotient {
  static constexpr bool kSums = false;
  template <class T>
  One<T> operator()(T x, T y) const {
    return {select(y > T(0), x / y, T(0))};
  }
};

/// x -> sum of x.
struct Sum {
  static constexpr bool kSums = true;
  template <class T>
  One<T> operator()(T x) const {
    return {x};
  }
};

// ---- The constrained optimum: rows y_i (S + lam_i I)^-1 with S = diag(s).

/// y, s, lam -> sum of t^2 and of t^2 / (s + lam), t = y / (s + lam).
struct ResolventSums {
  static constexpr bool kSums = true;
  template <class T>
  Two<T> operator()(T y, T s, T lam) const {
    const T inverse = T(1) / (s + lam), term = y * inverse;
    return {term * term, term * term * inverse};
  }
};

/// y, s, lam -> y / (s + lam).
struct Resolvent {
  static constexpr bool kSums = false;
  template <class T>
  One<T> operator()(T y, T s, T lam) const {
    return {y / (s + lam)};
  }
};

/// p, q, x -> max(floor, x + p / q (sqrt(p / target) - 1)): Newton on sum y^2 / (x + c)^2 = target.
struct ResolventNewton {
  static constexpr bool kSums = false;
  double target, floor;
  template <class T>
  One<T> operator()(T p, T q, T x) const {
    const T step = select(q > T(0), p / q * (sqrt(p / T(target)) - T(1)), T(0));
    return {max(T(floor), x + step)};
  }
};

using List =
    std::variant<Blend, Update, Copy, Adam, BalanceSums, Spread, OddsStep, TylerStep, ReleaseStep, AdoptSums,
                 Adopt, SelectLess, NorMuonMoment, NorMuonSums, NorMuonScale, InverseRoot, InverseFourthRoot,
                 Above, Root, Quotient, Sum, ResolventSums, Resolvent, ResolventNewton>;

/// How many arguments and results a formula has: found by calling it.
template <class Formula, class... T>
constexpr std::size_t arity() {
  if constexpr (std::is_invocable_v<Formula, T...>) {
    return sizeof...(T);
  } else {
    return arity<Formula, T..., double>();
  }
}

}  // namespace formulas

/// One of the list; every backend instantiates all of it.
struct Formula {
  formulas::List of;
  template <class F>
  Formula(const F& formula) : of(formula) {}
};

}  // namespace aurora
