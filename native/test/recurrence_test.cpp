// The linear recurrences, kernel and composition of MLX operations each against a float64 reference written here, over
// random shapes, values and splits into chunks between which the state is carried.

#include <algorithm>
#include <cmath>

#include "check.h"
#include "random.h"
#include "recurrence.h"

using namespace mlxk;
using mx::Shape;
using test::Random;

namespace {

constexpr int kRounds = 40;

// Kept to the end: MLX lets a thread be claimed once.
void claim_thread() {
  // Never ended, since MLX is torn down before.
  [[gnu::used]] static const auto* thread = new mx::Thread(mx::Device::cpu);
}

using Values = std::vector<double>;
using Result = std::pair<Array, Array>;  // y, state

Values read(const Array& a) {
  const Array dense = mx::contiguous(mx::astype(a, mx::Type::f32));
  mx::eval({dense});
  const auto values = dense.f32();
  return {values.begin(), values.end()};
}

int size(Random& random, int most) { return 1 + static_cast<int>(random.below(static_cast<uint64_t>(most))); }

// Of a prompt: one long one, some of several chunks, most within one.
int length_of(Random& random, int round) {
  return round == 0 ? 1100 : size(random, random.one_in(4) ? 300 : random.one_in(2) ? 40 : 9);
}

// Uniform in [low, high), dense or a slice of something larger.
Array make(Random& random, const Shape& shape, double low, double high) {
  Shape larger = shape;
  const bool sliced = random.one_in(3);
  if (sliced) larger.back() += 3;
  size_t n = 1;
  for (int d : larger) n *= static_cast<size_t>(d);
  std::vector<float> values(n);
  for (float& v : values) {
    v = static_cast<float>(low + (high - low) * static_cast<double>(random.next() >> 11) * 0x1p-53);
  }
  const Array whole = mx::from_floats(values, larger);
  return sliced ? mx::slice(whole, static_cast<int>(shape.size()) - 1, 2, 2 + shape.back()) : whole;
}

// What is left of a state in one step: from nothing to all of it, mostly all, or mostly nothing.
Array decays(Random& random, const Shape& shape) {
  if (random.one_in(3)) return mx::exp(-mx::exp(make(random, shape, -12, 6)));
  return random.one_in(2) ? make(random, shape, 0.9, 1) : make(random, shape, 0, 1);
}

void compare(const Array& got, const Values& want, const std::string& what) {
  const Values values = read(got);
  CHECK_EQ(values.size(), want.size());
  double largest = 1e-6, error = 0;
  for (double w : want) largest = std::max(largest, std::fabs(w));
  for (size_t i = 0; i < std::min(values.size(), want.size()); ++i) {
    const double distance = std::fabs(values[i] - want[i]);
    error = std::isfinite(values[i]) ? std::max(error, distance) : HUGE_VAL;
  }
  std::ostringstream text;
  text << what << ": off by " << error << " of " << largest;
  test::record(error <= 2e-5 * largest, __FILE__, __LINE__, text.str());
}

Array positions(const Array& a, int from, int to) { return mx::slice(a, 1, from, to); }

// `run(from, to, state)` in chunks at random places, joined.
template <class Run>
Result in_chunks(Random& random, int length, const Array& state, const Run& run) {
  std::vector<Array> ys;
  Array s = state;
  for (int from = 0; from < length;) {
    const int to = std::min(length, from + size(random, length));
    const Result r = run(from, to, s);
    ys.push_back(r.first);
    s = r.second;
    from = to;
  }
  return {mx::concatenate(ys, 1), s};
}

// Both ways of computing against the reference.
template <class Kernel, class Composed>
void check(Random& random, int length, const Array& state, const Values& y, const Values& last, const std::string& what,
           const Kernel& kernel, const Composed& composed) {
  const Result ours = in_chunks(random, length, state, kernel), stock = in_chunks(random, length, state, composed);
  compare(ours.first, y, what + ", kernel, y");
  compare(ours.second, last, what + ", kernel, state");
  compare(stock.first, y, what + ", composed, y");
  compare(stock.second, last, what + ", composed, state");
}

}  // namespace

TEST("gated delta rule") {
  claim_thread();
  Random random{11};
  for (int round = 0; round < kRounds; ++round) {
    const int batch = size(random, 3), length = length_of(random, round);
    const int key_heads = size(random, 3), group = size(random, 3);
    const int heads = key_heads * group, dk = size(random, 40), dv = size(random, 40);
    const bool by_channel = random.one_in(2);
    const double unit = 1 / std::sqrt(dk);
    const Array q = make(random, {batch, length, key_heads, dk}, -unit, unit);
    // A text that says the same again and again has one key; it is as long as a key can be.
    const Array k = random.one_in(3) ? make(random, {batch, length, key_heads, dk}, unit, unit)
                                     : make(random, {batch, length, key_heads, dk}, -unit, unit);
    const Array v = make(random, {batch, length, heads, dv}, -1, 1), beta = make(random, {batch, length, heads}, 0, 2);
    const Array g = decays(random, by_channel ? Shape{batch, length, heads, dk} : Shape{batch, length, heads});
    const Array state = make(random, {batch, heads, dv, dk}, -1, 1);

    const Values qs = read(q), ks = read(k), vs = read(v), gs = read(g), betas = read(beta);
    Values s = read(state), ys;
    for (int b = 0; b < batch; ++b) {
      for (int t = 0; t < length; ++t) {
        for (int h = 0; h < heads; ++h) {
          const int at = (b * length + t) * heads + h, key = ((b * length + t) * key_heads + h / group) * dk;
          for (int i = 0; i < dv; ++i) {
            double* row = s.data() + ((b * heads + h) * dv + i) * dk;
            double recalled = 0, out = 0;
            for (int j = 0; j < dk; ++j) {
              row[j] *= gs[static_cast<size_t>(by_channel ? at * dk + j : at)];
              recalled += row[j] * ks[static_cast<size_t>(key + j)];
            }
            const double delta = (vs[static_cast<size_t>(at * dv + i)] - recalled) * betas[static_cast<size_t>(at)];
            for (int j = 0; j < dk; ++j) {
              row[j] += delta * ks[static_cast<size_t>(key + j)];
              out += row[j] * qs[static_cast<size_t>(key + j)];
            }
            ys.push_back(out);
          }
        }
      }
    }
    const auto part = [&](const auto& function) {
      return [&](int from, int to, const Array& before) {
        return function(positions(q, from, to), positions(k, from, to), positions(v, from, to), positions(g, from, to),
                        positions(beta, from, to), before);
      };
    };
    check(random, length, state, ys, s, by_channel ? "gated delta by channel" : "gated delta", part(gated_delta),
          part(composed::gated_delta));
  }
}

TEST("state space") {
  claim_thread();
  Random random{12};
  for (int round = 0; round < kRounds; ++round) {
    const int batch = size(random, 3), length = length_of(random, round), groups = size(random, 3);
    const int group = size(random, 3), heads = groups * group, width = size(random, 20), n = size(random, 40);
    const Array x = make(random, {batch, length, heads, width}, -1, 1), a = make(random, {heads}, -4, 0);
    const Array b = make(random, {batch, length, groups, n}, -1, 1),
                c = make(random, {batch, length, groups, n}, -1, 1);
    const Array d = make(random, {heads}, -1, 1), dt = make(random, {batch, length, heads}, 0, 1.5);
    const Array state = make(random, {batch, heads, width, n}, -1, 1);

    const Values xs = read(x), as = read(a), bs = read(b), cs = read(c), ds = read(d), dts = read(dt);
    Values s = read(state), ys;
    for (int row = 0; row < batch; ++row) {
      for (int t = 0; t < length; ++t) {
        for (int h = 0; h < heads; ++h) {
          const auto at = static_cast<size_t>((row * length + t) * heads + h), head = static_cast<size_t>(h);
          const auto in = static_cast<size_t>(((row * length + t) * groups + h / group) * n);
          const double decay = std::exp(as[head] * dts[at]);
          for (int i = 0; i < width; ++i) {
            const double input = xs[at * static_cast<size_t>(width) + static_cast<size_t>(i)];
            double* values = s.data() + ((row * heads + h) * width + i) * n;
            double out = ds[head] * input;
            for (int j = 0; j < n; ++j) {
              values[j] = decay * values[j] + dts[at] * input * bs[in + static_cast<size_t>(j)];
              out += values[j] * cs[in + static_cast<size_t>(j)];
            }
            ys.push_back(out);
          }
        }
      }
    }
    const auto part = [&](const auto& function) {
      return [&](int from, int to, const Array& before) {
        return function(positions(x, from, to), a, positions(b, from, to), positions(c, from, to), d,
                        positions(dt, from, to), before);
      };
    };
    check(random, length, state, ys, s, "state space", part(state_space), part(composed::state_space));
  }
}

TEST("selective scan") {
  claim_thread();
  Random random{13};
  for (int round = 0; round < kRounds; ++round) {
    const int batch = size(random, 3), length = length_of(random, round);
    const int channels = size(random, 20), n = size(random, 40);
    const Array x = make(random, {batch, length, channels}, -1, 1), d = make(random, {channels}, -1, 1);
    // The last of the ranges leaves nothing of the state.
    const Array a = make(random, {channels, n}, random.one_in(5) ? -200 : -8, 0);
    const Array b = make(random, {batch, length, n}, -1, 1), c = make(random, {batch, length, n}, -1, 1);
    const Array dt = make(random, {batch, length, channels}, 0, 2), state = make(random, {batch, channels, n}, -1, 1);

    const Values xs = read(x), as = read(a), bs = read(b), cs = read(c), ds = read(d), dts = read(dt);
    Values s = read(state), ys;
    for (int row = 0; row < batch; ++row) {
      for (int t = 0; t < length; ++t) {
        for (int i = 0; i < channels; ++i) {
          const auto at = static_cast<size_t>((row * length + t) * channels + i), channel = static_cast<size_t>(i);
          double out = ds[channel] * xs[at];
          for (int j = 0; j < n; ++j) {
            const auto in = static_cast<size_t>((row * length + t) * n + j);
            double& value = s[static_cast<size_t>((row * channels + i) * n + j)];
            value = std::exp(dts[at] * as[static_cast<size_t>(i * n + j)]) * value + dts[at] * xs[at] * bs[in];
            out += value * cs[in];
          }
          ys.push_back(out);
        }
      }
    }
    const auto part = [&](const auto& function) {
      return [&](int from, int to, const Array& before) {
        return function(positions(x, from, to), a, positions(b, from, to), positions(c, from, to), d,
                        positions(dt, from, to), before);
      };
    };
    check(random, length, state, ys, s, "selective scan", part(selective_scan), part(composed::selective_scan));
  }
}

TEST("RWKV-7's recurrence") {
  claim_thread();
  Random random{14};
  for (int round = 0; round < kRounds; ++round) {
    const int batch = size(random, 3), length = length_of(random, round), heads = size(random, 4);
    const int width = size(random, 40);
    const double unit = 1 / std::sqrt(width);
    const Shape shape{batch, length, heads, width};
    const Array r = make(random, shape, -1, 1), w = decays(random, shape), k = make(random, shape, -1, 1);
    // As the model has them: what a takes out along a direction, b puts back along it, in part.
    const Array v = make(random, shape, -1, 1), a = make(random, shape, -unit, unit);
    const Array b = -a * make(random, {batch, length, heads, 1}, 0, 1);
    const Array state = make(random, {batch, heads, width, width}, -1, 1);

    const Values rs = read(r), ws = read(w), ks = read(k), vs = read(v), as = read(a), bs = read(b);
    Values s = read(state), ys;
    for (int row = 0; row < batch; ++row) {
      for (int t = 0; t < length; ++t) {
        for (int h = 0; h < heads; ++h) {
          const auto at = static_cast<size_t>(((row * length + t) * heads + h) * width);
          for (int i = 0; i < width; ++i) {
            double* values = s.data() + ((row * heads + h) * width + i) * width;
            double recalled = 0, out = 0;
            for (int j = 0; j < width; ++j) recalled += values[j] * as[at + static_cast<size_t>(j)];
            for (int j = 0; j < width; ++j) {
              const size_t in = at + static_cast<size_t>(j);
              values[j] = values[j] * ws[in] + recalled * bs[in] + vs[at + static_cast<size_t>(i)] * ks[in];
              out += values[j] * rs[in];
            }
            ys.push_back(out);
          }
        }
      }
    }
    const auto part = [&](const auto& function) {
      return [&](int from, int to, const Array& before) {
        return function(positions(r, from, to), positions(w, from, to), positions(k, from, to), positions(v, from, to),
                        positions(a, from, to), positions(b, from, to), before);
      };
    };
    check(random, length, state, ys, s, "wkv7", part(wkv7), part(composed::wkv7));
  }
}

TEST("linear scan") {
  claim_thread();
  Random random{15};
  for (int round = 0; round < kRounds; ++round) {
    const int batch = size(random, 3), length = length_of(random, round), channels = size(random, 20);
    const Shape shape{batch, length, channels};
    const Array x = make(random, shape, -1, 1), a = decays(random, shape);
    const Array state = make(random, {batch, channels}, -1, 1);
    const Values xs = read(x), as = read(a);
    Values s = read(state), ys;
    for (int t = 0; t < batch * length; ++t) {
      for (int i = 0; i < channels; ++i) {
        const auto at = static_cast<size_t>(t * channels + i);
        double& value = s[static_cast<size_t>(t / length * channels + i)];
        ys.push_back(value = as[at] * value + xs[at]);
      }
    }
    compare(linear_scan(x, a, state), ys, "linear scan");
  }
}
