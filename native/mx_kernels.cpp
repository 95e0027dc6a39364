// See mx.h: the operations that have kernels of ours. Each asks for one and takes MLX's operation where it gets none.

#include "kernels/kernels.h"
#include "mx.h"
#include "mx_call.h"

namespace mlxk::mx {
namespace {

// What a kernel of ours computes, or an empty array where it has none and MLX's own operation is to be taken.
inline Array ours(void* handle) { return counted(Array::adopt(handle)); }

}  // namespace

std::string cpu_isa() { return kernels::cpu_isa(); }
int cpu_threads() { return kernels::cpu_threads(); }
void set_cpu_threads(int count) { kernels::set_cpu_threads(count); }

Array slice_update(const Array& a, const Array& update, int axis, int start) {
  if (void* y = kernels::update_positions(a.ctx(), update.ctx(), axis, start, stream.ctx)) return Array::adopt(y);
  const Bounds b(a, axis, start, start + update.dim(axis));
  return call_view(mlx_slice_update, raw(a), raw(update), b.start.data(), b.start.size(), b.stop.data(), b.stop.size(),
                   b.strides.data(), b.strides.size());
}

Array with_room(const Array& a, int axis, int begin, int end, int size) {
  if (Array y = ours(kernels::move_positions(a.ctx(), axis, begin, end, size, stream.ctx))) return y;
  Shape shape = a.shape();
  shape[static_cast<size_t>(axis)] = size - (end - begin);
  const Array room = zeros(shape, a.dtype());
  return end == begin ? room : concatenate({slice(a, axis, begin, end), room}, axis);
}

Array operator+(const Array& a, const Array& b) {
  if (Array y = ours(kernels::add(a.ctx(), b.ctx(), stream.ctx))) return y;
  return call(mlx_add, raw(a), raw(b));
}

Array softmax(const Array& a, int axis) {
  if (axis == -1) {
    if (Array y = ours(kernels::softmax(a.ctx(), stream.ctx))) return y;
  }
  return call(mlx_softmax_axis, raw(a), axis, true);
}

Array logsumexp(const Array& a, int axis, bool keepdims) {
  if (axis == -1 && keepdims) {
    if (Array y = ours(kernels::log_sum_exp(a.ctx(), stream.ctx))) return y;
  }
  return call(mlx_logsumexp_axis, raw(a), axis, keepdims);
}

Array argmax(const Array& a, int axis) {
  if (axis == -1) {
    if (Array y = ours(kernels::argmax(a.ctx(), stream.ctx))) return y;
  }
  return call(mlx_argmax_axis, raw(a), axis, false);
}

namespace {

// Nothing where our kernels do not fit.
std::vector<Array> our_linears(const Array& x, const std::vector<MatrixView>& matrices) {
  std::vector<kernels::MatrixHandles> handles;
  for (const auto& [weight, scales, biases, quantized] : matrices) {
    if (quantized) {
      handles.push_back(
          {weight->ctx(), scales->ctx(), biases->ctx(), quantized->group_size, quantized->bits, quantized->mode});
    } else {
      handles.push_back({.w = weight->ctx()});
    }
  }
  std::vector<Array> y;
  for (void* handle : kernels::linears(x.ctx(), handles, stream.ctx)) y.push_back(ours(handle));
  return y;
}

}  // namespace

Array quantized_matmul(const Array& x, const Array& w, const Array& scales, const Array& biases,
                       const QuantizedShape& q) {
  if (const auto y = our_linears(x, {{&w, &scales, &biases, &q}}); !y.empty()) return y.front();
  return stock_quantized_matmul(x, w, scales, biases, q);
}

namespace {

Array plus_taken(const Array& y, const Array& bias, const Array& indices) {
  return y + expand_dims(take(bias, indices, 0), -2);
}

}  // namespace

Array gather_linear(const Array& x, const Array& w, const Array& indices, bool sorted, const Array& bias) {
  if (Array y = ours(kernels::gather_linear(x.ctx(), w.ctx(), bias.ctx(), indices.ctx(), stream.ctx))) return y;
  if (bias) return plus_taken(gather_linear(x, w, indices, sorted), bias, indices);
  // MLX's CPU back end gathers float32 alone.
  const bool narrow = default_device() == Device::cpu && x.dtype() != Type::f32;
  const Array wide = narrow ? astype(x, Type::f32) : x;
  const Array transposed = swapaxes(narrow ? astype(w, Type::f32) : w, -1, -2);
  const Array y = call(mlx_gather_mm, raw(wide), raw(transposed), mlx_array{nullptr}, raw(indices), sorted);
  return astype(y, x.dtype());
}

Array gather_quantized_linear(const Array& x, const Array& w, const Array& scales, const Array& biases,
                              const Array& indices, const QuantizedShape& q, bool sorted, const Array& bias) {
  const kernels::MatrixHandles handles{w.ctx(), scales.ctx(), biases.ctx(), q.group_size, q.bits, q.mode};
  if (Array y = ours(kernels::gather_quantized_linear(x.ctx(), handles, bias.ctx(), indices.ctx(), stream.ctx))) {
    return y;
  }
  if (bias) return plus_taken(gather_quantized_linear(x, w, scales, biases, indices, q, sorted), bias, indices);
  return call(mlx_gather_qmm, raw(x), raw(w), raw(scales), raw(biases), mlx_array{nullptr}, raw(indices), true,
              mlx_optional_int{q.group_size, true}, mlx_optional_int{q.bits, true}, q.mode.c_str(), sorted);
}

Array weighted_sum(const Array& y, const Array& weights) {
  if (Array sum = ours(kernels::weighted_sum(y.ctx(), weights.ctx(), stream.ctx))) return sum;
  const int k = weights.dim(-1);
  const Array terms = reshape(y, {-1, k, y.dim(-1)}) * reshape(weights, {-1, k, 1});
  return astype(sum(terms, -2, false), y.dtype());
}

Array linear(const Array& x, const Array& w) {
  if (const auto y = our_linears(x, {{.weight = &w}}); !y.empty()) return y.front();
  return matmul(x, transpose(w));
}

Array linear(const Array& x, const Array& w, const Array& c) {
  if (const auto y = our_linears(x, {{.weight = &w}}); !y.empty()) return y.front() + c;
  return call(mlx_addmm, raw(c), raw(x), raw(transpose(w)), 1.0f, 1.0f);
}

bool multiplies_mixed_types() { return default_device() == Device::cpu && kernels::cpu_isa() != "off"; }

std::vector<Array> linears(const Array& x, const std::vector<MatrixView>& matrices) {
  if (auto y = our_linears(x, matrices); !y.empty()) return y;
  std::vector<Array> y;
  for (const auto& [weight, scales, biases, quantized] : matrices) {
    y.push_back(quantized ? quantized_matmul(x, *weight, *scales, *biases, *quantized) : linear(x, *weight));
  }
  return y;
}

Array stacked_linear(const Array& x, const MatrixView& matrices) {
  const auto& [weight, scales, biases, quantized] = matrices;
  if (multiplies_mixed_types()) {
    std::vector<uint32_t> places(static_cast<size_t>(x.dim(0)) * static_cast<size_t>(weight->dim(0)));
    for (size_t i = 0; i < places.size(); ++i)
      places[i] = static_cast<uint32_t>(i) % static_cast<uint32_t>(weight->dim(0));
    const Array each = from_ids(places, {x.dim(0), weight->dim(0)});
    return quantized ? gather_quantized_linear(x, *weight, *scales, *biases, each, *quantized, false)
                     : gather_linear(x, *weight, each, false);
  }
  return quantized ? stock_quantized_matmul(x, *weight, *scales, *biases, *quantized)
                   : matmul(x, swapaxes(*weight, -1, -2));
}

Array swiglu(const Array& gate, const Array& up) {
  if (Array y = ours(kernels::gated(kernels::Gate::silu, gate.ctx(), up.ctx(), stream.ctx))) return y;
  return gate * sigmoid(gate) * up;
}

Array fused_geglu(const Array& gate, const Array& up, bool tanh) {
  return ours(kernels::gated(tanh ? kernels::Gate::gelu_tanh : kernels::Gate::gelu, gate.ctx(), up.ctx(), stream.ctx));
}

Array fused_clipped_silu(const Array& gate, const Array& up) {
  return ours(kernels::gated(kernels::Gate::clipped_silu, gate.ctx(), up.ctx(), stream.ctx));
}

Array layer_norm(const Array& x, const Array& weight, const Array& bias, float eps) {
  if (Array y = ours(kernels::layer_norm(x.ctx(), weight.ctx(), bias.ctx(), eps, stream.ctx))) return y;
  return call(mlx_fast_layer_norm, raw(x), raw(weight), raw(bias), eps);
}

Array rms_norm(const Array& x, const Array& weight, float eps) {
  if (Array y = ours(kernels::rms_norm(x.ctx(), weight.ctx(), eps, stream.ctx))) return y;
  return call(mlx_fast_rms_norm, raw(x), raw(weight), eps);
}

Array rope(const Array& x, const RopeParameters& p, int offset) {
  if (Array y = ours(
          kernels::rope(x.ctx(), p.dims, p.traditional, p.base, p.scale, offset, nullptr, p.freqs.ctx(), stream.ctx))) {
    return y;
  }
  return call(mlx_fast_rope, raw(x), p.dims, p.traditional,
              mlx_optional_float{p.base.value_or(0.0f), p.base.has_value()}, p.scale, offset, raw(p.freqs));
}

Array rope(const Array& x, const RopeParameters& p, const Array& offsets) {
  if (Array y = ours(kernels::rope(x.ctx(), p.dims, p.traditional, p.base, p.scale, 0, offsets.ctx(), p.freqs.ctx(),
                                   stream.ctx))) {
    return y;
  }
  return call(mlx_fast_rope_dynamic, raw(x), p.dims, p.traditional,
              mlx_optional_float{p.base.value_or(0.0f), p.base.has_value()}, p.scale, raw(offsets), raw(p.freqs));
}

Array attention(const Array& q, const Array& k, const Array& v, float scale, Mask mode, const Array& mask,
                const Array& sinks) {
  kernels::AttentionOptions options;
  options.scale = scale;
  options.causal = mode == Mask::causal;
  options.mask = mode == Mask::array ? mask.ctx() : nullptr;
  options.sinks = sinks.ctx();
  if (Array y = ours(kernels::attention(q.ctx(), k.ctx(), v.ctx(), options, stream.ctx))) return y;
  const char* name = mode == Mask::none ? "" : mode == Mask::causal ? "causal" : "array";
  // MLX's kernels without scores take not every shape: the scores, their softmax and what becomes of it, float32.
  const uint64_t scores =
      3 * sizeof(float) * (q.size() / static_cast<size_t>(q.dim(-1))) * static_cast<size_t>(k.dim(-2));
  return counted(call_view(mlx_fast_scaled_dot_product_attention, raw(q), raw(k), raw(v), scale, name, raw(mask),
                           raw(sinks), false),
                 scores);
}

Array fused_causal_attention(const Array& q, const Array& k, const Array& v, float scale, int window, float soft_cap,
                             const Array& sinks) {
  kernels::AttentionOptions options;
  options.scale = scale;
  options.causal = true;
  options.window = window;
  options.soft_cap = soft_cap;
  options.sinks = sinks.ctx();
  return ours(kernels::attention(q.ctx(), k.ctx(), v.ctx(), options, stream.ctx));
}

Array fused_packed_attention(const Array& q, const PackedKeysValues& kv, float scale, float soft_cap,
                             const Array& sinks) {
  kernels::AttentionOptions options;
  options.scale = scale;
  options.causal = true;
  options.soft_cap = soft_cap;
  options.sinks = sinks.ctx();
  const auto handles = [](const Quantized& a) {
    return kernels::PackedArray{a.weight.ctx(), a.scales.ctx(), a.biases.ctx()};
  };
  return ours(kernels::packed_attention(q.ctx(), handles(kv.keys), handles(kv.values), kv.shape.group_size,
                                        kv.shape.bits, options, stream.ctx));
}

std::optional<Attended> fused_cached_attention(const Array& q, const Array& k, const Array& v, const Array& keys,
                                               const Array& values, const CachedAttention& options) {
  const auto handles = kernels::cached_attention(q.ctx(), k.ctx(), v.ctx(), keys.ctx(), values.ctx(),
                                                 {.q_norm = options.q_norm.ctx(),
                                                  .k_norm = options.k_norm.ctx(),
                                                  .norm_eps = options.norm_eps,
                                                  .dims = options.rope.dims,
                                                  .traditional = options.rope.traditional,
                                                  .base = options.rope.base,
                                                  .freqs = options.rope.freqs.ctx(),
                                                  .rope_scale = options.rope.scale,
                                                  .position = options.position,
                                                  .scale = options.scale,
                                                  .soft_cap = options.soft_cap,
                                                  .sinks = options.sinks.ctx(),
                                                  .at = options.at,
                                                  .first = options.first},
                                                 stream.ctx);
  if (handles[0] == nullptr) return std::nullopt;
  return Attended{Array::adopt(handles[0]), Array::adopt(handles[1]), Array::adopt(handles[2])};
}

std::optional<std::pair<Array, Array>> fused_greedy(const Array& scores) {
  const auto [ids, logprobs] = kernels::greedy(scores.ctx(), stream.ctx);
  if (ids == nullptr) return std::nullopt;
  return std::pair{Array::adopt(ids), Array::adopt(logprobs)};
}

std::optional<std::pair<Array, Array>> fused_sample(const Array& scores, const Array& key,
                                                    const SamplingFilters& filters) {
  const auto [id, logprob] = kernels::sample(
      scores.ctx(), key.ctx(), {filters.temperature, filters.top_p, filters.min_p, filters.top_k}, stream.ctx);
  if (id == nullptr) return std::nullopt;
  return std::pair{Array::adopt(id), Array::adopt(logprob)};
}

namespace {

using Recurred = std::optional<std::pair<Array, Array>>;

Recurred recurred(std::pair<void*, void*> handles, Type type) {
  if (handles.first == nullptr) return std::nullopt;
  const Array y = ours(handles.first), state = ours(handles.second);
  return std::pair{astype(y, type), state};
}

Array as_f32(const Array& a) { return astype(a, Type::f32); }

}  // namespace

Recurred fused_gated_delta(const Array& q, const Array& k, const Array& v, const Array& g, const Array& beta,
                           const Array& state) {
  return recurred(kernels::gated_delta(as_f32(q).ctx(), as_f32(k).ctx(), as_f32(v).ctx(), as_f32(g).ctx(),
                                       as_f32(beta).ctx(), as_f32(state).ctx(), stream.ctx),
                  q.dtype());
}

Recurred fused_state_space(const Array& x, const Array& a, const Array& b, const Array& c, const Array& d,
                           const Array& dt, const Array& state) {
  return recurred(kernels::state_space(as_f32(x).ctx(), as_f32(a).ctx(), as_f32(b).ctx(), as_f32(c).ctx(),
                                       as_f32(d).ctx(), as_f32(dt).ctx(), as_f32(state).ctx(), stream.ctx),
                  x.dtype());
}

Recurred fused_selective_scan(const Array& x, const Array& a, const Array& b, const Array& c, const Array& d,
                              const Array& dt, const Array& state) {
  return recurred(kernels::selective_scan(as_f32(x).ctx(), as_f32(a).ctx(), as_f32(b).ctx(), as_f32(c).ctx(),
                                          as_f32(d).ctx(), as_f32(dt).ctx(), as_f32(state).ctx(), stream.ctx),
                  x.dtype());
}

Recurred fused_wkv7(const Array& r, const Array& w, const Array& k, const Array& v, const Array& a, const Array& b,
                    const Array& state) {
  return recurred(kernels::wkv7(as_f32(r).ctx(), as_f32(w).ctx(), as_f32(k).ctx(), as_f32(v).ctx(), as_f32(a).ctx(),
                                as_f32(b).ctx(), as_f32(state).ctx(), stream.ctx),
                  r.dtype());
}

}  // namespace mlxk::mx
