// See gated_delta_net.h.

#include "gated_delta_net.h"

#include <cmath>

namespace mlxk {
namespace {

// Divides by the length of each vector; `scale` comes on top.
Array unit(const Array& x, float inverse_scale, float scale) {
  constexpr float kEpsilon = 1e-6f;  // added to the sum of squares, where rms_norm adds to their mean
  return mx::rms_norm(x, {}, kEpsilon * inverse_scale * inverse_scale) * scale;
}

}  // namespace

std::pair<Array, Array> unit_query_key(const Array& q, const Array& k) {
  const float scale = 1 / std::sqrt(static_cast<float>(q.dim(-1)));
  return {unit(q, scale, scale * scale), unit(k, scale, scale)};
}

Array gated_in_f32(const Array& x, const Array& gate) {
  const Array wide = mx::astype(gate, mx::Type::f32);
  return mx::astype(wide * mx::sigmoid(wide) * mx::astype(x, mx::Type::f32), x.dtype());
}

GatedDeltaShape GatedDeltaShape::read(const ConfigReader& c, int hidden_size, float norm_eps) {
  GatedDeltaShape s{.hidden_size = hidden_size,
                    .key_heads = c.count("linear_num_key_heads"),
                    .value_heads = c.count("linear_num_value_heads"),
                    .key_dim = c.dim("linear_key_head_dim"),
                    .value_dim = c.dim("linear_value_head_dim"),
                    .kernel = c.integer("linear_conv_kernel_dim", 4, 1, 1024),
                    .norm_eps = norm_eps};
  c.require(s.value_heads % s.key_heads == 0, "linear_num_key_heads", "must divide linear_num_value_heads");
  heads_width(s.key_heads, s.key_dim, "linear_num_key_heads * linear_key_head_dim");
  heads_width(s.value_heads, s.value_dim, "linear_num_value_heads * linear_value_head_dim");
  return s;
}

GatedDeltaNet::GatedDeltaNet(const Weights& w, const GatedDeltaShape& s)
    : shape_(s),
      conv1d_(w["conv1d"], 2 * s.keys() + s.values(), s.kernel, false),
      decay_rate_(mx::exp(mx::astype(w.take("A_log", {s.value_heads}), mx::Type::f32))),
      dt_bias_(w.take("dt_bias", {s.value_heads})),
      norm_(w["norm"], s.value_dim, s.norm_eps),
      out_proj_(w["out_proj"], s.values(), s.hidden_size) {
  if (w["in_proj_qkv"].has("weight")) {
    in_proj_qkv_.emplace(w["in_proj_qkv"], s.hidden_size, 2 * s.keys() + s.values());
    in_proj_z_.emplace(w["in_proj_z"], s.hidden_size, s.values());
    in_proj_b_.emplace(w["in_proj_b"], s.hidden_size, s.value_heads);
    in_proj_a_.emplace(w["in_proj_a"], s.hidden_size, s.value_heads);
  } else {
    in_proj_qkvz_.emplace(w["in_proj_qkvz"], s.hidden_size, 2 * s.keys() + 2 * s.values());
    in_proj_ba_.emplace(w["in_proj_ba"], s.hidden_size, 2 * s.value_heads);
  }
}

GatedDeltaNet::Projected GatedDeltaNet::project(const Array& x) const {
  const int batch = x.dim(0), length = x.dim(1), group = shape_.value_heads / shape_.key_heads;
  const mx::Shape z_shape{batch, length, shape_.value_heads, shape_.value_dim};
  if (in_proj_qkv_) {
    return {(*in_proj_qkv_)(x), mx::reshape((*in_proj_z_)(x), z_shape), (*in_proj_b_)(x), (*in_proj_a_)(x)};
  }
  const auto by_key_head = [&](const Array& a) { return mx::reshape(a, {batch, length, shape_.key_heads, -1}); };
  const auto flat = [&](const Array& a) { return mx::reshape(a, {batch, length, -1}); };
  const int dk = shape_.key_dim, dv = group * shape_.value_dim;
  const int qkvz_at[] = {dk, 2 * dk, 2 * dk + dv}, ba_at[] = {group};
  const auto qkvz = mx::split_at(by_key_head((*in_proj_qkvz_)(x)), qkvz_at, -1);
  const auto ba = mx::split_at(by_key_head((*in_proj_ba_)(x)), ba_at, -1);
  return {mx::concatenate({flat(qkvz[0]), flat(qkvz[1]), flat(qkvz[2])}, -1), mx::reshape(qkvz[3], z_shape),
          flat(ba[0]), flat(ba[1])};
}

Array GatedDeltaNet::operator()(const Array& x, const LayerCache& cache) const {
  const int batch = x.dim(0), length = x.dim(1);
  const auto [qkv, z, b, a] = project(x);
  const Array convolved = conv1d_(qkv, cache, 0);
  const int at[] = {shape_.keys(), 2 * shape_.keys()};
  const auto parts = mx::split_at(convolved * mx::sigmoid(convolved), at, -1);

  const mx::Shape key_shape{batch, length, shape_.key_heads, shape_.key_dim};
  const auto [q, k] = unit_query_key(mx::reshape(parts[0], key_shape), mx::reshape(parts[1], key_shape));
  const Array v = mx::reshape(parts[2], {batch, length, shape_.value_heads, shape_.value_dim});
  const Array g = mx::exp(-(decay_rate_ * mx::softplus(a + dt_bias_)));

  const mx::Shape state_shape{shape_.value_heads, shape_.value_dim, shape_.key_dim};
  const auto [y, state] = gated_delta(q, k, v, g, mx::sigmoid(b), recall(cache, 1, state_shape, mx::Type::f32));
  remember(cache, 1, state);
  return out_proj_(mx::reshape(gated_in_f32(norm_(y), z), {batch, length, shape_.values()}));
}

FilteredProjections::FilteredProjections(const Weights& w, const GatedDeltaShape& s)
    : shape_(s),
      q_proj_(w["q_proj"], s.hidden_size, heads_width(s.key_heads, s.key_dim)),
      k_proj_(w["k_proj"], s.hidden_size, s.keys()),
      v_proj_(w["v_proj"], s.hidden_size, heads_width(s.value_heads, s.value_dim)),
      q_conv1d_(w["q_conv1d"], s.keys(), s.kernel, false),
      k_conv1d_(w["k_conv1d"], s.keys(), s.kernel, false),
      v_conv1d_(w["v_conv1d"], s.values(), s.kernel, false) {}

FilteredProjections::Projected FilteredProjections::operator()(const Array& x, const LayerCache& cache) const {
  const auto filtered = [&](const Array& projected, const ShortConvolution& conv, int slot, int heads) {
    const Array y = conv(projected, cache, slot);
    return mx::reshape(y * mx::sigmoid(y), {x.dim(0), x.dim(1), heads, -1});
  };
  const auto [q, k] = unit_query_key(filtered(q_proj_(x), q_conv1d_, 0, shape_.key_heads),
                                     filtered(k_proj_(x), k_conv1d_, 1, shape_.key_heads));
  return {q, k, filtered(v_proj_(x), v_conv1d_, 2, shape_.value_heads)};
}

}  // namespace mlxk
