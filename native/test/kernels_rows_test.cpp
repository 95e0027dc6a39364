// The numbers of the row functions that have CPU kernels of our own, each against a float64 reference written here,
// over random shapes, layouts and values, on the instruction set that MLXK_CPU_ISA names.

#include "kernel_arrays.h"

using namespace mlxk;
using namespace mlxk::test;

TEST("rms_norm") {
  claim_thread();
  Random random{1};
  for (int n = 0; n < trials(250); ++n) {
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
  for (int n = 0; n < trials(250); ++n) {
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

TEST("rope") {
  claim_thread();
  Random random{5};
  for (int n = 0; n < trials(250); ++n) {
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

TEST("layer_norm") {
  claim_thread();
  Random random{7};
  for (int n = 0; n < trials(250); ++n) {
    const Type type = random.pick(kTypes);
    const int width = random.pick(kWidths);
    const float eps = random.pick(std::vector<float>{1e-6f, 1e-5f, 1e-2f});
    const bool has_weight = !random.one_in(4), has_bias = !random.one_in(4);
    const Array x = make(random, any_rows(random, width), type, any_values(random, type));
    const Array weight = has_weight ? make(random, {width}, type) : Array();
    const Array bias = has_bias ? make(random, {width}, type) : Array();
    const std::vector<double> xs = read(x), ones(static_cast<size_t>(width), 1), none(static_cast<size_t>(width), 0);
    const std::vector<double> ws = has_weight ? read(weight) : ones, bs = has_bias ? read(bias) : none;
    Expected want;
    for (size_t row = 0; row < xs.size(); row += ws.size()) {
      double mean = 0, squares = 0, size = 0;
      for (size_t i = 0; i < ws.size(); ++i) mean += xs[row + i] / width;
      for (size_t i = 0; i < ws.size(); ++i) {
        squares += (xs[row + i] - mean) * (xs[row + i] - mean);
        size = std::max(size, std::fabs(xs[row + i]));
      }
      const double scale = 1 / std::sqrt(squares / width + static_cast<double>(eps));
      for (size_t i = 0; i < ws.size(); ++i) {
        want.add((xs[row + i] - mean) * scale * ws[i] + bs[i], size * scale * std::fabs(ws[i]) + std::fabs(bs[i]));
      }
    }
    compare(mx::layer_norm(x, weight, bias, eps), x.shape(), type, want, "layer_norm of " + text_of(x));
  }
}

TEST("softmax") {
  claim_thread();
  Random random{8};
  for (int n = 0; n < trials(250); ++n) {
    const Type type = random.pick(kTypes);
    const int width = random.pick(kWidths);
    const Array x = make(random, any_rows(random, width), type, any_values(random, type));
    const std::vector<double> xs = read(x);
    Expected want;
    const auto columns = static_cast<size_t>(width);
    for (size_t row = 0; row < xs.size(); row += columns) {
      double most = -std::numeric_limits<double>::infinity(), total = 0;
      for (size_t i = 0; i < columns; ++i) most = std::isnan(xs[row + i]) ? xs[row + i] : std::max(most, xs[row + i]);
      for (size_t i = 0; i < columns; ++i) total += std::exp(xs[row + i] - most);
      for (size_t i = 0; i < columns; ++i) {
        if (std::any_of(xs.begin() + static_cast<long>(row), xs.begin() + static_cast<long>(row + columns),
                        [](double v) { return std::isnan(v); })) {
          want.add(std::numeric_limits<double>::quiet_NaN());
        } else {
          want.add(std::exp(xs[row + i] - most) / total);
        }
      }
    }
    compare(mx::softmax(x, -1), x.shape(), type, want, "softmax of " + text_of(x));
  }
}

TEST("gelu gates") {
  claim_thread();
  Random random{9};
  for (int n = 0; n < trials(250); ++n) {
    const Type type = random.pick(kTypes);
    const Shape shape = any_rows(random, random.pick(kWidths));
    const bool approximate = random.one_in(2);
    const Array gate = make(random, shape, type, any_values(random, type)), up = make(random, shape, type);
    const std::vector<double> gates = read(gate), ups = read(up);
    Expected want;
    for (size_t i = 0; i < gates.size(); ++i) {
      const double x = gates[i], inner = std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
      const double gelu = approximate ? 0.5 * x * (1 + std::tanh(inner)) : 0.5 * x * (1 + std::erf(x / std::sqrt(2)));
      want.add(gelu * ups[i], std::fabs(x * ups[i]));  // near -2 the two terms nearly cancel
    }
    const Array got = mx::fused_geglu(gate, up, approximate);
    if (got) compare(got, shape, type, want, "gelu of " + text_of(gate));
  }
}

TEST("gate of gpt-oss") {
  claim_thread();
  Random random{23};
  for (int n = 0; n < 150; ++n) {
    const Type type = random.pick(kTypes);
    const Shape shape = any_rows(random, random.pick(kWidths));
    const auto wide = [&] { return mx::astype(make(random, shape, Type::f32, any_values(random, type)) * 6.0f, type); };
    const Array gate = wide(), up = wide();
    const std::vector<double> gates = read(gate), ups = read(up);
    Expected want;
    for (size_t i = 0; i < gates.size(); ++i) {
      const double held = gates[i] > 7 ? 7 : gates[i], clipped = ups[i] > 7 ? 7 : ups[i] < -7 ? -7 : ups[i];
      const double weight = held / (1 + std::exp(-1.702 * held));
      // Of very negative gates the sigmoid is smaller than float32 resolves.
      want.add(weight * (clipped + 1), std::fabs(weight * (std::fabs(clipped) + 1)) * (1 + std::fabs(held)));
    }
    const Array got = mx::fused_clipped_silu(gate, up);
    if (got) compare(got, shape, type, want, "gate of " + text_of(gate));
  }
}

TEST("sums of equal shapes") {
  claim_thread();
  Random random{10};
  for (int n = 0; n < trials(250); ++n) {
    const Type type = random.pick(kTypes);
    const Shape shape = any_rows(random, random.pick(kWidths));
    const Array a = make(random, shape, type, any_values(random, type)), b = make(random, shape, type);
    const std::vector<double> as = read(a), bs = read(b);
    Expected want;
    for (size_t i = 0; i < as.size(); ++i) want.add(as[i] + bs[i]);
    compare(a + b, shape, type, want, "sum of " + text_of(a));
  }
}

TEST("argmax takes the first of the largest") {
  claim_thread();
  Random random{11};
  for (int n = 0; n < trials(250); ++n) {
    const Type type = random.pick(kTypes);
    const int width = random.one_in(10) ? 150001 : random.pick(kWidths);
    const Shape shape{1 + static_cast<int>(random.below(3)), width};
    std::vector<float> values(count(shape));
    const bool few_values = random.one_in(2);
    for (float& v : values) {
      v = few_values ? static_cast<float>(random.below(3)) : static_cast<float>(uniform(random, -9, 9));
      if (random.one_in(50)) v = -std::numeric_limits<float>::infinity();
    }
    if (random.one_in(8)) values.assign(values.size(), -std::numeric_limits<float>::infinity());
    const Array x = mx::astype(mx::from_floats(values, shape), type);
    const std::vector<double> xs = read(x);
    const Array got = mx::argmax(x, -1);
    mx::eval({got});
    for (int row = 0; row < shape[0]; ++row) {
      const auto first = xs.begin() + int64_t{row} * width;
      CHECK_EQ(got.u32()[static_cast<size_t>(row)], std::max_element(first, first + width) - first);
    }
  }
}
