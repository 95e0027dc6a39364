// Products in float64, and how far those of dense matrices may be from them.

#pragma once

#include "kernel_arrays.h"

namespace mlxk::test {

// x [R, I] times the transpose of w [O, I]; `w_sizes` as Expected::sizes.
inline Expected product(const std::vector<double>& x, const std::vector<double>& w, const std::vector<double>& w_sizes,
                        size_t inputs) {
  Expected want;
  for (size_t row = 0; row < x.size(); row += inputs) {
    for (size_t o = 0; o < w.size(); o += inputs) {
      double sum = 0, size = 0;
      for (size_t i = 0; i < inputs; ++i) {
        sum += x[row + i] * w[o + i];
        size += std::fabs(x[row + i]) * w_sizes[o + i];
      }
      want.add(sum, size);
    }
  }
  return want;
}

// --- what dense products may round -----------------------------------------------------------------------------------

// Numbers of bfloat16 may be multiplied by an instruction to which what is smaller than this is zero.
constexpr double kLeastOfPairs = 0x1p-126;
// From this many rows on, dense matrices of 16 bits may be multiplied as 16-bit integers with scales by groups.
constexpr size_t kShortRows = 8, kShortGroup = 32;

// Whether such a product rounds to integers on this processor: elsewhere float32 stays as it is.
inline bool rounds_to_shorts(Type x, Type w) {
  const std::string isa = mx::cpu_isa();
  if (w == Type::f32 || (isa != "avx512-vnni" && isa != "avx512-bf16")) return false;
  return isa == "avx512-vnni" || x != Type::bf16 || w != Type::bf16;
}

// The most that rounding changes the product of row `at` of x with row `o` of w: half a step of each operand for every
// input. A step of x leaves its largest number 15 bits, and the sum of a group's sizes 17; one of w its largest 14.
inline double rounding_of_shorts(const std::vector<double>& x, size_t at, const std::vector<double>& w, size_t o,
                                 size_t inputs) {
  double change = 0;
  for (size_t first = 0; first < inputs; first += kShortGroup) {
    const size_t last = std::min(inputs, first + kShortGroup);
    double x_most = 0, x_sum = 0, w_most = 0, w_sum = 0;
    for (size_t i = first; i < last; ++i) {
      const double x_size = std::fabs(x[at + i]), w_size = std::fabs(w[o + i]);
      x_most = std::max(x_most, x_size);
      w_most = std::max(w_most, w_size);
      x_sum += x_size;
      w_sum += w_size;
    }
    const double x_step = std::max(x_most / 32767, x_sum / (0x1p17 - 17)),
                 w_step = std::max(0x1p-126, std::exp2(std::floor(std::log2(w_most)) - 13));
    change += x_step / 2 * w_sum + w_step / 2 * x_sum + x_step * w_step / 4 * static_cast<double>(last - first);
  }
  return change;
}

// What may be added to Expected::slack of each product of x [R, I] with w [O, I].
inline std::vector<double> dense_slack(const std::vector<double>& x, Type x_type, const std::vector<double>& w,
                                       Type w_type, size_t inputs) {
  std::vector<double> slack;
  const double least = w_type == Type::bf16 ? 2 * static_cast<double>(inputs) * kLeastOfPairs : 0;
  const bool rounds = rounds_to_shorts(x_type, w_type);
  for (size_t at = 0; at < x.size(); at += inputs) {
    for (size_t o = 0; o < w.size(); o += inputs) {
      slack.push_back(least + (rounds ? rounding_of_shorts(x, at, w, o, inputs) : 0));
    }
  }
  return slack;
}

inline Expected dense_product(const Array& x, const Array& w) {
  const std::vector<double> xs = read(x), ws = read(w);
  std::vector<double> sizes = ws;
  for (double& size : sizes) size = std::fabs(size);
  const auto inputs = static_cast<size_t>(w.dim(1));
  Expected want = product(xs, ws, sizes, inputs);
  const bool many = xs.size() / inputs >= kShortRows;
  want.slack = dense_slack(xs, x.dtype(), ws, many ? w.dtype() : Type::f32, inputs);
  return want;
}

// --- numbers like those of models
// --------------------------------------------------------------------------------------

// About a normal distribution, of deviation 1.
inline float normal(Random& random) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += uniform(random, 0, 1);
  return static_cast<float>(sum);
}

inline double root_mean_square_error(const Array& y, const Expected& want) {
  const std::vector<double> got = read(y);
  double squares = 0;
  for (size_t i = 0; i < got.size(); ++i) squares += (got[i] - want.values[i]) * (got[i] - want.values[i]);
  return std::sqrt(squares / static_cast<double>(got.size()));
}

}  // namespace mlxk::test
