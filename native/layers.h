// The layers that architectures are built from. Each binds its tensors by the checkpoint's names and decides by
// itself whether they are dense or quantized. Thread: engine thread only.

#pragma once

#include <optional>
#include <utility>

#include "kv_cache.h"
#include "mx.h"
#include "weights.h"

namespace mlxk {

// A matrix [out, in], or with `leading` sizes a stack of them, as the checkpoint stores it: dense, or packed with
// scales (and biases in affine mode). Tensors: weight, scales, biases.
struct MatrixTensors {
  MatrixTensors(const Weights& w, const mx::Shape& leading, int out, int in);

  std::optional<mx::QuantizedShape> quantized;
  Array weight;  // [.., out, in], or packed uint32
  Array scales, biases;

  mx::MatrixView view() const { return {&weight, &scales, &biases, quantized ? &*quantized : nullptr}; }
};

// One matrix [out, in].
class Matrix {
 public:
  Matrix(const Weights& w, int out, int in);

  Array multiply(const Array& x) const;                      // x @ W^T
  Array multiply_add(const Array& x, const Array& c) const;  // x @ W^T + c
  mx::MatrixView view() const { return tensors_.view(); }
  Array rows(const Array& ids) const;  // W[ids], dequantized
  Array dense() const;                 // W, dequantized

 private:
  MatrixTensors tensors_;
};

// Matrices [count, out, in]: the experts of a layer, or the heads of one.
class StackedMatrix {
 public:
  StackedMatrix(const Weights& w, int count, int out, int in);

  Array multiply(const Array& x) const;        // x [.., count, L, in] @ W^T, matrix by matrix
  Array multiply_plain(const Array& x) const;  // x [.., count, L, out] @ W
  // x [.., 1, in] @ W[indices]^T + bias[indices], the bias [count, out] or empty; `sorted` tells that the indices
  // ascend.
  Array gather(const Array& x, const Array& indices, bool sorted, const Array& bias = {}) const;

 private:
  MatrixTensors tensors_;
  Array down_, up_;  // of an adapter: lora_a [count, rank, in], lora_b [count, out, rank]
  float scale_ = 0;
};

// What an adapter adds to one matrix [out, in]. Tensors: lora_a [in, rank], lora_b [rank, out]; of an embedding lora_a
// [out, rank], lora_b [rank, in]; m [out] with DoRA.
class LowRankUpdate {
 public:
  enum class Layout { linear, embedding };
  // Nothing where the adapter has nothing for this scope.
  static std::optional<LowRankUpdate> of(const Weights& w, const Matrix& matrix, int out, int in, Layout layout);

  Array multiply(const Array& x, const Array& y) const;   // y = x W^T, adapted
  Array rows(const Array& ids, const Array& rows) const;  // rows = W[ids], adapted

 private:
  LowRankUpdate(const Weights& w, const Matrix& matrix, int out, int in, Layout layout);

  Array down_, up_;  // [in, rank], [rank, out]
  Array magnitude_;  // [out] with DoRA: learnt length over length of the adapted row
  float scale_;
};

// y = x W^T + b. Tensors: weight, scales, biases; bias where the architecture has one.
class Linear {
 public:
  Linear(const Weights& w, int in, int out, bool bias = false);
  Array operator()(const Array& x) const;
  // What each of several gives for the same x.
  static std::vector<Array> each(const std::vector<const Linear*>& linears, const Array& x);

 private:
  Matrix matrix_;
  std::optional<LowRankUpdate> update_;
  Array bias_;
};

// Tensors: weight, scales, biases. Its rows come in the type of activations.
class Embedding {
 public:
  Embedding(const Weights& w, int vocab_size, int dims);
  Array operator()(const Array& ids) const;
  Array as_linear(const Array& x) const;  // the tied head

 private:
  Matrix matrix_;
  std::optional<LowRankUpdate> update_;
  std::optional<mx::Type> activations_;
};

// Tensors: weight. Gemma stores the weight less one: `offset` is added to it once, in its own type.
class RMSNorm {
 public:
  RMSNorm(const Weights& w, int dims, float eps, float offset = 0);
  explicit RMSNorm(float eps) : eps_(eps) {}  // without a weight
  Array operator()(const Array& x) const { return mx::rms_norm(x, weight_, eps_); }
  const Array& weight() const { return weight_; }  // may be empty

 private:
  Array weight_;
  float eps_;
};

// RMSNorm of each of `groups` equal parts. Tensors: weight, of all of them.
class GroupRMSNorm {
 public:
  GroupRMSNorm(const Weights& w, int dims, float eps, int groups);
  Array operator()(const Array& x) const;

 private:
  Array weight_;
  float eps_;
  int groups_;
};

// Tensors: weight; bias where the architecture has one.
class LayerNorm {
 public:
  LayerNorm(const Weights& w, int dims, float eps, bool bias = true, float offset = 0);
  explicit LayerNorm(float eps) : eps_(eps) {}  // without weight and bias
  Array operator()(const Array& x) const { return mx::layer_norm(x, weight_, bias_, eps_); }

 private:
  Array weight_, bias_;
  float eps_;
};

enum class Activation { silu, gelu, gelu_tanh, relu2 };

// Reads an activation's name, as transformers spells it, from config.json. Throws config_invalid for one that is not
// known.
Activation read_activation(const ConfigReader& c, std::string_view field, std::string_view fallback);

// activation(gate) * up, as a gated feed-forward multiplies them.
class Gate {
 public:
  explicit Gate(Activation activation);
  explicit Gate(Array (*function)(const Array& gate, const Array& up)) : function_(mx::fuse(function)) {}
  explicit Gate(mx::Elementwise function) : function_(std::move(function)) {}  // one that has parameters, not fused
  Array operator()(const Array& gate, const Array& up) const { return function_(gate, up); }

 private:
  mx::Elementwise function_;
};

mx::Unary activate(Activation activation);

// cap * tanh(x / cap).
Array soft_cap(const Array& x, float cap);

// Llama 4's queries grow with their position p: 1 + beta log(1 + floor((p + first) / original)).
struct PositionScale {
  float beta, original;
  int first = 0;

  // Reads llama_4_scaling_beta and original_max_position_embeddings.
  static PositionScale read(const ConfigReader& rope_parameters);
  Array operator()(const Array& q, const LayerCache& cache) const;  // q [B, H, L, D]
};

struct AttentionOptions {
  float scale;
  int window = 0;     // W > 0: the caches must have been made with it
  int chunk = 0;      // C > 0: positions see no further back than the last multiple of C; caches made with window C
  Array sinks{};      // [H], scores without values that join every softmax
  float softcap = 0;  // > 0: scores are capped before the softmax
};

// Appends k and v to the layer's caches and attends causally over all they hold. q [B, H, L, D], k and v
// [B, K, L, D], both rotated already.
Array attention(const Array& q, const Array& k, const Array& v, const LayerCache& cache,
                const AttentionOptions& options);

// Projections of one new position q [B, 1, H D], k and v [B, 1, K D] through `heads`, cache and attention: [B, 1, H E],
// where that is one primitive for every row, or an empty array: then nothing was appended. `heads` tells of norm and
// rotation.
Array attention_of_next(const Array& q, const Array& k, const Array& v, const LayerCache& cache,
                        const AttentionOptions& options, const mx::CachedAttention& heads);

// The same over what another layer, whose caches these are, appended in this pass.
Array shared_attention(const Array& q, const LayerCache& cache, const AttentionOptions& options);

}  // namespace mlxk
