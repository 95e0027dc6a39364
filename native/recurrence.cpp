// See recurrence.h.

#include "recurrence.h"

#include <algorithm>

namespace mlxk {

void RecurrentState::collect(std::vector<Array>& arrays) const {
  for (const Array& slot : slots_) {
    if (slot) arrays.push_back(slot);
  }
}

size_t RecurrentState::bytes() const {
  size_t total = 0;
  for (const Array& slot : slots_) total += slot ? slot.nbytes() : 0;
  return total;
}

Array recall(const LayerCache& cache, int slot, const mx::Shape& shape, mx::Type type) {
  mx::Shape one = shape;
  one.insert(one.begin(), 1);
  std::vector<Array> rows;
  for (int row = 0; row < cache.batch.rows(); ++row) {
    const Array& remembered = cache.state<RecurrentState>(row).slot(slot);
    rows.push_back(remembered ? remembered : mx::zeros(one, type));
  }
  return rows.size() == 1 ? rows.front() : mx::concatenate(rows, 0);
}

void remember(const LayerCache& cache, int slot, const Array& values) {
  const int rows = cache.batch.rows();
  if (rows == 1) {
    cache.state<RecurrentState>(0).slot(slot) = values;
    return;
  }
  const auto parts = mx::split(values, rows, 0);
  for (int row = 0; row < rows; ++row) {
    // A view would keep every row's memory alive for as long as one of them lasts.
    cache.state<RecurrentState>(row).slot(slot) = mx::contiguous(parts[static_cast<size_t>(row)]);
  }
}

ShortConvolution::ShortConvolution(const Weights& w, int channels, int kernel, bool bias) : kernel_(kernel) {
  if (w.has("weight")) {
    const Array& given = w.peek("weight");
    if (given.shape() == mx::Shape{channels, 1, kernel} && kernel != 1) {
      w.put("weight", mx::contiguous(mx::swapaxes(given, 1, 2)));
    }
  }
  weight_ = w.take("weight", {channels, kernel, 1});
  if (bias) bias_ = w.take("bias", {channels});
}

Array ShortConvolution::operator()(const Array& x, const LayerCache& cache, int slot) const {
  const int length = x.dim(1), kept = kernel_ - 1;
  Array input = x;
  if (kept > 0) {
    input = mx::concatenate({recall(cache, slot, {kept, x.dim(2)}, x.dtype()), x}, 1);
    remember(cache, slot, mx::contiguous(mx::slice(input, 1, length, length + kept)));
  }
  const Array y = mx::depthwise_conv(input, weight_);
  return bias_ ? y + bias_ : y;
}

namespace {

Array at(const Array& a, int t) {  // [B, L, ..] to [B, ..]
  mx::Shape shape = a.shape();
  shape.erase(shape.begin() + 1);
  return mx::reshape(mx::slice(a, 1, t, t + 1), shape);
}

}  // namespace

std::pair<Array, Array> gated_delta(const Array& q, const Array& k, const Array& v, const Array& g, const Array& beta,
                                    const Array& state) {
  if (auto fused = mx::fused_gated_delta(q, k, v, g, beta, state)) return *fused;
  return composed::gated_delta(q, k, v, g, beta, state);
}

std::pair<Array, Array> composed::gated_delta(const Array& q, const Array& k, const Array& v, const Array& g,
                                              const Array& beta, const Array& state) {
  const int length = q.dim(1), repeats = v.dim(2) / q.dim(2);
  const Array qs = repeats > 1 ? mx::repeat(q, repeats, 2) : q, ks = repeats > 1 ? mx::repeat(k, repeats, 2) : k;
  const bool by_channel = g.ndim() == 4;
  Array s = state;
  std::vector<Array> ys;
  for (int t = 0; t < length; ++t) {
    const Array decay = at(g, t), key = mx::expand_dims(at(ks, t), -2);  // [B, Hv, 1, Dk]
    s = s * (by_channel ? mx::expand_dims(decay, -2) : mx::expand_dims(mx::expand_dims(decay, -1), -1));
    const Array recalled = mx::sum(s * key, -1, false);
    const Array delta = (at(v, t) - recalled) * mx::expand_dims(at(beta, t), -1);
    s = s + key * mx::expand_dims(delta, -1);
    ys.push_back(mx::astype(mx::sum(s * mx::expand_dims(at(qs, t), -2), -1, false), q.dtype()));
  }
  return {mx::stack(ys, 1), s};
}

Array time_steps(const Array& dt, const Array& bias, float low, float high) {
  return mx::clip(mx::softplus(mx::astype(dt, mx::Type::f32) + bias), low, high);
}

namespace {

// Positions that are worked on together: their mutual influence is one matrix product instead of a step each.
constexpr int kChunk = 256;

// sum of x over (j, i] for i >= j, [.., L] to [.., L, L] with rows i; nothing above the diagonal.
Array segment_sums(const Array& x) {
  const int length = x.dim(-1);
  const Array columns = mx::repeat(mx::expand_dims(x, -1), length, -1);
  return mx::cumsum(mx::tril(columns, -1), -2, false, true);
}

}  // namespace

std::pair<Array, Array> state_space(const Array& x, const Array& a, const Array& b, const Array& c, const Array& d,
                                    const Array& dt, const Array& state) {
  if (auto fused = mx::fused_state_space(x, a, b, c, d, dt, state)) return *fused;
  return composed::state_space(x, a, b, c, d, dt, state);
}

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

std::pair<Array, Array> selective_scan(const Array& x, const Array& a, const Array& b, const Array& c, const Array& d,
                                       const Array& dt, const Array& state) {
  if (auto fused = mx::fused_selective_scan(x, a, b, c, d, dt, state)) return *fused;
  return composed::selective_scan(x, a, b, c, d, dt, state);
}

std::pair<Array, Array> composed::selective_scan(const Array& x, const Array& a, const Array& b, const Array& c,
                                                 const Array& d, const Array& dt, const Array& state) {
  const Array dtx = dt * x;
  Array s = state;
  std::vector<Array> ys;
  for (int t = 0; t < x.dim(1); ++t) {
    const Array input = mx::expand_dims(at(dtx, t), -1) * mx::expand_dims(at(b, t), -2);  // [B, C, N]
    s = s * mx::exp(mx::expand_dims(at(dt, t), -1) * a) + input;
    ys.push_back(mx::astype(mx::sum(s * mx::expand_dims(at(c, t), -2), -1, false), x.dtype()));
  }
  return {mx::stack(ys, 1) + x * mx::astype(d, x.dtype()), s};
}

std::pair<Array, Array> wkv7(const Array& r, const Array& w, const Array& k, const Array& v, const Array& a,
                             const Array& b, const Array& state) {
  if (auto fused = mx::fused_wkv7(r, w, k, v, a, b, state)) return *fused;
  return composed::wkv7(r, w, k, v, a, b, state);
}

std::pair<Array, Array> composed::wkv7(const Array& r, const Array& w, const Array& k, const Array& v, const Array& a,
                                       const Array& b, const Array& state) {
  const auto row = [](const Array& x, int t) { return mx::expand_dims(at(x, t), -2); };     // [B, H, 1, D]
  const auto column = [](const Array& x, int t) { return mx::expand_dims(at(x, t), -1); };  // [B, H, D, 1]
  Array s = state;
  std::vector<Array> ys;
  for (int t = 0; t < r.dim(1); ++t) {
    const Array recalled = mx::sum(s * row(a, t), -1, true);
    s = s * row(w, t) + recalled * row(b, t) + column(v, t) * row(k, t);
    ys.push_back(mx::astype(mx::sum(s * row(r, t), -1, false), r.dtype()));
  }
  return {mx::stack(ys, 1), s};
}

Array linear_scan(const Array& x, const Array& a, const Array& state) {
  const int length = x.dim(1);
  const auto slice = [](const Array& whole, int from, int to) { return mx::slice(whole, 1, from, to); };
  const Array first = slice(x, 0, 1) + slice(a, 0, 1) * mx::expand_dims(state, 1);
  Array sums = length == 1 ? first : mx::concatenate({first, slice(x, 1, length)}, 1), decays = a;
  // Each round doubles the span of positions that a sum covers.
  for (int span = 1; span < length; span *= 2) {
    const Array later = slice(decays, span, length);
    sums =
        mx::concatenate({slice(sums, 0, span), slice(sums, span, length) + later * slice(sums, 0, length - span)}, 1);
    decays = mx::concatenate({slice(decays, 0, span), later * slice(decays, 0, length - span)}, 1);
  }
  return sums;
}

}  // namespace mlxk
