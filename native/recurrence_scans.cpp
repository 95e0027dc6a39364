// The recurrences of recurrence.h whose states decay and are added to, composed of MLX's operations by chunks of
// positions.

#include <algorithm>
#include <cmath>

#include "recurrence.h"

namespace mlxk {
namespace {

// Positions that are worked on together: their mutual influence is one matrix product instead of a step each.
constexpr int kChunk = 256;
// Mamba's have a state of every position and channel while they are.
constexpr int kScanChunk = 64;

// sum of x over (j, i] for i >= j, [.., L] to [.., L, L] with rows i; nothing above the diagonal.
Array segment_sums(const Array& x) {
  const int length = x.dim(-1);
  const Array columns = mx::repeat(mx::expand_dims(x, -1), length, -1);
  return mx::cumsum(mx::tril(columns, -1), -2, false, true);
}

}  // namespace

std::pair<Array, Array> composed::state_space(const Array& x, const Array& a, const Array& b, const Array& c,
                                              const Array& d, const Array& dt, const Array& state) {
  const int batch = x.dim(0), length = x.dim(1), heads = x.dim(2), width = x.dim(3), groups = b.dim(2), n = b.dim(3);
  const int repeats = heads / groups;
  const Array dta = dt * mx::reshape(a, {1, 1, -1}), dtx = mx::expand_dims(dt, -1) * x;
  Array s = state;
  std::vector<Array> ys;
  for (int start = 0; start < length; start += kChunk) {
    const int stop = std::min(length, start + kChunk), l = stop - start;
    const auto chunk = [&](const Array& whole) { return mx::slice(whole, 1, start, stop); };
    const Array bs = mx::transpose(chunk(b), {0, 2, 3, 1});  // [B, G, N, l]
    const Array cs = chunk(c), step = chunk(dta), input = mx::swapaxes(chunk(dtx), 1, 2);
    const Array scores = mx::repeat(mx::matmul(mx::swapaxes(cs, 1, 2), bs), repeats, 1);  // [B, H, l, l]
    const Array decay = mx::exp(segment_sums(mx::swapaxes(step, 1, 2)));
    Array y = mx::swapaxes(mx::matmul(mx::tril(scores * decay, 0), input), 1, 2);

    const Array last = mx::transpose(mx::slice(decay, 2, l - 1, l), {0, 1, 3, 2});  // [B, H, l, 1]
    const Array next = mx::matmul(mx::swapaxes(input * last, 2, 3), mx::swapaxes(mx::repeat(bs, repeats, 1), 2, 3));
    const Array passed = mx::exp(mx::cumsum(step, 1, false, true));  // [B, l, H]
    const Array from_state =
        mx::matmul(mx::reshape(s, {batch, 1, groups, repeats, width, n}), mx::reshape(cs, {batch, l, groups, 1, n, 1}));
    y = y + mx::expand_dims(passed, -1) * mx::reshape(from_state, {batch, l, heads, width});
    s = next + mx::reshape(mx::slice(passed, 1, l - 1, l), {batch, heads, 1, 1}) * s;
    ys.push_back(mx::astype(y, x.dtype()));
  }
  const Array y = ys.size() == 1 ? ys.front() : mx::concatenate(ys, 1);
  return {y + x * mx::astype(mx::reshape(d, {1, 1, heads, 1}), x.dtype()), s};
}

std::pair<Array, Array> composed::selective_scan(const Array& x, const Array& a, const Array& b, const Array& c,
                                                 const Array& d, const Array& dt, const Array& state) {
  const int batch = x.dim(0), length = x.dim(1), channels = x.dim(2), n = a.dim(1);
  const Array dtx = dt * x;
  Array s = state;
  std::vector<Array> ys;
  for (int start = 0; start < length; start += kScanChunk) {
    const int stop = std::min(length, start + kScanChunk), l = stop - start;
    const auto chunk = [&](const Array& whole) { return mx::slice(whole, 1, start, stop); };
    const auto flat = [&](const Array& one) { return mx::reshape(one, {batch, l, channels * n}); };
    const Array decay = mx::exp(mx::astype(mx::expand_dims(chunk(dt), -1), mx::Type::f32) * a);  // [B, l, C, N]
    const Array input = mx::astype(mx::expand_dims(chunk(dtx), -1) * mx::expand_dims(chunk(b), 2), mx::Type::f32);
    const Array states = linear_scan(flat(input), flat(decay), mx::reshape(s, {batch, channels * n}));
    s = mx::reshape(mx::slice(states, 1, l - 1, l), {batch, channels, n});
    const Array seen = mx::reshape(states, {batch, l, channels, n}) * mx::expand_dims(chunk(c), 2);
    ys.push_back(mx::astype(mx::sum(seen, -1, false), x.dtype()));
  }
  const Array y = ys.size() == 1 ? ys.front() : mx::concatenate(ys, 1);
  // A view would keep the states of all positions alive.
  return {y + x * mx::astype(d, x.dtype()), mx::contiguous(s)};
}

Array linear_scan(const Array& x, const Array& a, const Array& state) {
  const int batch = x.dim(0), length = x.dim(1), channels = x.dim(2);
  const Array start = mx::expand_dims(state, 1);  // [B, 1, C]
  if (length == 1) return a * start + x;
  // Runs of positions, as many as one has: first all runs at once, as if nothing came before them, then from run to
  // run.
  const int run = static_cast<int>(std::ceil(std::sqrt(static_cast<float>(length)))), runs = (length + run - 1) / run;
  const int missing = runs * run - length;
  const auto filled = [&](const Array& whole) {
    const Array even =
        missing == 0 ? whole : mx::concatenate({whole, mx::zeros({batch, missing, channels}, whole.dtype())}, 1);
    return mx::reshape(even, {batch, runs, run, channels});
  };
  const auto positions = [](const Array& each, int t) { return mx::slice(each, 2, t, t + 1); };  // [B, runs, 1, C]
  const Array inputs = filled(x), factors = filled(a);
  Array sum = positions(inputs, 0), decay = positions(factors, 0);
  std::vector<Array> sums{sum}, decays{decay};
  for (int t = 1; t < run; ++t) {
    const Array factor = positions(factors, t);
    sums.push_back(sum = factor * sum + positions(inputs, t));
    decays.push_back(decay = factor * decay);
  }
  Array carried = start;
  std::vector<Array> before{carried};
  for (int r = 1; r < runs; ++r) {
    const auto last = [&](const Array& each) {
      return mx::reshape(mx::slice(each, 1, r - 1, r), {batch, 1, channels});
    };
    before.push_back(carried = last(decay) * carried + last(sum));
  }
  const Array states =
      mx::concatenate(sums, 2) + mx::concatenate(decays, 2) * mx::expand_dims(mx::concatenate(before, 1), 2);
  return mx::slice(mx::reshape(states, {batch, runs * run, channels}), 1, 0, length);
}

}  // namespace mlxk
