// See recurrence.h.

#include "recurrence.h"

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

std::pair<Array, Array> gated_delta(const Array& q, const Array& k, const Array& v, const Array& g, const Array& beta,
                                    const Array& state) {
  if (auto fused = mx::fused_gated_delta(q, k, v, g, beta, state)) return *fused;
  return composed::gated_delta(q, k, v, g, beta, state);
}

Array time_steps(const Array& dt, const Array& bias, float low, float high) {
  return mx::clip(mx::softplus(mx::astype(dt, mx::Type::f32) + bias), low, high);
}

std::pair<Array, Array> state_space(const Array& x, const Array& a, const Array& b, const Array& c, const Array& d,
                                    const Array& dt, const Array& state) {
  if (auto fused = mx::fused_state_space(x, a, b, c, d, dt, state)) return *fused;
  return composed::state_space(x, a, b, c, d, dt, state);
}

std::pair<Array, Array> selective_scan(const Array& x, const Array& a, const Array& b, const Array& c, const Array& d,
                                       const Array& dt, const Array& state) {
  if (auto fused = mx::fused_selective_scan(x, a, b, c, d, dt, state)) return *fused;
  return composed::selective_scan(x, a, b, c, d, dt, state);
}

std::pair<Array, Array> wkv7(const Array& r, const Array& w, const Array& k, const Array& v, const Array& a,
                             const Array& b, const Array& state) {
  if (auto fused = mx::fused_wkv7(r, w, k, v, a, b, state)) return *fused;
  return composed::wkv7(r, w, k, v, a, b, state);
}

}  // namespace mlxk
