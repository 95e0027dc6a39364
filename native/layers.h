// The layers that architectures are built from. Each binds its tensors by the checkpoint's names and decides by
// itself whether they are dense or quantized. Thread: engine thread only.

#pragma once

#include <optional>

#include "kv_cache.h"
#include "mx.h"
#include "weights.h"

namespace mlxk {

// A matrix [out, in] as the checkpoint stores it: dense, or packed with scales (and biases in affine mode).
class Matrix {
 public:
  Matrix(const Weights& w, int out, int in);

  Array multiply(const Array& x) const;                      // x @ W^T
  Array multiply_add(const Array& x, const Array& c) const;  // x @ W^T + c
  Array rows(const Array& ids) const;                        // W[ids], dequantized

 private:
  std::optional<mx::QuantizedShape> quantized_;
  Array weight_;  // [out, in], or packed uint32
  Array transposed_;
  Array scales_, biases_;
};

// y = x W^T + b. Tensors: weight, scales, biases; bias where the architecture has one.
class Linear {
 public:
  Linear(const Weights& w, int in, int out, bool bias = false);
  Array operator()(const Array& x) const;

 private:
  Matrix matrix_;
  Array bias_;
};

// Tensors: weight, scales, biases.
class Embedding {
 public:
  Embedding(const Weights& w, int vocab_size, int dims) : matrix_(w, vocab_size, dims) {}
  Array operator()(const Array& ids) const { return matrix_.rows(ids); }
  Array as_linear(const Array& x) const { return matrix_.multiply(x); }  // the tied head

 private:
  Matrix matrix_;
};

// Tensors: weight. Gemma stores the weight less one: `offset` is added to it once, in its own type.
class RMSNorm {
 public:
  RMSNorm(const Weights& w, int dims, float eps, float offset = 0);
  Array operator()(const Array& x) const { return mx::rms_norm(x, weight_, eps_); }

 private:
  Array weight_;
  float eps_;
};

// activation(gate) * up, as a gated feed-forward multiplies them.
enum class Activation { silu, gelu, gelu_tanh };

class Gate {
 public:
  explicit Gate(Activation activation);
  Array operator()(const Array& gate, const Array& up) const { return function_(gate, up); }

 private:
  mx::Elementwise function_;
};

// Appends k and v to the layer's caches and attends causally over all they hold. q [B, H, L, D], k and v
// [B, K, L, D], both rotated already. A window W > 0 must be the one the caches were made with.
Array attention(const Array& q, const Array& k, const Array& v, const LayerCache& cache, float scale, int window = 0);

}  // namespace mlxk
