// The numbers of the operations that have CPU kernels of our own, each against a float64 reference written here, over
// random shapes, layouts and values, on the instruction set that MLXK_CPU_ISA names.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "check.h"
#include "mx.h"
#include "random.h"

using namespace mlxk;
using mx::Shape;
using mx::Type;
using test::Random;

namespace {

const std::vector<int> kWidths{1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 80, 127, 128, 129, 200};
const std::vector<Type> kTypes{Type::f32, Type::f32, Type::bf16, Type::bf16, Type::f16};

// Kept to the end: MLX lets a thread be claimed once. CTest runs this program for every instruction set there is and
// takes 77 for an answer where the processor lacks it.
void claim_thread() {
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

size_t count(const Shape& shape) {
  size_t n = 1;
  for (int d : shape) n *= static_cast<size_t>(d);
  return n;
}

std::string text_of(const Array& a) {
  std::string text = mx::type_name(a.dtype());
  for (size_t i = 0; i < a.shape().size(); ++i) text += (i ? "x" : " ") + std::to_string(a.dim(static_cast<int>(i)));
  return text;
}

// The elements of an array of any layout and type, in row-major order.
std::vector<double> read(const Array& a) {
  const Array dense = mx::contiguous(mx::astype(a, Type::f32));
  mx::eval({dense});
  const auto values = dense.f32();
  return {values.begin(), values.end()};
}

// --- inputs --------------------------------------------------------------------------------------------------------

enum class Values { ordinary, zero, denormal, large, one_nan };

Values any_values(Random& random, Type type) {
  if (type == Type::f16) return random.pick(std::vector<Values>{Values::ordinary, Values::zero, Values::one_nan});
  return random.pick(std::vector<Values>{Values::ordinary, Values::ordinary, Values::ordinary, Values::zero,
                                         Values::denormal, Values::large, Values::one_nan});
}

double uniform(Random& random, double low, double high) {
  return low + (high - low) * static_cast<double>(random.next() >> 11) * 0x1p-53;
}

std::vector<float> draw(Random& random, size_t n, Values kind) {
  const double unit = kind == Values::zero ? 0 : kind == Values::denormal ? 1e-39 : kind == Values::large ? 1e15 : 1;
  std::vector<float> values(n);
  for (float& v : values) v = static_cast<float>(unit * uniform(random, -2, 2));
  if (kind == Values::one_nan) values[random.below(n)] = std::numeric_limits<float>::quiet_NaN();
  return values;
}

// What a layout may do to the last axis: some kernels ask that it stay dense.
enum class LastAxis { any, dense };

// An array of `shape` that is dense, a slice of a larger one, or one with two axes swapped.
Array make(Random& random, const Shape& shape, Type type, Values kind = Values::ordinary,
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
Shape any_rows(Random& random, int width) {
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

Tolerance tolerance_of(Type type) {
  if (type == Type::f32) return {0, 1e-5, 1e-42};
  if (type == Type::bf16) return {1.01 * 0x1p-8, 1e-5, 1e-40};  // computed in float32, rounded once
  return {1.01 * 0x1p-11, 1e-5, 0x1p-24};
}

void compare(const Array& result, const Shape& shape, Type type, const Expected& want, const std::string& what) {
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
    if (std::isnan(right) ? std::isnan(got[i]) : std::fabs(got[i] - right) <= allowed) continue;
    std::ostringstream text;
    text << what << " at " << i << ": " << got[i] << " is not " << right << " within " << allowed;
    return test::record(false, __FILE__, __LINE__, text.str());
  }
  test::record(true, __FILE__, __LINE__, what);
}

// From this many rows on, 16-bit numbers may be multiplied as 8-bit integers.
constexpr size_t kIntegerRows = 12;

// The most that rounding x to 127 steps of the largest of its group can change: half a step for every input, times what
// lies between its weight and the middle of its codes.
double rounding_of_integers(const std::vector<double>& x, size_t row, const std::vector<double>& off_middle, size_t o,
                            size_t inputs, size_t group) {
  double change = 0;
  for (size_t first = 0; first < inputs; first += group) {
    double most = 0, weights = 0;
    for (size_t i = first; i < first + group; ++i) {
      most = std::max(most, std::fabs(x[row + i]));
      weights += std::fabs(off_middle[o + i]);
    }
    change += most / 127 / 2 * weights;
  }
  return change;
}

// x [R, I] times the transpose of w [O, I]; `w_sizes` as Expected::sizes.
Expected product(const std::vector<double>& x, const std::vector<double>& w, const std::vector<double>& w_sizes,
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

Shape with_last(Shape shape, int last) {
  shape.back() = last;
  return shape;
}

}  // namespace

TEST("rms_norm") {
  claim_thread();
  Random random{1};
  for (int n = 0; n < 250; ++n) {
    const Type type = random.pick(kTypes);
    const int width = random.pick(kWidths);
    const float eps = random.pick(std::vector<float>{1e-6f, 1e-5f, 1e-2f});
    const Array x = make(random, any_rows(random, width), type, any_values(random, type));
    const Array weight = make(random, {width}, type);
    const std::vector<double> xs = read(x), ws = read(weight);
    Expected want;
    for (size_t row = 0; row < xs.size(); row += ws.size()) {
      double squares = 0;
      for (size_t i = 0; i < ws.size(); ++i) squares += xs[row + i] * xs[row + i];
      const double scale = 1 / std::sqrt(squares / width + static_cast<double>(eps));
      for (size_t i = 0; i < ws.size(); ++i) want.add(xs[row + i] * scale * ws[i]);
    }
    compare(mx::rms_norm(x, weight, eps), x.shape(), type, want, "rms_norm of " + text_of(x));
  }
}

TEST("swiglu") {
  claim_thread();
  Random random{2};
  for (int n = 0; n < 250; ++n) {
    const Type type = random.pick(kTypes);
    const Shape shape = any_rows(random, random.pick(kWidths));
    const Array gate = make(random, shape, type, any_values(random, type));
    const Array up = make(random, shape, type, any_values(random, type));
    const std::vector<double> gates = read(gate), ups = read(up);
    Expected want;
    for (size_t i = 0; i < gates.size(); ++i) {
      const double value = gates[i] / (1 + std::exp(-gates[i])) * ups[i];
      want.add(value, std::fabs(value) + 1e-39 * std::fabs(ups[i]));  // silu(gate) may be denormal, and so lose digits
    }
    compare(mx::swiglu(gate, up), shape, type, want, "swiglu of " + text_of(gate));
  }
}

TEST("linear") {
  claim_thread();
  Random random{3};
  for (int n = 0; n < 250; ++n) {
    const Type type = random.pick(kTypes);
    const int inputs = random.pick(kWidths), outputs = 1 + static_cast<int>(random.below(20));
    const Array x = make(random, any_rows(random, inputs), type, any_values(random, type));
    const Array w = make(random, {outputs, inputs}, type, Values::ordinary, LastAxis::dense);
    std::vector<double> ws = read(w), sizes = ws;
    for (double& size : sizes) size = std::fabs(size);
    compare(mx::linear(x, w), with_last(x.shape(), outputs), type,
            product(read(x), ws, sizes, static_cast<size_t>(inputs)), "linear of " + text_of(x) + ", " + text_of(w));
  }
}

TEST("quantized_matmul") {
  claim_thread();
  Random random{4};
  for (int n = 0; n < 250; ++n) {
    const Type type = random.pick(kTypes);
    const int bits = 1 << (1 + random.below(3)), group = 32 << random.below(3);
    const int groups = 1 + static_cast<int>(random.below(4)), inputs = groups * group;
    const int outputs = 1 + static_cast<int>(random.below(20)), per_word = 32 / bits;
    const Array x = make(random, any_rows(random, inputs), type, any_values(random, type));
    const auto draw_groups = [&](double low, double high) {
      std::vector<float> values(static_cast<size_t>(outputs * groups));
      for (float& v : values) v = static_cast<float>(uniform(random, low, high));
      return mx::astype(mx::from_floats(values, {outputs, groups}), type);
    };
    const Array scales = draw_groups(-0.1, 0.1), biases = draw_groups(-1, 1);
    const std::vector<double> s = read(scales), b = read(biases);

    std::vector<uint32_t> words(static_cast<size_t>(outputs * inputs / per_word));
    std::vector<double> weights, sizes, off_middle;
    for (size_t i = 0; i < static_cast<size_t>(outputs * inputs); ++i) {
      const auto code = static_cast<uint32_t>(random.below(uint64_t{1} << bits));
      const size_t in_word = i % static_cast<size_t>(per_word), g = i / static_cast<size_t>(group);
      words[i / static_cast<size_t>(per_word)] |= code << (in_word * static_cast<size_t>(bits));
      weights.push_back(code * s[g] + b[g]);
      sizes.push_back(std::fabs(code * s[g]) + std::fabs(b[g]));
      off_middle.push_back((static_cast<double>(code) - (1 << (bits - 1))) * s[g]);
    }
    const Array w = mx::from_ids(words, {outputs, inputs / per_word});
    const std::vector<double> xs = read(x);
    Expected want = product(xs, weights, sizes, static_cast<size_t>(inputs));
    if (type != Type::f32 && xs.size() / static_cast<size_t>(inputs) >= kIntegerRows) {
      for (size_t i = 0; i < want.values.size(); ++i) {
        const size_t row = i / static_cast<size_t>(outputs), o = i % static_cast<size_t>(outputs);
        want.slack.push_back(rounding_of_integers(xs, row * static_cast<size_t>(inputs), off_middle,
                                                  o * static_cast<size_t>(inputs), static_cast<size_t>(inputs),
                                                  static_cast<size_t>(group)));
      }
    }
    compare(mx::quantized_matmul(x, w, scales, biases, {group, bits, "affine"}), with_last(x.shape(), outputs), type,
            want, std::to_string(bits) + " bits by " + std::to_string(group) + " of " + text_of(x));
  }
}

TEST("rope") {
  claim_thread();
  Random random{5};
  for (int n = 0; n < 250; ++n) {
    const Type type = random.pick(kTypes);
    const auto size = [&](uint64_t most) { return 1 + static_cast<int>(random.below(most)); };
    const int batch = size(3), length = size(6), half = size(40), width = 2 * half + (random.one_in(2) ? size(9) : 0);
    const Shape shape = random.one_in(4) ? Shape{batch, length, width} : Shape{batch, size(4), length, width};
    const Array x = make(random, shape, type, any_values(random, type));

    mx::RopeParameters p;
    p.dims = 2 * half;
    p.traditional = random.one_in(2);
    p.scale = random.pick(std::vector<float>{1.0f, 0.5f, 0.125f});
    std::vector<double> frequencies;
    if (random.one_in(2)) {
      p.base = random.pick(std::vector<float>{100.0f, 10000.0f, 500000.0f});
      for (int i = 0; i < half; ++i) frequencies.push_back(std::pow(static_cast<double>(*p.base), -1.0 * i / half));
    } else {
      std::vector<float> periods(static_cast<size_t>(half));
      for (float& period : periods) period = static_cast<float>(uniform(random, 1, 1000));
      p.freqs = mx::from_floats(periods, {half});
      for (float period : periods) frequencies.push_back(1 / static_cast<double>(period));
    }
    const bool offset_per_batch = random.one_in(2);
    std::vector<int32_t> offsets;
    for (int b = 0; b < batch; ++b) {
      const auto any = static_cast<int32_t>(random.below(type == Type::f16 ? 16 : 3000));
      offsets.push_back(b == 0 || offset_per_batch ? any : offsets[0]);
    }

    const std::vector<double> xs = read(x);
    Expected want{xs, xs, {}};
    for (double& s : want.sizes) s = std::fabs(s);
    const auto columns = static_cast<size_t>(width);
    for (size_t row = 0; row < xs.size() / columns; ++row) {
      const int in_batch = offsets[row / (xs.size() / columns / static_cast<size_t>(batch))];
      const double position = static_cast<double>(p.scale) * (in_batch + static_cast<int>(row) % length);
      for (int i = 0; i < half; ++i) {
        const size_t a = row * columns + static_cast<size_t>(p.traditional ? 2 * i : i);
        const size_t b = a + static_cast<size_t>(p.traditional ? 1 : half);
        const double angle = position * frequencies[static_cast<size_t>(i)];
        const double c = std::cos(angle), s = std::sin(angle);
        want.values[a] = xs[a] * c - xs[b] * s;
        want.values[b] = xs[a] * s + xs[b] * c;
        // An angle carries its own rounding error, of float32.
        want.sizes[a] = want.sizes[b] = (std::fabs(xs[a]) + std::fabs(xs[b])) * (1 + 0.2 * angle);
      }
    }
    const Array result =
        offset_per_batch ? mx::rope(x, p, mx::from_ints(offsets, {batch})) : mx::rope(x, p, offsets[0]);
    compare(result, shape, type, want, "rope of " + std::to_string(p.dims) + " in " + text_of(x));
  }
}

TEST("attention of one position") {
  claim_thread();
  Random random{6};
  for (int n = 0; n < 250; ++n) {
    const Type type = random.pick(kTypes);
    const auto size = [&](uint64_t most) { return 1 + static_cast<int>(random.below(most)); };
    const int batch = size(3), groups = size(3), heads = groups * size(4), seen = size(70), width = size(70);
    const int v_width = type != Type::f16 && random.one_in(3) ? size(70) : width;
    const auto kind = [&] {  // scores of large values would have no digit right
      const Values v = any_values(random, type);
      return v == Values::large ? Values::ordinary : v;
    };
    const float scale = random.one_in(4) ? 3.0f : 1 / std::sqrt(static_cast<float>(width));
    const Array q = make(random, {batch, heads, 1, width}, type, kind());
    const Array k = make(random, {batch, groups, seen, width}, type, kind(), LastAxis::dense);
    const Array v = make(random, {batch, groups, seen, v_width}, type, any_values(random, type), LastAxis::dense);
    const std::vector<double> qs = read(q), ks = read(k), vs = read(v);

    Expected want;
    for (int row = 0; row < batch * heads; ++row) {  // row / (heads / groups) counts batches and groups alike
      const size_t cached = static_cast<size_t>(row / (heads / groups) * seen);
      std::vector<double> scores;
      double best = -std::numeric_limits<double>::infinity(), score_size = 0, total = 0;
      for (int t = 0; t < seen; ++t) {
        double score = 0, terms = 0;
        for (int i = 0; i < width; ++i) {
          const size_t key = (cached + static_cast<size_t>(t)) * static_cast<size_t>(width);
          const double term =
              qs[static_cast<size_t>(row * width + i)] * static_cast<double>(scale) * ks[key + static_cast<size_t>(i)];
          score += term;
          terms += std::fabs(term);
        }
        scores.push_back(score);
        best = std::max(best, score);
        score_size = std::max(score_size, terms);
      }
      for (double& score : scores) total += score = std::exp(score - best);
      for (int i = 0; i < v_width; ++i) {
        double sum = 0, terms = 0;
        for (size_t t = 0; t < scores.size(); ++t) {
          const size_t at = (cached + t) * static_cast<size_t>(v_width) + static_cast<size_t>(i);
          const double term = scores[t] / total * vs[at];
          sum += term;
          terms += std::fabs(term);
        }
        want.add(sum, terms * (1 + score_size));
      }
    }
    compare(mx::attention(q, k, v, scale, mx::Mask::none, {}), {batch, heads, 1, v_width}, type, want,
            "attention of " + text_of(q) + " over " + text_of(k) + ", " + text_of(v));
  }
}

TEST("operands that do not fit are refused, not read past their end") {
  claim_thread();
  const auto zeros = [](const Shape& shape) { return mx::zeros(shape, Type::f32); };
  const auto refused = [](auto body) { CHECK_REFUSED((mx::eval({body()}), 0), "mlx_error", "MLX: "); };
  refused([&] { return mx::rms_norm(zeros({2, 8}), zeros({7}), 1e-6f); });
  refused([&] { return mx::linear(zeros({2, 8}), zeros({3, 7})); });
  refused([&] { return mx::swiglu(zeros({2, 8}), zeros({2, 7})); });
  const Array words = mx::zeros({3, 8}, Type::u32);  // 64 inputs of 4 bits
  refused([&] { return mx::quantized_matmul(zeros({2, 32}), words, zeros({3, 1}), zeros({3, 1}), {64, 4, "affine"}); });
  refused([&] { return mx::quantized_matmul(zeros({2, 64}), words, zeros({3, 1}), zeros({3, 2}), {32, 4, "affine"}); });
  const Array q = zeros({1, 4, 1, 8});
  const auto attend = [&](const Shape& k, const Shape& v) {
    return mx::attention(q, zeros(k), zeros(v), 1, mx::Mask::none, {});
  };
  refused([&] { return attend({1, 2, 5, 7}, {1, 2, 5, 8}); });
  refused([&] { return attend({1, 3, 5, 8}, {1, 3, 5, 8}); });
  refused([&] { return attend({1, 2, 5, 8}, {1, 1, 5, 8}); });
  mx::RopeParameters p;
  p.dims = 8;
  p.freqs = zeros({3});
  refused([&] { return mx::rope(zeros({1, 2, 3, 8}), p, 0); });
  p.freqs = {};
  p.base = 100.0f;
  refused([&] { return mx::rope(zeros({2, 2, 3, 8}), p, mx::from_ints(std::vector<int32_t>{1, 2, 3}, {3})); });
}
