#include "bench_inputs.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>

namespace aurora::cli {

namespace {

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : engine_(seed) {}
  float normal() { return static_cast<float>(normal_(engine_)); }
  float lognormal(float mean, float deviation) { return std::exp(mean + deviation * normal()); }
  float student(int degrees) {
    const float numerator = normal();
    float squares = 0;
    for (int i = 0; i < degrees; ++i) squares += std::pow(normal(), 2.0F);
    return numerator / std::sqrt(squares / static_cast<float>(degrees));
  }
  std::size_t index(std::size_t count) {
    return std::uniform_int_distribution<std::size_t>(0, count - 1)(engine_);
  }
  bool with_probability(float share) {
    return std::bernoulli_distribution(static_cast<double>(share))(engine_);
  }
  /// An index below `weights`' size, as likely as its weight.
  std::size_t weighted(const std::vector<double>& weights) {
    return std::discrete_distribution<std::size_t>(weights.begin(), weights.end())(engine_);
  }

 private:
  std::mt19937_64 engine_;
  std::normal_distribution<double> normal_;
};

/// Gaussian rows of standard deviation (j + 1)^-power in column j.
std::vector<float> gaussian(Draw& draw, std::size_t rows, std::size_t cols, float power) {
  std::vector<float> x(rows * cols);
  std::vector<float> deviation(cols);
  for (std::size_t j = 0; j < cols; ++j) deviation[j] = std::pow(static_cast<float>(j + 1), -power);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = draw.normal() * deviation[i % cols];
  return x;
}

template <class Length>
void scale_rows(std::vector<float>& x, std::size_t cols, Length&& length) {
  for (auto row = x.begin(); row != x.end(); row += static_cast<std::ptrdiff_t>(cols)) {
    const float factor = length();
    std::for_each(row, row + static_cast<std::ptrdiff_t>(cols), [&](float& value) { value *= factor; });
  }
}

/// x <- x H for some reflections H: the spectrum no longer lies along the axes.
void rotate(Draw& draw, std::vector<float>& x, std::size_t cols) {
  for (int reflection = 0; reflection < 3; ++reflection) {
    const std::vector<float> v = gaussian(draw, 1, cols, 0);
    float squares = 0;
    for (const float value : v) squares += value * value;
    for (std::size_t row = 0; row < x.size(); row += cols) {
      float dot = 0;
      for (std::size_t j = 0; j < cols; ++j) dot += x[row + j] * v[j];
      for (std::size_t j = 0; j < cols; ++j) x[row + j] -= 2 * dot / squares * v[j];
    }
  }
}

std::vector<float> clustered(Draw& draw, std::size_t rows, std::size_t cols) {
  constexpr std::size_t kClusters = 48;
  std::vector<double> popularity;
  for (std::size_t k = 1; k <= kClusters; ++k) popularity.push_back(1.0 / static_cast<double>(k));
  const auto centres = gaussian(draw, kClusters, cols, 0.5F);
  auto x = gaussian(draw, rows, cols, 0.5F);
  for (std::size_t i = 0; i < rows; ++i) {
    const std::size_t centre = draw.weighted(popularity);
    const float strength = draw.lognormal(0, 0.5F);
    for (std::size_t j = 0; j < cols; ++j)
      x[i * cols + j] = 0.1F * x[i * cols + j] + strength * centres[centre * cols + j];
  }
  scale_rows(x, cols, [&] { return draw.lognormal(0, 1); });
  return x;
}

std::vector<float> sparse(Backend& backend, Draw& draw, std::size_t rows, std::size_t cols) {
  constexpr std::size_t kTokens = 4096;
  const auto activations = gaussian(draw, kTokens, cols, 0.6F);
  std::vector<float> slopes(rows * kTokens, 0.0F), x(rows * cols);
  for (std::size_t i = 0; i < rows; ++i) {
    const float rate = std::clamp(draw.lognormal(-4.5F, 1.5F), 2.0F / kTokens, 0.5F);
    for (std::size_t t = 0; t < kTokens; ++t)
      if (draw.with_probability(rate)) slopes[i * kTokens + t] = draw.student(4);
    slopes[i * kTokens + draw.index(kTokens)] += 1;  // no row is exactly dead
  }
  const auto m = static_cast<Index>(rows), n = static_cast<Index>(cols), k = Index{kTokens};
  backend.multiply(1.0, row_major(slopes.data(), m, k), row_major(activations.data(), k, n), 0.0,
                   row_major(x.data(), m, n));
  return x;
}

}  // namespace

std::vector<float> family_matrix(Backend& backend, std::string_view family, Index rows, Index cols,
                                 std::uint64_t seed) {
  Draw draw(seed);
  const auto m = static_cast<std::size_t>(rows), n = static_cast<std::size_t>(cols);
  std::vector<float> x;
  if (family == "gauss") {
    x = gaussian(draw, m, n, 0);
  } else if (family == "pow1+logn") {
    x = gaussian(draw, m, n, 1);
    scale_rows(x, n, [&] { return draw.lognormal(0, 1); });
  } else if (family == "pow.5+t2") {
    x = gaussian(draw, m, n, 0.5F);
    scale_rows(x, n, [&] { return std::abs(draw.student(2)); });
  } else if (family == "clustered") {
    x = clustered(draw, m, n);
  } else if (family == "sparse") {
    x = sparse(backend, draw, m, n);
  } else {
    throw std::invalid_argument(
        fmt::format("--family must be one of {}: {}", fmt::join(kFamilies, ", "), family));
  }
  rotate(draw, x, n);
  backend.normalize(row_major(static_cast<const float*>(x.data()), rows, cols),
                    row_major(x.data(), rows, cols));
  return x;
}

}  // namespace aurora::cli
