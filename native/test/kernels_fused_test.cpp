// Primitives that do the work of several operations: each against a float64 reference, and bit by bit against those
// operations one at a time, over random shapes, formats and values.

#include <numeric>
#include <optional>

#include "products.h"

using namespace mlxk;
using namespace mlxk::test;

namespace {

const std::vector<int> kThreads{1, 4};

Array computed(const Array& a) {
  mx::eval({a});
  return a;
}

void same(const Array& got, const Array& want, const std::string& what) {
  CHECK(got.shape() == want.shape());
  CHECK_EQ(mx::type_name(got.dtype()), mx::type_name(want.dtype()));
  const std::vector<double> a = read(got), b = read(want);
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    return record(false, __FILE__, __LINE__,
                  what + " at " + std::to_string(i) + ": " + std::to_string(a[i]) + " is not " + std::to_string(b[i]));
  }
  record(true, __FILE__, __LINE__, what);
}

// A matrix [outputs, inputs] for rows of `type`: dense, of 16 bits for float32 now and then, or packed.
struct AnyMatrix {
  Array weight, scales, biases;
  std::optional<mx::QuantizedShape> quantized;

  AnyMatrix(Random& random, Type type, int outputs, int inputs) {
    const bool packs = inputs % 64 == 0 && !random.one_in(4);
    const Type own = !packs && random.one_in(2) ? random.pick(kTypes) : type;
    weight = make(random, {outputs, inputs}, type == Type::f32 ? own : type, Values::ordinary, LastAxis::dense);
    if (!packs) return;
    const std::vector<mx::QuantizedShape> shapes{{64, 4, "affine"}, {32, 8, "affine"}, {64, 2, "affine"},
                                                 {32, 3, "affine"}, {32, 4, "mxfp4"},  {16, 4, "nvfp4"}};
    quantized = random.pick(shapes);
    auto packed = mx::quantize(mx::contiguous(weight), *quantized);
    weight = computed(packed.weight);
    scales = computed(packed.scales);
    if (packed.biases) biases = computed(packed.biases);
  }
  mx::MatrixView view() const { return {&weight, &scales, &biases, quantized ? &*quantized : nullptr}; }
  Array times(const Array& x) const {
    return quantized ? mx::quantized_matmul(x, weight, scales, biases, *quantized) : mx::linear(x, weight);
  }
};

int any_inputs(Random& random) {
  return random.one_in(3) ? random.pick(kWidths) : 64 * (1 + static_cast<int>(random.below(6)));
}
// Enough now and then for several threads to take part: half a megabyte of weights.
int any_outputs(Random& random) {
  return random.one_in(12) ? 3000 + static_cast<int>(random.below(2000)) : 1 + static_cast<int>(random.below(90));
}
Array any_few_rows(Random& random, Type type, int inputs) {
  const int rows = random.one_in(2) ? 1 : 1 + static_cast<int>(random.below(9));
  return make(random, {rows, inputs}, type, any_values(random, type));
}

struct Norm {
  Array weight;
  float eps = 1e-5f;
  bool present;
  Norm(Random& random, Type type, int inputs) : present(!random.one_in(3)) {
    if (present && !random.one_in(4)) weight = make(random, {inputs}, type);
  }
  Array operator()(const Array& x) const { return present ? mx::rms_norm(x, weight, eps) : x; }
};

}  // namespace

TEST("products of the same rows, with the norm before them") {
  claim_thread();
  Random random{21};
  for (int n = 0; n < 150; ++n) {
    mx::set_cpu_threads(random.pick(kThreads));
    const Type type = random.pick(kTypes);
    const int inputs = any_inputs(random);
    const Array x = any_few_rows(random, type, inputs);
    const Norm norm(random, type, inputs);
    std::vector<AnyMatrix> matrices;
    for (uint64_t i = 1 + random.below(3); i > 0; --i) matrices.emplace_back(random, type, any_outputs(random), inputs);
    std::vector<mx::MatrixView> views;
    for (const AnyMatrix& m : matrices) views.push_back(m.view());
    const std::vector<Array> got = mx::linears(norm(x), views);
    const Array rows = computed(norm(x));
    CHECK_EQ(got.size(), matrices.size());
    for (size_t i = 0; i < got.size(); ++i) {
      same(got[i], matrices[i].times(rows), "product " + std::to_string(i) + " of " + text_of(x));
      // Of another type it may be multiplied in short integers: kernels_short_products_test.
      if (matrices[i].quantized || matrices[i].weight.dtype() != type) continue;
      compare(got[i], got[i].shape(), type, dense_product(rows, matrices[i].weight), "product of " + text_of(x));
    }
  }
}

TEST("a gate of two products") {
  claim_thread();
  Random random{22};
  for (int n = 0; n < 150; ++n) {
    mx::set_cpu_threads(random.pick(kThreads));
    const Type type = random.pick(kTypes);
    const int inputs = any_inputs(random), outputs = any_outputs(random);
    const Array x = any_few_rows(random, type, inputs);
    const Norm norm(random, type, inputs);
    const AnyMatrix gate(random, type, outputs, inputs), up(random, type, outputs, inputs);
    const Array rows = norm(x), gates = computed(gate.times(rows)), ups = computed(up.times(rows));
    const Array fresh = norm(x);
    const Array got = mx::swiglu(gate.times(fresh), up.times(fresh));
    const std::vector<double> g = read(gates), u = read(ups);
    Expected want;
    for (size_t i = 0; i < g.size(); ++i) {
      const double value = g[i] / (1 + std::exp(-g[i])) * u[i];
      want.add(value);
      want.slack.push_back(1.2e-38 * std::fabs(u[i]));  // what silu of far below zero loses where it is denormal
    }
    compare(got, gates.shape(), type, want, "gate of " + text_of(x));
    same(got, mx::swiglu(gates, ups), "gate of " + text_of(x));
    if (const Array gelu = mx::fused_geglu(gate.times(fresh), up.times(fresh), true)) {
      same(gelu, mx::fused_geglu(gates, ups, true), "gelu of " + text_of(x));
    }
  }
}

TEST("a sum with a product") {
  claim_thread();
  Random random{23};
  for (int n = 0; n < 150; ++n) {
    mx::set_cpu_threads(random.pick(kThreads));
    const Type type = random.pick(kTypes);
    const int inputs = any_inputs(random), outputs = any_outputs(random);
    const Array x = any_few_rows(random, type, inputs);
    const Norm norm(random, type, inputs);
    const AnyMatrix m(random, type, outputs, inputs);
    const Array product = computed(m.times(norm(x)));
    const bool vector = random.one_in(3);
    const Array addend = make(random, vector ? Shape{outputs} : product.shape(), type);
    const Array got = random.one_in(2) ? addend + m.times(norm(x)) : m.times(norm(x)) + addend;
    const std::vector<double> p = read(product), a = read(addend);
    Expected want;
    for (size_t i = 0; i < p.size(); ++i) want.add(p[i] + a[i % a.size()]);
    compare(got, product.shape(), type, want, "sum with a product of " + text_of(x));
    same(got, product + addend, "sum with a product of " + text_of(x));
  }
}

namespace {

// A stack of matrices [experts, outputs, inputs], and their biases now and then.
struct AnyExperts {
  int count;
  AnyMatrix matrices;  // of all experts, one below the other
  Array bias;

  AnyExperts(Random& random, Type type, int experts, int outputs, int inputs, bool biased)
      : count(experts), matrices(random, type, experts * outputs, inputs) {
    if (biased) bias = make(random, {experts, outputs}, type);
  }
  Array stacked(const Array& a) const { return a ? mx::reshape(a, {count, a.dim(0) / count, a.dim(1)}) : a; }
  Array picked(const Array& x, const Array& indices, const Array& with) const {
    const auto& [weight, scales, biases, quantized] = matrices;
    return quantized ? mx::gather_quantized_linear(x, stacked(weight), stacked(scales), stacked(biases), indices,
                                                   *quantized, false, with)
                     : mx::gather_linear(x, stacked(weight), indices, false, with);
  }
  Array operator()(const Array& x, const Array& indices) const { return picked(x, indices, bias); }
  // The same by operations of their own.
  Array separately(const Array& x, const Array& indices) const {
    const Array y = computed(picked(x, indices, {}));
    return bias ? computed(y + mx::expand_dims(computed(mx::take(bias, indices, 0)), -2)) : y;
  }
};

// Experts that a few positions picked; with few experts, some more often than is read one by one.
struct Picked {
  int positions, each, experts;
  Array indices;
  explicit Picked(Random& random)
      : positions(random.one_in(2) ? 1 : 1 + static_cast<int>(random.below(9))),
        each(1 + static_cast<int>(random.below(5))),
        experts(each + static_cast<int>(random.below(12))) {
    std::vector<uint32_t> ids(static_cast<size_t>(positions * each));
    for (uint32_t& id : ids) id = static_cast<uint32_t>(random.below(static_cast<uint64_t>(experts)));
    indices = mx::from_ids(ids, {positions, each});
    // As a router leaves them: part of a wider array.
    if (random.one_in(2)) indices = mx::slice(mx::concatenate({indices, indices}, -1), -1, each, 2 * each);
  }
};

int any_expert_outputs(Random& random) {
  return random.one_in(8) ? 700 + static_cast<int>(random.below(400)) : 1 + static_cast<int>(random.below(90));
}

}  // namespace

TEST("a gate of experts' products") {
  claim_thread();
  Random random{28};
  for (int n = 0; n < trials(150); ++n) {
    mx::set_cpu_threads(random.pick(kThreads));
    const Type type = random.pick(kTypes);
    const Picked p(random);
    const int inputs = any_inputs(random), outputs = any_expert_outputs(random);
    // One row for all experts of a position, or one for each.
    const Array x =
        make(random, {p.positions, random.one_in(3) ? p.each : 1, 1, inputs}, type, any_values(random, type));
    const bool biased = random.one_in(2);
    const AnyExperts gate(random, type, p.experts, outputs, inputs, biased);
    const AnyExperts up(random, type, p.experts, outputs, inputs, biased != random.one_in(8));
    const Array gates = gate.separately(x, p.indices), ups = up.separately(x, p.indices);
    const std::string what = "gate of " + std::to_string(p.experts) + " experts of " + text_of(x);
    same(gate(x, p.indices), gates, what);
    same(mx::swiglu(gate(x, p.indices), up(x, p.indices)), mx::swiglu(gates, ups), what);
    const Array clipped = mx::fused_clipped_silu(gate(x, p.indices), up(x, p.indices));
    same(clipped, mx::fused_clipped_silu(gates, ups), what);
    const std::vector<double> g = read(gates), u = read(ups);
    Expected want;
    for (size_t i = 0; i < g.size(); ++i) {
      want.add(g[i] / (1 + std::exp(-g[i])) * u[i]);
      want.slack.push_back(1.2e-38 * std::fabs(u[i]) * std::max(1.0, std::fabs(g[i])));
    }
    compare(mx::swiglu(gate(x, p.indices), up(x, p.indices)), gates.shape(), type, want, what);
  }
}

TEST("experts' products summed by their weights") {
  claim_thread();
  Random random{29};
  for (int n = 0; n < trials(150); ++n) {
    mx::set_cpu_threads(random.pick(kThreads));
    const Type type = random.pick(kTypes);
    const Picked p(random);
    const int inputs = any_inputs(random), outputs = any_expert_outputs(random);
    const Array x = make(random, {p.positions, p.each, 1, inputs}, type, any_values(random, type));
    const AnyExperts down(random, type, p.experts, outputs, inputs, random.one_in(2));
    const Array weights = make(random, {p.positions, p.each}, random.one_in(2) ? type : random.pick(kTypes));
    const Array rows = down.separately(x, p.indices);
    const std::string what = "sum of " + text_of(x) + " by " + text_of(weights);
    const Array got = mx::weighted_sum(down(x, p.indices), weights);
    // By MLX's own operations, since nothing of ours is left to do.
    same(got, mx::weighted_sum(rows, weights), what);
    const std::vector<double> ys = read(rows), ws = read(weights);
    const auto width = static_cast<size_t>(outputs), each = static_cast<size_t>(p.each);
    Expected want;
    for (size_t at = 0; at < ws.size(); at += each) {
      for (size_t o = 0; o < width; ++o) {
        double sum = 0, size = 0;
        for (size_t i = at; i < at + each; ++i) {
          sum += ws[i] * ys[i * width + o];
          size += std::fabs(ws[i] * ys[i * width + o]);
        }
        want.add(sum, size);
        // Terms and partial sums are rounded to 16 bits too.
        if (type != Type::f32) want.slack.push_back(static_cast<double>(each) * tolerance_of(type).value * size);
      }
    }
    compare(got, {p.positions, outputs}, type, want, what);
  }
}

TEST("experts' products that are read besides stay what they are") {
  claim_thread();
  Random random{30};
  const Array x = make(random, {1, 1, 1, 64}, Type::bf16), indices = mx::from_ids(std::vector<uint32_t>{4, 1}, {1, 2});
  const Array weights = make(random, {1, 2}, Type::bf16);
  const AnyExperts gate(random, Type::bf16, 5, 64, 64, true), up(random, Type::bf16, 5, 64, 64, true);
  const Array g = gate(x, indices), u = up(x, indices), h = mx::swiglu(g, u), y = up(h, indices);
  const Array sum = mx::weighted_sum(y, weights), more = h + g;
  const Array gates = gate.separately(x, indices), ups = up.separately(x, indices);
  const Array hidden = computed(mx::swiglu(gates, ups)), rows = up.separately(hidden, indices);
  same(more, computed(hidden + gates), "a sum of both");
  same(sum, mx::weighted_sum(rows, weights), "sum");
  same(y, rows, "rows");
  same(g, gates, "gate");
  same(u, ups, "up");
}

TEST("a product that is used twice stays what it is") {
  claim_thread();
  Random random{24};
  const Array x = make(random, {1, 64}, Type::bf16), w = make(random, {64, 64}, Type::bf16), a = x * 2.0f;
  const Array product = mx::linear(x, w), sum = a + product, gate = mx::swiglu(product, sum);
  const Array alone = computed(mx::linear(x, w));
  same(sum, a + alone, "sum");
  same(gate, mx::swiglu(alone, computed(a + alone)), "gate");
  same(product, alone, "product");
}

namespace {

struct Position {
  int heads, kv_heads, width, value_width, capacity;
  Type type;
  mx::CachedAttention o;
  Array q, k, v, keys, values;

  Position(Random& random, bool is_long) : type(random.pick(kTypes)) {
    const auto size = [&](uint64_t most) { return 1 + static_cast<int>(random.below(most)); };
    kv_heads = size(3);
    heads = kv_heads * size(4);
    width = 2 * size(40);
    value_width = random.one_in(3) ? size(80) : width;
    capacity = is_long ? 1100 + size(1500) : size(90);
    o.at = is_long ? capacity - size(60) : static_cast<int>(random.below(static_cast<uint64_t>(capacity)));
    o.first = random.one_in(3) ? static_cast<int>(random.below(static_cast<uint64_t>(o.at) + 1)) : 0;
    o.position = o.at + static_cast<int>(random.below(50));
    o.scale = 1 / std::sqrt(static_cast<float>(width));
    if (random.one_in(4)) o.soft_cap = 20;
    if (random.one_in(3)) o.sinks = make(random, {heads}, type);
    if (!random.one_in(3)) {
      o.norm_eps = 1e-5f;
      if (!random.one_in(3)) {
        o.q_norm = make(random, {width}, type);
        o.k_norm = make(random, {width}, type);
      }
    }
    if (!random.one_in(4)) {
      o.rope.dims = random.one_in(3) ? 2 * size(static_cast<uint64_t>(width) / 2) : width;
      o.rope.traditional = random.one_in(2);
      o.rope.scale = random.one_in(3) ? 0.5f : 1.0f;
      if (random.one_in(2)) {
        o.rope.base = 10000.0f;
      } else {
        std::vector<float> periods(static_cast<size_t>(o.rope.dims / 2));
        for (float& period : periods) period = static_cast<float>(uniform(random, 1, 1000));
        o.rope.freqs = mx::from_floats(periods, {o.rope.dims / 2});
      }
    }
    q = make(random, {1, 1, heads * width}, type);
    k = make(random, {1, 1, kv_heads * width}, type);
    v = make(random, {1, 1, kv_heads * value_width}, type);
    keys = computed(make(random, {1, kv_heads, capacity, width}, type));
    values = computed(make(random, {1, kv_heads, capacity, value_width}, type));
  }

  // The same by operations of their own.
  mx::Attended step_by_step() const {
    const auto prepared = [&](const Array& x, int count, const Array& weight) {
      Array h = mx::reshape(x, {1, 1, count, width});
      if (o.norm_eps) h = computed(mx::rms_norm(h, weight, *o.norm_eps));
      h = mx::swapaxes(h, 1, 2);
      return o.rope.dims > 0 ? computed(mx::rope(h, o.rope, o.position)) : h;
    };
    const Array queries = prepared(q, heads, o.q_norm);
    const Array all_keys = computed(mx::slice_update(keys, prepared(k, kv_heads, o.k_norm), 2, o.at));
    const Array all_values =
        computed(mx::slice_update(values, mx::swapaxes(mx::reshape(v, {1, 1, kv_heads, value_width}), 1, 2), 2, o.at));
    const Array y =
        mx::fused_causal_attention(queries, mx::slice(all_keys, 2, o.first, o.at + 1),
                                   mx::slice(all_values, 2, o.first, o.at + 1), o.scale, 0, o.soft_cap, o.sinks);
    return {mx::reshape(mx::swapaxes(y, 1, 2), {1, 1, heads * value_width}), all_keys, all_values};
  }

  std::vector<double> turned(std::vector<double> x, const std::vector<double>& weight) const {
    if (o.norm_eps) {
      const double squares = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
      const double scale = 1 / std::sqrt(squares / width + static_cast<double>(*o.norm_eps));
      for (size_t i = 0; i < x.size(); ++i) x[i] *= scale * (weight.empty() ? 1 : weight[i]);
    }
    const std::vector<double> periods = o.rope.freqs ? read(o.rope.freqs) : std::vector<double>();
    const auto half = static_cast<size_t>(o.rope.dims / 2);
    for (size_t i = 0; i < half; ++i) {
      const double frequency =
          periods.empty() ? std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half)) : 1 / periods[i];
      const double angle = static_cast<double>(o.rope.scale) * o.position * frequency;
      const size_t a = o.rope.traditional ? 2 * i : i, b = o.rope.traditional ? 2 * i + 1 : i + half;
      const double first = x[a], second = x[b];
      x[a] = first * std::cos(angle) - second * std::sin(angle);
      x[b] = first * std::sin(angle) + second * std::cos(angle);
    }
    return x;
  }

  // y in float64.
  Expected reference() const {
    const auto part = [](const std::vector<double>& all, int index, int size) {
      return std::vector<double>(all.begin() + int64_t{index} * size, all.begin() + int64_t{index + 1} * size);
    };
    const auto qs = read(q), ks = read(k), vs = read(v), old_keys = read(keys), old_values = read(values);
    const auto weight = [](const Array& a) { return a ? read(a) : std::vector<double>(); };
    const std::vector<double> sinks = weight(o.sinks);
    Expected want;
    for (int head = 0; head < heads; ++head) {
      const int kv = head / (heads / kv_heads);
      const auto query = turned(part(qs, head, width), weight(o.q_norm));
      const auto new_key = turned(part(ks, kv, width), weight(o.k_norm));
      std::vector<double> scores;
      double total = 0;
      for (int at = o.first; at <= o.at; ++at) {
        const auto key = at == o.at ? new_key : part(old_keys, kv * capacity + at, width);
        double score = std::inner_product(query.begin(), query.end(), key.begin(), 0.0) * static_cast<double>(o.scale);
        if (o.soft_cap > 0) score = o.soft_cap * std::tanh(score / o.soft_cap);
        scores.push_back(std::exp(score));
        total += scores.back();
      }
      if (!sinks.empty()) total += std::exp(sinks[static_cast<size_t>(head)]);
      std::vector<double> sums(static_cast<size_t>(value_width)), sizes(static_cast<size_t>(value_width), 0.1);
      for (int at = o.first; at <= o.at; ++at) {
        const auto value = at == o.at ? part(vs, kv, value_width) : part(old_values, kv * capacity + at, value_width);
        const double share = scores[static_cast<size_t>(at - o.first)] / total;
        for (size_t i = 0; i < sums.size(); ++i) {
          sums[i] += share * value[i];
          sizes[i] += 10 * share * std::fabs(value[i]);  // exponentials multiply the error of their score
        }
      }
      for (size_t i = 0; i < sums.size(); ++i) want.add(sums[i], sizes[i]);
    }
    return want;
  }
};

void attend(Random& random, bool is_long) {
  mx::set_cpu_threads(random.pick(kThreads));
  Position p(random, is_long);
  const mx::Attended want = p.step_by_step();
  mx::eval({want.y, want.keys, want.values});
  const Expected exact = p.reference();
  const std::string what = text_of(p.q) + " at " + std::to_string(p.o.at) + " of " + text_of(p.keys);
  // The buffers are written in place: the kernel gets its own.
  const Array keys = computed(mx::contiguous(p.keys * 1.0f));
  const Array values = computed(mx::contiguous(p.values * 1.0f));
  const auto got = mx::fused_cached_attention(p.q, p.k, p.v, random.one_in(4) ? p.keys : keys, values, p.o);
  CHECK(got.has_value());
  if (!got) return;
  same(got->y, want.y, what);
  same(got->keys, want.keys, "keys of " + what);
  same(got->values, want.values, "values of " + what);
  if (p.type == Type::f32) compare(got->y, {1, 1, p.heads * p.value_width}, p.type, exact, what);
}

}  // namespace

TEST("one new position through norm, rotation, cache and attention") {
  claim_thread();
  Random random{25};
  for (int n = 0; n < 200; ++n) attend(random, false);
}

TEST("one new position over a context that is split") {
  claim_thread();
  Random random{26};
  for (int n = 0; n < 12; ++n) attend(random, true);
}

TEST("greedy ids and their log-probabilities") {
  claim_thread();
  Random random{27};
  for (int n = 0; n < 200; ++n) {
    mx::set_cpu_threads(random.pick(kThreads));
    const Type type = random.pick(kTypes);
    const int width = random.one_in(5) ? 8192 + static_cast<int>(random.below(40000)) : random.pick(kWidths);
    const int rows = 1 + static_cast<int>(random.below(3));
    const Values kind = any_values(random, type);
    const Array x = make(random, {rows, width}, type, kind);
    const auto got = mx::fused_greedy(x);
    CHECK(got.has_value());
    if (!got) return;
    const std::vector<double> xs = read(x);
    const Array total = mx::logsumexp(mx::astype(x, Type::f32), -1, true);
    mx::eval({got->first, got->second});
    const std::vector<double> logprobs = read(got->second);
    Expected sums;
    for (int row = 0; row < rows; ++row) {
      const auto first = xs.begin() + int64_t{row} * width, last = first + width;
      const auto place = got->first.u32()[static_cast<size_t>(row)];
      const bool nan = std::any_of(first, last, [](double v) { return std::isnan(v); });
      const auto largest =
          nan ? std::find_if(first, last, [](double v) { return std::isnan(v); }) : std::max_element(first, last);
      CHECK_EQ(place, largest - first);
      double sum = 0;
      for (auto at = first; at != last; ++at) sum += std::exp(*at - *largest);
      const double log_sum = *largest + std::log(sum);
      sums.add(log_sum, std::fabs(*largest) + std::log(sum) + 1);
      const double logprob = logprobs[static_cast<size_t>(row)];
      CHECK(std::isfinite(sum) ? std::fabs(logprob + std::log(sum)) <= 1e-5 * (std::fabs(*largest) + 20)
                               : !std::isfinite(logprob));
    }
    compare(total, {rows, 1}, Type::f32, sums, "logsumexp of " + text_of(x));
  }
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float all : {-infinity, infinity}) {
    const auto got = mx::fused_greedy(mx::from_floats(std::vector<float>(9000, all), {1, 9000}));
    CHECK(got && std::isnan(read(got->second)[0]));
  }
}
