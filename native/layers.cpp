// See layers.h.

#include "layers.h"

#include <cmath>
#include <numbers>

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
  const int columns = weight.ndim() == 2 ? weight.dim(1) : 0, groups = scales.ndim() == 2 ? scales.dim(1) : 0;
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

Array silu_times(const Array& gate, const Array& up) { return mx::swiglu(gate, up); }

Array gelu_times(const Array& gate, const Array& up) {
  return gate * (mx::erf(gate * (1 / std::numbers::sqrt2_v<float>)) + 1.0f) * 0.5f * up;
}

// Hendrycks and Gimpel's approximation, arXiv 1606.08415.
Array gelu_tanh_times(const Array& gate, const Array& up) {
  const float root = std::sqrt(2 / std::numbers::pi_v<float>);
  const Array inner = (gate + gate * gate * gate * 0.044715f) * root;
  return gate * 0.5f * (mx::tanh(inner) + 1.0f) * up;
}

auto function_of(Activation activation) {
  switch (activation) {
    case Activation::gelu: return gelu_times;
    case Activation::gelu_tanh: return gelu_tanh_times;
    case Activation::silu: break;
  }
  return silu_times;
}

}  // namespace

Matrix::Matrix(const Weights& w, int out, int in) : quantized_(quantization_of(w, in)) {
  if (!quantized_) {
    weight_ = w.take("weight", {out, in});
    transposed_ = mx::transpose(weight_);
    return;
  }
  const auto& q = *quantized_;
  if (in % q.group_size != 0 || int64_t{in} * q.bits % 32 != 0) {
    w.refuse(
        "weight", "tensor_shape",
        " has " + std::to_string(in) + " inputs, which do not divide into groups of " + std::to_string(q.group_size));
  }
  const int groups = in / q.group_size;
  weight_ = w.take("weight", {out, static_cast<int>(int64_t{in} * q.bits / 32)}, mx::Type::u32);
  if (q.mode == "affine") {
    scales_ = w.take("scales", {out, groups});
    biases_ = w.take("biases", {out, groups}, scales_.dtype());
  } else {
    scales_ = w.take("scales", {out, groups}, mx::Type::u8);
  }
}

Array Matrix::multiply(const Array& x) const {
  return quantized_ ? mx::quantized_matmul(x, weight_, scales_, biases_, *quantized_) : mx::linear(x, weight_);
}

Array Matrix::multiply_add(const Array& x, const Array& c) const {
  return quantized_ ? multiply(x) + c : mx::addmm(c, x, transposed_);
}

Array Matrix::rows(const Array& ids) const {
  if (!quantized_) return mx::take(weight_, ids, 0);
  // The floating-point modes carry no type of their own; bfloat16 is what MLX gives them.
  const mx::Type type = biases_ ? scales_.dtype() : mx::Type::bf16;
  return mx::dequantize(mx::take(weight_, ids, 0), mx::take(scales_, ids, 0),
                        biases_ ? mx::take(biases_, ids, 0) : Array(), *quantized_, type);
}

Linear::Linear(const Weights& w, int in, int out, bool bias) : matrix_(w, out, in) {
  if (bias) bias_ = w.take("bias", {out});
}

Array Linear::operator()(const Array& x) const { return bias_ ? matrix_.multiply_add(x, bias_) : matrix_.multiply(x); }

RMSNorm::RMSNorm(const Weights& w, int dims, float eps, float offset) : weight_(w.take("weight", {dims})), eps_(eps) {
  if (offset != 0) weight_ = weight_ + offset;
}

Gate::Gate(Activation activation) : function_(mx::fuse(function_of(activation))) {}

namespace {

Array attend_row(const Array& q, const Array& k, const Array& v, const LayerCache& cache, int row, float scale,
                 int window) {
  const auto [keys, values] = cache.state<KVCache>(row).update(k, v);
  const int length = q.dim(2), seen = keys.dim(2);
  if (length == 1) return mx::attention(q, keys, values, scale, mx::Mask::none, {});
  if (window > 0 && seen > window) {
    return mx::attention(q, keys, values, scale, mx::Mask::array, cache.batch.window_mask(seen, window));
  }
  return mx::attention(q, keys, values, scale, mx::Mask::causal, {});
}

}  // namespace

Array attention(const Array& q, const Array& k, const Array& v, const LayerCache& cache, float scale, int window) {
  const int rows = cache.batch.rows();
  if (rows == 1) return attend_row(q, k, v, cache, 0, scale, window);
  const auto qs = mx::split(q, rows, 0), ks = mx::split(k, rows, 0), vs = mx::split(v, rows, 0);
  std::vector<Array> out;
  for (int row = 0; row < rows; ++row) {
    const auto i = static_cast<size_t>(row);
    out.push_back(attend_row(qs[i], ks[i], vs[i], cache, row, scale, window));
  }
  return mx::concatenate(out, 0);
}

}  // namespace mlxk
