// Products with dense and packed matrices, against a float64 reference over random shapes, layouts, values and formats.

#include "products.h"

using namespace mlxk;
using namespace mlxk::test;

namespace {

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

// A matrix [outputs, inputs] in one of MLX's packed formats, and the numbers it stands for.
struct PackedMatrix {
  mx::QuantizedShape shape;
  Array words, scales, biases;
  std::vector<double> values, sizes, off_middle;
};

double e2m1(uint32_t code) {
  const double sizes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return code & 8 ? -sizes[code & 7] : sizes[code & 7];
}

double e4m3(uint32_t code) {
  const uint32_t exponent = code >> 3 & 15, mantissa = code & 7;
  const double size =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, static_cast<int>(exponent) - 10);
  return code & 0x80 ? -size : size;
}

const std::vector<std::string> kModes{"affine", "affine", "affine", "mxfp4", "mxfp8", "nvfp4"};

// `matrices` of them one after the other; `type` is that of affine scales.
PackedMatrix any_packed(Random& random, Type type, int matrices, int outputs, int groups) {
  PackedMatrix m;
  const std::string mode = random.pick(kModes);
  const bool affine = mode == "affine";
  const int bits = affine ? random.pick(std::vector<int>{2, 3, 4, 5, 6, 8}) : mode == "mxfp8" ? 8 : 4;
  const int group = affine ? 32 << random.below(3) : mode == "nvfp4" ? 16 : 32;
  // Words hold whole groups only where a row has an even number of the short ones.
  if (mode == "nvfp4") groups *= 2;
  m.shape = {group, bits, mode};
  const int inputs = groups * group;
  const auto rows = static_cast<size_t>(matrices * outputs), all_groups = rows * static_cast<size_t>(groups);
  const Shape leading = matrices > 1 ? Shape{matrices, outputs} : Shape{outputs};
  const auto shaped = [&](int last) {
    Shape shape = leading;
    shape.push_back(last);
    return shape;
  };
  std::vector<double> s(all_groups), b(all_groups);
  if (affine) {
    const auto draw_groups = [&](double low, double high) {
      std::vector<float> values(all_groups);
      for (float& v : values) v = static_cast<float>(uniform(random, low, high));
      return mx::astype(mx::from_floats(values, shaped(groups)), type);
    };
    m.scales = draw_groups(-0.1, 0.1);
    m.biases = draw_groups(-1, 1);
    s = read(m.scales);
    b = read(m.biases);
  } else {
    std::vector<uint32_t> codes(all_groups);
    for (size_t i = 0; i < all_groups; ++i) {
      codes[i] = static_cast<uint32_t>(mode == "nvfp4" ? random.below(127) : 120 + random.below(12));
      s[i] = mode == "nvfp4" ? e4m3(codes[i]) : std::ldexp(1, static_cast<int>(codes[i]) - 127);
    }
    m.scales = mx::astype(mx::from_ids(codes, shaped(groups)), Type::u8);
  }
  std::vector<uint32_t> words(rows * static_cast<size_t>(inputs * bits / 32));
  for (size_t i = 0; i < rows * static_cast<size_t>(inputs); ++i) {
    uint32_t code = static_cast<uint32_t>(random.below(uint64_t{1} << bits));
    if (mode == "mxfp8" && (code & 0x7f) == 0x7f) code ^= 1;  // no number
    const size_t bit = i * static_cast<size_t>(bits), g = i / static_cast<size_t>(group);
    words[bit / 32] |= code << bit % 32;
    if (bit % 32 + static_cast<size_t>(bits) > 32) words[bit / 32 + 1] |= code >> (32 - bit % 32);
    const double number = affine ? code : bits == 8 ? e4m3(code) : e2m1(code);
    m.values.push_back(number * s[g] + b[g]);
    m.sizes.push_back(std::fabs(number * s[g]) + std::fabs(b[g]));
    m.off_middle.push_back(affine ? (number - (1 << (bits - 1))) * s[g] : m.values.back());
  }
  m.words = mx::from_ids(words, shaped(inputs * bits / 32));
  return m;
}

template <class T>
std::vector<T> part_of(const std::vector<T>& all, size_t index, size_t size) {
  return {all.begin() + static_cast<long>(index * size), all.begin() + static_cast<long>((index + 1) * size)};
}

// x times one matrix of `m`, with what rounding may change where rows of 16 bits are many.
Expected packed_product(const std::vector<double>& x, const PackedMatrix& m, size_t matrix, size_t inputs,
                        size_t outputs, bool may_round) {
  const size_t size = inputs * outputs;
  Expected want = product(x, part_of(m.values, matrix, size), part_of(m.sizes, matrix, size), inputs);
  if (!may_round) return want;
  const std::vector<double> off_middle = part_of(m.off_middle, matrix, size);
  for (size_t i = 0; i < want.values.size(); ++i) {
    want.slack.push_back(rounding_of_integers(x, i / outputs * inputs, off_middle, i % outputs * inputs, inputs,
                                              static_cast<size_t>(m.shape.group_size)));
  }
  return want;
}

std::string text_of(const mx::QuantizedShape& q) {
  return q.mode + ' ' + std::to_string(q.bits) + " bits by " + std::to_string(q.group_size);
}

}  // namespace

TEST("linear") {
  claim_thread();
  Random random{3};
  for (int n = 0; n < trials(400); ++n) {
    const Type type = random.pick(kTypes), w_type = type == Type::f32 ? random.pick(kTypes) : type;
    const int inputs = random.pick(kWidths), outputs = 1 + static_cast<int>(random.below(20));
    const Array x = make(random, any_rows(random, inputs), type, any_values(random, type));
    const Array w = make(random, {outputs, inputs}, w_type, Values::ordinary, LastAxis::dense);
    compare(mx::linear(x, w), with_last(x.shape(), outputs), type, dense_product(x, w),
            "linear of " + text_of(x) + ", " + text_of(w));
  }
}

TEST("quantized_matmul") {
  claim_thread();
  Random random{4};
  for (int n = 0; n < trials(600); ++n) {
    const Type type = random.pick(kTypes);
    const int outputs = 1 + static_cast<int>(random.below(random.one_in(5) ? 80 : 20));
    const int groups = 1 + static_cast<int>(random.below(random.one_in(5) ? 20 : 4));
    const PackedMatrix m = any_packed(random, type, 1, outputs, groups);
    const int inputs = static_cast<int>(m.values.size()) / outputs;
    const Array x = make(random, any_rows(random, inputs), type, any_values(random, type));
    const std::vector<double> xs = read(x);
    const bool may_round = type != Type::f32 && xs.size() / static_cast<size_t>(inputs) >= kIntegerRows;
    compare(mx::quantized_matmul(x, m.words, m.scales, m.biases, m.shape), with_last(x.shape(), outputs), type,
            packed_product(xs, m, 0, static_cast<size_t>(inputs), static_cast<size_t>(outputs), may_round),
            text_of(m.shape) + " of " + test::text_of(x));
  }
}

TEST("packed matrices that are not contiguous are read as they lie") {
  claim_thread();
  Random random{12};
  for (int n = 0; n < trials(40); ++n) {
    const Type type = random.pick(kTypes);
    const int outputs = 2 + static_cast<int>(random.below(20));
    const PackedMatrix m = any_packed(random, type, 1, 2 * outputs, 2);
    const int inputs = static_cast<int>(m.values.size()) / outputs / 2;
    const auto upper = [&](const Array& a) { return a ? mx::slice(a, 0, outputs, 2 * outputs) : a; };
    const Array x = make(random, {1 + static_cast<int>(random.below(3)), inputs}, type);
    PackedMatrix half = m;
    const size_t size = static_cast<size_t>(inputs * outputs);
    half.values = part_of(m.values, 1, size);
    half.sizes = part_of(m.sizes, 1, size);
    compare(mx::quantized_matmul(x, upper(m.words), upper(m.scales), upper(m.biases), m.shape),
            with_last(x.shape(), outputs), type,
            packed_product(read(x), half, 0, static_cast<size_t>(inputs), static_cast<size_t>(outputs), false),
            "half of " + text_of(m.shape));
  }
}

TEST("experts") {
  claim_thread();
  Random random{13};
  for (int n = 0; n < trials(250); ++n) {
    const Type type = random.pick(kTypes), w_type = type == Type::f32 ? random.pick(kTypes) : type;
    const int outputs = 1 + static_cast<int>(random.below(20)), groups = 1 + static_cast<int>(random.below(3));
    const int experts = 2 + static_cast<int>(random.below(5)), picked = 1 + static_cast<int>(random.below(3));
    const int tokens = random.one_in(3) ? 1 : 1 + static_cast<int>(random.below(60));
    const bool dense = random.one_in(4), each = random.one_in(3);
    PackedMatrix m = any_packed(random, type, experts, outputs, groups);
    const int inputs = static_cast<int>(m.values.size()) / outputs / experts;
    Array weights;
    if (dense) {
      std::vector<float> values(m.values.begin(), m.values.end());
      weights = mx::astype(mx::from_floats(values, {experts, outputs, inputs}), w_type);
      m.values = m.off_middle = read(weights);
      m.sizes = m.values;
      for (double& size : m.sizes) size = std::fabs(size);
    }
    // One row for all experts of a token, or one for each.
    const Array x =
        make(random, {tokens, each ? picked : 1, 1, inputs}, type, any_values(random, type), LastAxis::dense);
    std::vector<uint32_t> indices(static_cast<size_t>(tokens * picked));
    for (uint32_t& index : indices) index = static_cast<uint32_t>(random.below(static_cast<uint64_t>(experts)));
    const Array chosen = mx::from_ids(indices, {tokens, picked});

    const std::vector<double> xs = read(x);
    Expected want;
    for (size_t i = 0; i < indices.size(); ++i) {
      const auto width = static_cast<size_t>(inputs);
      const std::vector<double> x_row = part_of(xs, each ? i : i / static_cast<size_t>(picked), width),
                                matrix = part_of(m.values, indices[i], width * static_cast<size_t>(outputs));
      const Expected row =
          packed_product(x_row, m, indices[i], width, static_cast<size_t>(outputs), type != Type::f32 && !dense);
      want.values.insert(want.values.end(), row.values.begin(), row.values.end());
      want.sizes.insert(want.sizes.end(), row.sizes.begin(), row.sizes.end());
      const std::vector<double> slack = dense ? dense_slack(x_row, type, matrix, w_type, width) : row.slack;
      want.slack.insert(want.slack.end(), slack.begin(), slack.end());
    }
    const Array got = dense ? mx::gather_linear(x, weights, chosen, false)
                            : mx::gather_quantized_linear(x, m.words, m.scales, m.biases, chosen, m.shape, false);
    compare(got, {tokens, picked, 1, outputs}, type, want,
            (dense ? "dense" : text_of(m.shape)) + " experts of " + test::text_of(x));
  }
}

// The error of many rows of bfloat16 in integers, against that of MLX's own kernel, which adds in bfloat16: what makes
// rounding x permissible.
TEST("rounded rows are nearer to the truth than the stock kernel's") {
  claim_thread();
  Random random{18};
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const int group : {32, 64, 128}) {
      const int inputs = 1024, outputs = 32, rows = 24;
      std::vector<float> values(static_cast<size_t>(outputs * inputs)), xs(static_cast<size_t>(rows * inputs));
      for (float& v : values) v = normal(random) * 0.03f;
      for (float& v : xs) v = normal(random);
      const mx::QuantizedShape shape{group, bits, "affine"};
      const auto q = mx::quantize(mx::astype(mx::from_floats(values, {outputs, inputs}), Type::bf16), shape);
      const Array x = mx::astype(mx::from_floats(xs, {rows, inputs}), Type::bf16);
      const std::vector<double> w =
          read(mx::dequantize(mx::astype(q.weight, Type::u32), mx::astype(q.scales, Type::f32),
                              mx::astype(q.biases, Type::f32), shape, Type::f32));
      const Expected want = product(read(x), w, w, static_cast<size_t>(inputs));
      const Array stock = mx::stock_quantized_matmul(x, q.weight, q.scales, q.biases, shape);
      const double ours = root_mean_square_error(mx::quantized_matmul(x, q.weight, q.scales, q.biases, shape), want),
                   theirs = root_mean_square_error(stock, want);
      std::ostringstream text;
      text << bits << " bits by " << group << ": root mean square error " << ours << " against " << theirs;
      test::record(ours < theirs, __FILE__, __LINE__, text.str());
    }
  }
}

TEST("dense rows of bfloat16 are no further from the truth than the stock product's") {
  claim_thread();
  Random random{19};
  for (const int inputs : {129, 1024, 5000}) {
    const int outputs = 40, rows = 27;
    std::vector<float> values(static_cast<size_t>(outputs * inputs)), xs(static_cast<size_t>(rows * inputs));
    for (float& v : values) v = normal(random) * 0.03f;
    for (float& v : xs) v = normal(random);
    const Array w = mx::astype(mx::from_floats(values, {outputs, inputs}), Type::bf16);
    const Array x = mx::astype(mx::from_floats(xs, {rows, inputs}), Type::bf16);
    const std::vector<double> ws = read(w);
    const Expected want = product(read(x), ws, ws, static_cast<size_t>(inputs));
    const double ours = root_mean_square_error(mx::linear(x, w), want),
                 theirs = root_mean_square_error(mx::matmul(x, mx::swapaxes(w, 0, 1)), want);
    std::ostringstream text;
    text << inputs << " inputs: root mean square error " << ours << " against " << theirs;
    // Both are mostly the rounding of results to bfloat16; sums in another order round a few of them otherwise.
    test::record(ours <= 1.01 * theirs, __FILE__, __LINE__, text.str());
  }
}
