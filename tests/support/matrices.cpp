#include "support/matrices.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <numbers>
#include <numeric>
#include <stdexcept>

namespace aurora::test {

Matrix identity(Index n) { return diagonal(std::vector<double>(static_cast<std::size_t>(n), 1.0)); }

Matrix diagonal(const std::vector<double>& entries) {
  const auto n = static_cast<Index>(entries.size());
  Matrix x{n, n};
  for (Index i = 0; i < n; ++i) x(i, i) = entries[static_cast<std::size_t>(i)];
  return x;
}

Matrix transposed(const Matrix& x) {
  Matrix y{x.cols, x.rows, x.batch};
  for (Index b = 0; b < x.batch; ++b) {
    for (Index i = 0; i < x.rows; ++i) {
      for (Index j = 0; j < x.cols; ++j) y(j, i, b) = x(i, j, b);
    }
  }
  return y;
}

Matrix product(const Matrix& a, const Matrix& b) {
  Matrix c{a.rows, b.cols};
  std::vector<long double> row(static_cast<std::size_t>(b.cols));
  for (Index i = 0; i < a.rows; ++i) {
    std::fill(row.begin(), row.end(), 0.0L);
    for (Index k = 0; k < a.cols; ++k) {
      const long double factor = a(i, k);
      for (Index j = 0; j < b.cols; ++j) row[static_cast<std::size_t>(j)] += factor * b(k, j);
    }
    for (Index j = 0; j < b.cols; ++j) c(i, j) = static_cast<double>(row[static_cast<std::size_t>(j)]);
  }
  return c;
}

Matrix scaled(double factor, const Matrix& x) {
  Matrix y = x;
  for (double& value : y.values) value *= factor;
  return y;
}

Matrix sum(double a, const Matrix& x, double b, const Matrix& y) {
  Matrix z = x;
  for (std::size_t k = 0; k < z.values.size(); ++k) z.values[k] = a * x.values[k] + b * y.values[k];
  return z;
}

Matrix matrix_of(const Matrix& batch, Index index) {
  const auto size = batch.rows * batch.cols;
  const auto begin = batch.values.begin() + index * size;
  return {batch.rows, batch.cols, 1, {begin, begin + size}};
}

Matrix stacked(const std::vector<Matrix>& matrices) {
  Matrix batch{matrices.front().rows, matrices.front().cols, static_cast<Index>(matrices.size()), {}};
  for (const Matrix& x : matrices) batch.values.insert(batch.values.end(), x.values.begin(), x.values.end());
  return batch;
}

double largest(const Matrix& x) {
  return std::accumulate(x.values.begin(), x.values.end(), 0.0,
                         [](double most, double value) { return std::max(most, std::abs(value)); });
}

double frobenius(const Matrix& x) {
  long double squares = 0;
  for (const double value : x.values) squares += static_cast<long double>(value) * value;
  return static_cast<double>(std::sqrt(squares));
}

std::uint64_t Random::bits() {  // splitmix64
  state_ += 0x9E3779B97F4A7C15u;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

double Random::uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }

double Random::normal() {
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

Index Random::integer(Index first, Index last) {
  return first + static_cast<Index>(bits() % static_cast<std::uint64_t>(last - first + 1));
}

Matrix gaussian(Random& random, Index rows, Index cols, Index batch) {
  Matrix x{rows, cols, batch};
  for (double& value : x.values) value = random.normal();
  return x;
}

Matrix integers(Random& random, Index rows, Index cols, Index first, Index last) {
  Matrix x{rows, cols};
  for (double& value : x.values) value = static_cast<double>(random.integer(first, last));
  return x;
}

Matrix orthonormal(Random& random, Index rows, Index cols) {
  Matrix q = gaussian(random, rows, cols);
  for (Index j = 0; j < cols; ++j) {
    for (int pass = 0; pass < 2; ++pass) {  // Gram-Schmidt twice is enough
      for (Index k = 0; k < j; ++k) {
        double overlap = 0;
        for (Index i = 0; i < rows; ++i) overlap += q(i, j) * q(i, k);
        for (Index i = 0; i < rows; ++i) q(i, j) -= overlap * q(i, k);
      }
    }
    double squares = 0;
    for (Index i = 0; i < rows; ++i) squares += q(i, j) * q(i, j);
    for (Index i = 0; i < rows; ++i) q(i, j) /= std::sqrt(squares);
  }
  return q;
}

Matrix conditioned(Random& random, Index rows, Index cols, double condition) {
  if (rows < cols) return transposed(conditioned(random, cols, rows, condition));
  Matrix u = orthonormal(random, rows, cols);
  for (Index j = 0; j < cols; ++j) {
    const double exponent = cols == 1 ? 0 : static_cast<double>(j) / static_cast<double>(cols - 1);
    for (Index i = 0; i < rows; ++i) u(i, j) *= std::pow(condition, -exponent);
  }
  return product(u, transposed(orthonormal(random, cols, cols)));
}

Matrix uneven_rows(Random& random, Index rows, Index cols, double spread) {
  Matrix x = gaussian(random, rows, cols);
  for (Index i = 0; i < rows; ++i) {
    const double length = std::exp(spread * random.normal());
    for (Index j = 0; j < cols; ++j) x(i, j) *= length;
  }
  return x;
}

Svd svd(const Matrix& x) {
  if (x.rows < x.cols) {
    Svd swapped = svd(transposed(x));
    return {swapped.v, swapped.s, swapped.u};
  }
  // Columns as rows, so that the rotations walk along memory.
  Matrix a = transposed(x), v = identity(x.cols);
  const Index m = x.rows, n = x.cols;
  const auto rotate = [](double* p, double* q, Index count, double c, double s) {
    for (Index k = 0; k < count; ++k) {
      const double old = p[k];
      p[k] = c * old - s * q[k];
      q[k] = s * old + c * q[k];
    }
  };
  bool rotated = true;
  for (int sweep = 0; sweep < 40 && rotated; ++sweep) {
    rotated = false;
    for (Index p = 0; p + 1 < n; ++p) {
      for (Index q = p + 1; q < n; ++q) {
        double* const ap = &a(p, 0);
        double* const aq = &a(q, 0);
        double pp = 0, qq = 0, pq = 0;
        for (Index k = 0; k < m; ++k) {
          pp += ap[k] * ap[k];
          qq += aq[k] * aq[k];
          pq += ap[k] * aq[k];
        }
        if (std::abs(pq) <= 1e-15 * std::sqrt(pp * qq)) continue;
        rotated = true;
        const double zeta = (qq - pp) / (2 * pq);
        const double t = std::copysign(1.0, zeta) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));
        const double c = 1 / std::sqrt(1 + t * t);
        rotate(ap, aq, m, c, c * t);
        rotate(&v(p, 0), &v(q, 0), n, c, c * t);
      }
    }
  }
  std::vector<double> lengths(static_cast<std::size_t>(n));
  for (Index j = 0; j < n; ++j) {
    double squares = 0;
    for (Index k = 0; k < m; ++k) squares += a(j, k) * a(j, k);
    lengths[static_cast<std::size_t>(j)] = std::sqrt(squares);
  }
  std::vector<Index> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), Index{0});
  std::sort(order.begin(), order.end(), [&](Index i, Index j) {
    return lengths[static_cast<std::size_t>(i)] > lengths[static_cast<std::size_t>(j)];
  });
  Svd result{{m, n}, {}, {n, n}};
  for (Index j = 0; j < n; ++j) {
    const Index from = order[static_cast<std::size_t>(j)];
    const double length = lengths[static_cast<std::size_t>(from)];
    result.s.push_back(length);
    for (Index k = 0; k < m; ++k) result.u(k, j) = length > 0 ? a(from, k) / length : 0;
    for (Index k = 0; k < n; ++k) result.v(k, j) = v(from, k);
  }
  return result;
}

Matrix reference_polar(const Matrix& x, double cut) {
  const double size = largest(x);
  if (size == 0) return {x.rows, x.cols};
  Svd f = svd(scaled(1 / size, x));
  for (std::size_t j = 0; j < f.s.size(); ++j) {
    if (f.s[j] > cut * f.s.front()) continue;
    for (Index i = 0; i < f.u.rows; ++i) f.u(i, static_cast<Index>(j)) = 0;
  }
  return product(f.u, transposed(f.v));
}

double condition_number(const Matrix& x) {
  const Svd f = svd(x);
  return f.s.front() / f.s.back();
}

double unit_roundoff(DType dtype) {
  return dtype == DType::f64 ? 0x1p-53 : dtype == DType::f32 ? 0x1p-24 : 0x1p-8;
}

namespace {

std::uint16_t bf16_bits(double value) {
  const float single = static_cast<float>(value);
  const auto bits = std::bit_cast<std::uint32_t>(single);
  if (std::isnan(single)) return static_cast<std::uint16_t>(bits >> 16 | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

double element(const std::byte* at, DType dtype) {
  switch (dtype) {
    case DType::f64: {
      double value;
      std::memcpy(&value, at, sizeof value);
      return value;
    }
    case DType::f32: {
      float value;
      std::memcpy(&value, at, sizeof value);
      return static_cast<double>(value);
    }
    case DType::bf16: {
      std::uint16_t bits;
      std::memcpy(&bits, at, sizeof bits);
      return static_cast<double>(std::bit_cast<float>(std::uint32_t{bits} << 16));
    }
    case DType::f16:
      break;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

void write_element(double value, DType dtype, std::byte* at) {
  const float single = static_cast<float>(value);
  const std::uint16_t half = bf16_bits(value);
  switch (dtype) {
    case DType::f64:
      std::memcpy(at, &value, sizeof value);
      break;
    case DType::f32:
      std::memcpy(at, &single, sizeof single);
      break;
    case DType::bf16:
      std::memcpy(at, &half, sizeof half);
      break;
    case DType::f16:
      throw std::invalid_argument("No matrix is stored in float16");
  }
}

template <class View>
Index byte_position(const View& view, Index i, Index j, Index b) {
  return (b * view.batch_stride + i * view.row_stride + j * view.col_stride) * byte_size(view.dtype);
}

}  // namespace

Matrix rounded(const Matrix& x, DType dtype) { return values_of(Stored(x, dtype).view()); }

Matrix values_of(const ConstMatrixView& view) {
  Matrix x{view.rows, view.cols, view.batch};
  for (Index b = 0; b < view.batch; ++b) {
    for (Index i = 0; i < view.rows; ++i) {
      for (Index j = 0; j < view.cols; ++j) {
        x(i, j, b) =
            element(static_cast<const std::byte*>(view.data) + byte_position(view, i, j, b), view.dtype);
      }
    }
  }
  return x;
}

Stored::Stored(const Matrix& values, DType dtype, Placement placement) {
  const Index along = (placement.column_major ? values.rows : values.cols) + placement.gap;
  const Index lines = placement.column_major ? values.cols : values.rows;
  layout_ = {nullptr,
             values.rows,
             values.cols,
             placement.column_major ? 1 : along,
             placement.column_major ? along : 1,
             values.batch,
             along * lines + placement.batch_gap,
             dtype};
  const Index elements = placement.offset + layout_.batch_stride * values.batch;
  bytes_.assign(static_cast<std::size_t>(elements * byte_size(dtype)), std::byte{0xFF});
  first_ = static_cast<std::size_t>(placement.offset * byte_size(dtype));
  for (Index b = 0; b < values.batch; ++b) {
    for (Index i = 0; i < values.rows; ++i) {
      for (Index j = 0; j < values.cols; ++j) {
        write_element(values(i, j, b), dtype, bytes_.data() + first_ + byte_position(layout_, i, j, b));
      }
    }
  }
}

MatrixView Stored::view() {
  MatrixView view = layout_;
  view.data = bytes_.data() + first_;
  return view;
}

ConstMatrixView Stored::view() const {
  ConstMatrixView view = layout_;
  view.data = bytes_.data() + first_;
  return view;
}

Matrix Stored::values() const { return values_of(view()); }

bool Stored::padding_is_untouched() const {
  std::vector<bool> used(bytes_.size(), false);
  for (Index b = 0; b < layout_.batch; ++b) {
    for (Index i = 0; i < layout_.rows; ++i) {
      for (Index j = 0; j < layout_.cols; ++j) {
        const auto begin = static_cast<std::ptrdiff_t>(first_) + byte_position(layout_, i, j, b);
        std::fill_n(used.begin() + begin, byte_size(layout_.dtype), true);
      }
    }
  }
  for (std::size_t k = 0; k < bytes_.size(); ++k) {
    if (!used[k] && bytes_[k] != std::byte{0xFF}) return false;
  }
  return true;
}

}  // namespace aurora::test
