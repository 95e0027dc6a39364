// What the tests of kernels share: random arrays of any layout, and comparing with a float64 reference.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "check.h"
#include "mx.h"
#include "random.h"

namespace mlxk::test {

using mx::Shape;
using mx::Type;

inline const std::vector<int> kWidths{1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 80, 127, 128, 129, 200};
inline const std::vector<Type> kTypes{Type::f32, Type::f32, Type::bf16, Type::bf16, Type::f16};

// Kept to the end: MLX lets a thread be claimed once. CTest runs this program for every instruction set there is and
// takes 77 for an answer where the processor lacks it.
inline void claim_thread() {
  static const auto* thread = [] {
    try {
      mx::cpu_isa();
    } catch (const EngineError& error) {
      std::printf("skipped: %s\n", error.what());
      std::exit(error.reason == "cpu_isa_unsupported" ? 77 : 1);
    }
    return new mx::Thread(mx::Device::cpu);
  }();
  (void)thread;
}

inline size_t count(const Shape& shape) {
  size_t n = 1;
  for (int d : shape) n *= static_cast<size_t>(d);
  return n;
}

inline std::string text_of(const Array& a) {
  std::string text = mx::type_name(a.dtype());
  for (size_t i = 0; i < a.shape().size(); ++i) text += (i ? "x" : " ") + std::to_string(a.dim(static_cast<int>(i)));
  return text;
}

// The elements of an array of any layout and type, in row-major order.
inline std::vector<double> read(const Array& a) {
  const Array dense = mx::contiguous(mx::astype(a, Type::f32));
  mx::eval({dense});
  const auto values = dense.f32();
  return {values.begin(), values.end()};
}

// --- inputs --------------------------------------------------------------------------------------------------------

enum class Values { ordinary, zero, denormal, large, one_infinity, one_nan };

inline Values any_values(Random& random, Type type) {
  if (type == Type::f16) {
    return random.pick(
        std::vector<Values>{Values::ordinary, Values::ordinary, Values::zero, Values::one_infinity, Values::one_nan});
  }
  return random.pick(std::vector<Values>{Values::ordinary, Values::ordinary, Values::ordinary, Values::zero,
                                         Values::denormal, Values::large, Values::one_infinity, Values::one_nan});
}

inline double uniform(Random& random, double low, double high) {
  return low + (high - low) * static_cast<double>(random.next() >> 11) * 0x1p-53;
}

inline std::vector<float> draw(Random& random, size_t n, Values kind) {
  const double unit = kind == Values::zero ? 0 : kind == Values::denormal ? 1e-39 : kind == Values::large ? 1e15 : 1;
  std::vector<float> values(n);
  for (float& v : values) v = static_cast<float>(unit * uniform(random, -2, 2));
  if (kind == Values::one_nan) values[random.below(n)] = std::numeric_limits<float>::quiet_NaN();
  if (kind == Values::one_infinity) {
    values[random.below(n)] = (random.one_in(2) ? 1.f : -1.f) * std::numeric_limits<float>::infinity();
  }
  return values;
}

// What a layout may do to the last axis: some kernels ask that it stay dense.
enum class LastAxis { any, dense };

// An array of `shape` that is dense, a slice of a larger one, or one with two axes swapped.
inline Array make(Random& random, const Shape& shape, Type type, Values kind = Values::ordinary,
                  LastAxis last = LastAxis::any) {
  const int axes = static_cast<int>(shape.size());
  const auto from = [&](const Shape& s) { return mx::astype(mx::from_floats(draw(random, count(s), kind), s), type); };
  const auto any_axis = [&](int n) { return static_cast<int>(random.below(static_cast<uint64_t>(n))); };
  const uint64_t layout = random.below(3);
  if (layout == 1) {
    const int axis = any_axis(axes), before = any_axis(4), size = shape[static_cast<size_t>(axis)];
    Shape larger = shape;
    larger[static_cast<size_t>(axis)] += before + any_axis(4);
    return mx::slice(from(larger), axis, before, before + size);
  }
  const int movable = last == LastAxis::any ? axes : axes - 1;
  if (layout == 2 && movable > 1) {
    const int a = any_axis(movable), b = any_axis(movable);
    Shape swapped = shape;
    std::swap(swapped[static_cast<size_t>(a)], swapped[static_cast<size_t>(b)]);
    return mx::swapaxes(from(swapped), a, b);
  }
  return from(shape);
}

// One to three axes, the last `width` wide; often a single row.
inline Shape any_rows(Random& random, int width) {
  Shape shape;
  for (uint64_t axes = random.below(3); axes > 0; --axes) {
    shape.push_back(random.one_in(4) ? 1 : 1 + static_cast<int>(random.below(9)));
  }
  if (random.one_in(10)) shape.insert(shape.begin(), 33 + static_cast<int>(random.below(4)));
  shape.push_back(width);
  return shape;
}

// --- comparing -----------------------------------------------------------------------------------------------------

// What is right, and the size of the terms it was summed from, which is what rounding errors are relative to.
struct Expected {
  std::vector<double> values, sizes;
  std::vector<double> slack;  // allowed besides, where there is any

  void add(double value, double size) {
    values.push_back(value);
    sizes.push_back(size);
  }
  void add(double value) { add(value, std::fabs(value)); }
};

struct Tolerance {
  double value, terms, least;  // relative to the result (its own rounding), relative to its terms, absolute
};

inline Tolerance tolerance_of(Type type) {
  if (type == Type::f32) return {0, 1e-5, 1e-42};
  // Rounded once, from float32 or from integers that resolve 2^-16 of the largest operand.
  if (type == Type::bf16) return {1.01 * 0x1p-8, 3e-5, 1e-40};
  return {1.01 * 0x1p-11, 3e-5, 0x1p-24};
}

inline void compare(const Array& result, const Shape& shape, Type type, const Expected& want, const std::string& what) {
  CHECK_EQ(mx::type_name(result.dtype()), mx::type_name(type));
  CHECK(result.shape() == shape);
  const std::vector<double> got = read(result);
  CHECK_EQ(got.size(), want.values.size());
  const Tolerance tolerance = tolerance_of(type);
  for (size_t i = 0; i < std::min(got.size(), want.values.size()); ++i) {
    const double right = want.values[i];
    const double slack = want.slack.empty() ? 0 : want.slack[i];
    const double allowed =
        tolerance.value * (std::fabs(right) + slack) + slack + tolerance.terms * want.sizes[i] + tolerance.least;
    // Beyond the largest float16, which the last rounding makes infinite.
    if (type == Type::f16 && std::isinf(got[i]) && std::fabs(right) + allowed >= 65519 && got[i] * right > 0) continue;
    // Whether infinite terms cancel to no number is a matter of their order.
    if (std::isfinite(right) ? std::fabs(got[i] - right) <= allowed : !std::isfinite(got[i])) continue;
    std::ostringstream text;
    text << what << " at " << i << ": " << got[i] << " is not " << right << " within " << allowed;
    return record(false, __FILE__, __LINE__, text.str());
  }
  record(true, __FILE__, __LINE__, what);
}

inline Shape with_last(Shape shape, int last) {
  shape.back() = last;
  return shape;
}

}  // namespace mlxk::test
