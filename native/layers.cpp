// See layers.h.

#include "layers.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "error.h"

namespace mlxk {
namespace {

// config.json's entry for the layer if there is one, else what the shapes say: never the top-level default, because
// converters leave layers out that do not divide into groups.
std::optional<mx::QuantizedShape> quantization_of(const Weights& w, int in) {
  mx::QuantizedShape parameters;
  const auto declared = w.declared(parameters);
  if (declared == Weights::Declared::dense) return std::nullopt;
  if (declared == Weights::Declared::quantized) return parameters;
  if (!w.has("scales") || !w.has("weight")) return std::nullopt;

  const Array &weight = w.peek("weight"), &scales = w.peek("scales");
  const int columns = weight.ndim() >= 2 ? weight.dim(-1) : 0, groups = scales.ndim() >= 2 ? scales.dim(-1) : 0;
  const int64_t bits = int64_t{32} * columns;
  if (columns == 0 || groups == 0 || in % groups != 0 || bits % in != 0) {
    w.refuse("weight", "tensor_shape", " does not divide into quantization groups");
    return std::nullopt;
  }
  parameters = {in / groups, static_cast<int>(bits / in), "affine"};
  if (scales.dtype() == mx::Type::u8) {
    parameters.mode = parameters.group_size == 16 ? "nvfp4" : parameters.bits == 8 ? "mxfp8" : "mxfp4";
  }
  if (!quantization_supported({parameters.group_size, parameters.bits, parameters.mode})) {
    w.refuse("weight", "quantization_unsupported",
             " is quantized to " + std::to_string(parameters.bits) + " bits in groups of " +
                 std::to_string(parameters.group_size) + " (" + parameters.mode + ")");
    return std::nullopt;
  }
  return parameters;
}

Array gelu(const Array& x) { return x * (mx::erf(x * (1 / std::numbers::sqrt2_v<float>)) + 1.0f) * 0.5f; }

// Hendrycks and Gimpel's approximation, arXiv 1606.08415.
Array gelu_tanh(const Array& x) {
  const float root = std::sqrt(2 / std::numbers::pi_v<float>);
  const Array inner = (x + x * x * x * 0.044715f) * root;
  return x * 0.5f * (mx::tanh(inner) + 1.0f);
}

Array silu(const Array& x) { return x * mx::sigmoid(x); }

// Primer's squared ReLU, arXiv 2109.08668.
Array relu2(const Array& x) { return mx::square(mx::maximum(x, mx::scalar(0, x.dtype()))); }

template <Array (*function)(const Array&)>
Array times(const Array& gate, const Array& up) {
  return function(gate) * up;
}

template <Array (*function)(const Array&), bool kTanh>
Array gelu_times(const Array& gate, const Array& up) {
  const Array fused = mx::fused_geglu(gate, up, kTanh);
  return fused ? fused : function(gate) * up;
}

auto gate_function(Activation activation) {
  switch (activation) {
    case Activation::gelu: return gelu_times<gelu, false>;
    case Activation::gelu_tanh: return gelu_times<gelu_tanh, true>;
    case Activation::relu2: return times<relu2>;
    case Activation::silu: break;
  }
  return mx::swiglu;
}

auto function_of(Activation activation) {
  switch (activation) {
    case Activation::gelu: return gelu;
    case Activation::gelu_tanh: return gelu_tanh;
    case Activation::relu2: return relu2;
    case Activation::silu: break;
  }
  return silu;
}

mx::Shape with(mx::Shape leading, int rows, int columns) {
  leading.push_back(rows);
  leading.push_back(columns);
  return leading;
}

}  // namespace

MatrixTensors::MatrixTensors(const Weights& w, const mx::Shape& leading, int out, int in)
    : quantized(quantization_of(w, in)) {
  if (!quantized) {
    weight = w.take_matrix("weight", with(leading, out, in));
    return;
  }
  const auto& q = *quantized;
  if (in % q.group_size != 0 || int64_t{in} * q.bits % 32 != 0) {
    w.refuse(
        "weight", "tensor_shape",
        " has " + std::to_string(in) + " inputs, which do not divide into groups of " + std::to_string(q.group_size));
  }
  if (q.mode == "nvfp4" && in % 32 != 0) {
    w.refuse("weight", "quantization_unsupported",
             " has " + std::to_string(in) + " inputs, and MLX unpacks nvfp4 by 32 of them");
  }
  const mx::Shape groups = with(leading, out, in / q.group_size);
  weight = w.take("weight", with(leading, out, static_cast<int>(int64_t{in} * q.bits / 32)), mx::Type::u32);
  if (q.mode == "affine") {
    scales = w.take("scales", groups);
    biases = w.take("biases", groups, scales.dtype());
  } else {
    scales = w.take("scales", groups, mx::Type::u8);
  }
}

Matrix::Matrix(const Weights& w, int out, int in) : tensors_(w, {}, out, in) {}

Array Matrix::multiply(const Array& x) const {
  const auto& [quantized, weight, scales, biases] = tensors_;
  return quantized ? mx::quantized_matmul(x, weight, scales, biases, *quantized) : mx::linear(x, weight);
}

Array Matrix::multiply_add(const Array& x, const Array& c) const {
  return tensors_.quantized ? multiply(x) + c : mx::linear(x, tensors_.weight, c);
}

namespace {

// The rows that `choose` takes from each of the tensors, dequantized.
template <class Choose>
Array dequantized(const MatrixTensors& t, const Choose& choose) {
  if (!t.quantized) return choose(t.weight);
  // The floating-point modes carry no type of their own; bfloat16 is what MLX gives them.
  const mx::Type type = t.biases ? t.scales.dtype() : mx::Type::bf16;
  return mx::dequantize(choose(t.weight), choose(t.scales), t.biases ? choose(t.biases) : Array(), *t.quantized, type);
}

}  // namespace

Array Matrix::rows(const Array& ids) const {
  return dequantized(tensors_, [&](const Array& tensor) { return mx::take(tensor, ids, 0); });
}

Array Matrix::dense() const {
  return dequantized(tensors_, [](const Array& tensor) { return tensor; });
}

namespace {

// The rank of an adapter's matrices, from lora_a, whose axis `axis` it is.
int rank_of(const Weights& w, int axis) {
  const Array& down = w.peek("lora_a");
  return down.ndim() >= 2 ? down.dim(axis) : 1;
}

}  // namespace

StackedMatrix::StackedMatrix(const Weights& w, int count, int out, int in) : tensors_(w, {count}, out, in) {
  if (!w.adapter() || !w.has("lora_a")) return;
  if (w.adapter()->decomposed) w.refuse("lora_a", "tensor_unexpected", ": experts take no DoRA");
  const int rank = rank_of(w, -2);
  down_ = w.take("lora_a", {count, rank, in});
  up_ = w.take("lora_b", {count, out, rank});
  scale_ = w.adapter()->scale;
}

Array StackedMatrix::multiply(const Array& x) const { return mx::stacked_linear(x, tensors_.view()); }

Array StackedMatrix::multiply_plain(const Array& x) const {
  const auto& [quantized, weight, scales, biases] = tensors_;
  return quantized ? mx::quantized_matmul_plain(x, weight, scales, biases, *quantized)
                   : mx::matmul(x, mx::astype(weight, x.dtype()));
}

Array StackedMatrix::gather(const Array& x, const Array& indices, bool sorted, const Array& bias) const {
  const auto& [quantized, weight, scales, biases] = tensors_;
  const Array y = quantized ? mx::gather_quantized_linear(x, weight, scales, biases, indices, *quantized, sorted, bias)
                            : mx::gather_linear(x, weight, indices, sorted, bias);
  if (!down_) return y;
  const Array change = mx::gather_linear(mx::gather_linear(x, down_, indices, sorted), up_, indices, sorted);
  return y + mx::astype(change * scale_, x.dtype());
}

std::optional<LowRankUpdate> LowRankUpdate::of(const Weights& w, const Matrix& matrix, int out, int in, Layout layout) {
  if (!w.adapter() || !w.has("lora_a")) return std::nullopt;
  return LowRankUpdate(w, matrix, out, in, layout);
}

LowRankUpdate::LowRankUpdate(const Weights& w, const Matrix& matrix, int out, int in, Layout layout)
    : scale_(w.adapter()->scale) {
  const int rank = rank_of(w, -1);
  if (layout == Layout::linear) {
    down_ = w.take("lora_a", {in, rank});
    up_ = w.take("lora_b", {rank, out});
  } else {
    up_ = mx::transpose(w.take("lora_a", {out, rank}));
    down_ = mx::transpose(w.take("lora_b", {rank, in}));
  }
  if (!w.adapter()->decomposed) return;
  const Array learnt = w.take("m", {out});
  const Array adapted = matrix.dense() + mx::transpose(mx::matmul(down_, up_)) * scale_;
  magnitude_ =
      mx::astype(learnt, mx::Type::f32) * mx::rsqrt(mx::sum(mx::square(mx::astype(adapted, mx::Type::f32)), -1, false));
  mx::eval({magnitude_});
}

Array LowRankUpdate::multiply(const Array& x, const Array& y) const {
  const Array change = mx::astype(mx::matmul(mx::matmul(x, down_), up_) * scale_, x.dtype());
  return magnitude_ ? mx::astype(magnitude_, x.dtype()) * (y + change) : y + change;
}

Array LowRankUpdate::rows(const Array& ids, const Array& rows) const {
  const Array change = mx::matmul(mx::take(mx::transpose(up_), ids, 0), mx::transpose(down_)) * scale_;
  const Array adapted = rows + mx::astype(change, rows.dtype());
  return magnitude_ ? mx::astype(mx::expand_dims(mx::take(magnitude_, ids, 0), -1), rows.dtype()) * adapted : adapted;
}

Linear::Linear(const Weights& w, int in, int out, bool bias)
    : matrix_(w, out, in), update_(LowRankUpdate::of(w, matrix_, out, in, LowRankUpdate::Layout::linear)) {
  if (bias) bias_ = w.take("bias", {out});
}

Array Linear::operator()(const Array& x) const {
  if (!update_) return bias_ ? matrix_.multiply_add(x, bias_) : matrix_.multiply(x);
  const Array y = update_->multiply(x, matrix_.multiply(x));
  return bias_ ? y + bias_ : y;
}

std::vector<Array> Linear::each(const std::vector<const Linear*>& linears, const Array& x) {
  const bool plain = std::ranges::all_of(linears, [](const Linear* l) { return !l->update_ && !l->bias_; });
  std::vector<Array> y;
  if (plain) {
    std::vector<mx::MatrixView> matrices;
    for (const Linear* linear : linears) matrices.push_back(linear->matrix_.view());
    return mx::linears(x, matrices);
  }
  for (const Linear* linear : linears) y.push_back((*linear)(x));
  return y;
}

Embedding::Embedding(const Weights& w, int vocab_size, int dims)
    : matrix_(w, vocab_size, dims),
      update_(LowRankUpdate::of(w, matrix_, vocab_size, dims, LowRankUpdate::Layout::embedding)),
      activations_(w.activations()) {}

Array Embedding::operator()(const Array& ids) const {
  const Array stored = matrix_.rows(ids), rows = activations_ ? mx::astype(stored, *activations_) : stored;
  return update_ ? update_->rows(ids, rows) : rows;
}

Array Embedding::as_linear(const Array& x) const {
  const Array y = matrix_.multiply(x);
  return update_ ? update_->multiply(x, y) : y;
}

RMSNorm::RMSNorm(const Weights& w, int dims, float eps, float offset) : weight_(w.take("weight", {dims})), eps_(eps) {
  if (offset != 0) weight_ = weight_ + offset;
}

GroupRMSNorm::GroupRMSNorm(const Weights& w, int dims, float eps, int groups)
    : weight_(w.take("weight", {dims})), eps_(eps), groups_(groups) {}

Array GroupRMSNorm::operator()(const Array& x) const {
  if (groups_ == 1) return mx::rms_norm(x, weight_, eps_);
  mx::Shape parts = x.shape();
  parts.back() /= groups_;
  parts.insert(parts.end() - 1, groups_);
  return weight_ * mx::reshape(mx::rms_norm(mx::reshape(x, parts), {}, eps_), x.shape());
}

LayerNorm::LayerNorm(const Weights& w, int dims, float eps, bool bias, float offset)
    : weight_(w.take("weight", {dims})), eps_(eps) {
  if (offset != 0) weight_ = weight_ + offset;
  if (bias) bias_ = w.take("bias", {dims});
}

Activation read_activation(const ConfigReader& c, std::string_view field, std::string_view fallback) {
  const std::string name = c.text(field, fallback);
  if (name == "silu" || name == "swish") return Activation::silu;
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_new" || name == "gelu_fast" || name == "gelu_pytorch_tanh") return Activation::gelu_tanh;
  if (name == "relu2") return Activation::relu2;
  c.refuse(field,
           "must be one of gelu, gelu_fast, gelu_new, gelu_pytorch_tanh, relu2, silu, swish, got " + quoted(name));
}

Gate::Gate(Activation activation) : function_(mx::fuse(gate_function(activation))) {}

mx::Unary activate(Activation activation) { return mx::fuse(function_of(activation)); }

PositionScale PositionScale::read(const ConfigReader& rope_parameters) {
  return {.beta = rope_parameters.number("llama_4_scaling_beta"),
          .original = rope_parameters.positive("original_max_position_embeddings")};
}

Array PositionScale::operator()(const Array& q, const LayerCache& cache) const {
  Array positions = mx::astype(cache.batch.positions(), mx::Type::f32);  // [B or 1, L]
  if (first != 0) positions = positions + static_cast<float>(first);
  const Array spans = mx::floor(positions / mx::scalar(original, mx::Type::f32));
  const Array scale = mx::log(spans + 1.0f) * beta + 1.0f;
  return q * mx::astype(mx::reshape(scale, {positions.dim(0), 1, -1, 1}), q.dtype());
}

Array soft_cap(const Array& x, float cap) { return mx::tanh(x / mx::scalar(cap, x.dtype())) * cap; }

namespace {

// Softmax over capped scores, which no fused kernel of MLX computes. `mask` boolean [L, T].
Array capped_attention(const Array& q, const Array& keys, const Array& values, const AttentionOptions& o,
                       const Array& mask) {
  const int batch = q.dim(0), heads = q.dim(1), length = q.dim(2), dims = q.dim(3);
  const int kv_heads = keys.dim(1);
  const Array grouped = mx::reshape(q * o.scale, {batch, kv_heads, heads / kv_heads, length, dims});
  Array scores = soft_cap(mx::matmul(grouped, mx::swapaxes(mx::expand_dims(keys, 2), -1, -2)), o.softcap);
  if (mask) scores = mx::where(mask, scores, mx::scalar(mx::lowest(scores.dtype()), scores.dtype()));
  const Array out = mx::matmul(mx::softmax(scores, -1), mx::expand_dims(values, 2));
  return mx::reshape(out, {batch, heads, length, values.dim(-1)});
}

// Positions [start, start + length) by the keys that end where they end, each query within its own chunk.
Array chunk_mask(int start, int length, int seen, int chunk) {
  const int32_t size = chunk;
  const Array span = mx::from_ints({&size, 1}, {1});
  const int end = start + length;
  const Array query = mx::expand_dims(mx::arange(start, end, mx::Type::i32), 1);     // [L, 1]
  const Array key = mx::expand_dims(mx::arange(end - seen, end, mx::Type::i32), 0);  // [1, T]
  const Array begin = mx::floor_divide(query, span) * span;
  return mx::logical_and(mx::less_equal(key, query), mx::less_equal(begin, key));
}

Array attend_chunk(const Array& q, const Array& all_keys, const Array& all_values, int start,
                   const AttentionOptions& o) {
  const int length = q.dim(2), end = start + length, seen = all_keys.dim(2);
  const int begin = start / o.chunk * o.chunk;  // of the first query's chunk
  const int from = std::max(0, seen - (end - begin));
  const Array keys = mx::slice(all_keys, 2, from, seen), values = mx::slice(all_values, 2, from, seen);
  if (length == 1) return mx::attention(q, keys, values, o.scale, mx::Mask::none, {}, o.sinks);
  if (end - begin <= o.chunk) return mx::attention(q, keys, values, o.scale, mx::Mask::causal, {}, o.sinks);
  const Array mask = chunk_mask(start, length, seen - from, o.chunk);
  return mx::attention(q, keys, values, o.scale, mx::Mask::array, mask, o.sinks);
}

Array attend_row(const Array& q, const KVCache& state, const LayerCache& cache, int row, const AttentionOptions& o) {
  if (const auto packed = o.chunk > 0 ? std::nullopt : state.packed()) {
    if (Array y = mx::fused_packed_attention(q, *packed, o.scale, o.softcap, o.sinks)) return y;
  }
  const int length = q.dim(2);
  const auto [keys, values] = state.visible(length);
  const int seen = keys.dim(2);
  if (o.chunk > 0) return attend_chunk(q, keys, values, cache.batch.row(row).position, o);
  const bool slides = o.window > 0 && seen > o.window;
  if (Array y = mx::fused_causal_attention(q, keys, values, o.scale, slides ? o.window : 0, o.softcap, o.sinks)) {
    return y;
  }
  if (o.softcap > 0) {
    const Array mask = length == 1 ? Array() : cache.batch.window_mask(seen, slides ? o.window : seen);
    return capped_attention(q, keys, values, o, mask);
  }
  if (length == 1) return mx::attention(q, keys, values, o.scale, mx::Mask::none, {}, o.sinks);
  if (slides) {
    return mx::attention(q, keys, values, o.scale, mx::Mask::array, cache.batch.window_mask(seen, o.window), o.sinks);
  }
  return mx::attention(q, keys, values, o.scale, mx::Mask::causal, {}, o.sinks);
}

}  // namespace

Array attention(const Array& q, const Array& k, const Array& v, const LayerCache& cache,
                const AttentionOptions& options) {
  return by_row(cache, {q, k, v}, [&](const std::vector<Array>& row, int index) {
    auto& state = cache.state<KVCache>(index);
    state.append(row[1], row[2], cache.batch.row(index).quantization);
    return attend_row(row[0], state, cache, index, options);
  });
}

Array attention_of_next(const Array& q, const Array& k, const Array& v, const LayerCache& cache,
                        const AttentionOptions& options, const mx::CachedAttention& heads) {
  if (options.chunk > 0 || cache.batch.length() != 1) return {};
  for (int row = 0; row < cache.batch.rows(); ++row) {
    if (cache.batch.row(row).quantization || !cache.state<KVCache>(row).room()) return {};
  }
  std::vector<mx::Attended> attended;
  const Array y = by_row(cache, {q, k, v}, [&](const std::vector<Array>& row, int index) {
    const auto room = cache.state<KVCache>(index).room();
    mx::CachedAttention next = heads;
    next.position = cache.batch.row(index).position;
    next.scale = options.scale;
    next.soft_cap = options.softcap;
    next.sinks = options.sinks;
    next.at = room->at;
    next.first = room->first;
    auto result = mx::fused_cached_attention(row[0], row[1], row[2], room->keys, room->values, next);
    if (!result) return row[0];
    attended.push_back(*result);
    return result->y;
  });
  if (static_cast<int>(attended.size()) < cache.batch.rows()) return {};
  for (int row = 0; row < cache.batch.rows(); ++row) {
    const auto& [_, keys, values] = attended[static_cast<size_t>(row)];
    cache.state<KVCache>(row).appended(keys, values);
  }
  return y;
}

Array shared_attention(const Array& q, const LayerCache& cache, const AttentionOptions& options) {
  return by_row(cache, {q}, [&](const std::vector<Array>& row, int index) {
    return attend_row(row[0], cache.state<KVCache>(index), cache, index, options);
  });
}

}  // namespace mlxk
