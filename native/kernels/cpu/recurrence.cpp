// Linear recurrences: the gated delta rule, Mamba-2's, Mamba's and RWKV-7's. Composed of MLX operations they take a
// graph of several operations for every position, or a square matrix for every chunk of them.

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/cpu/primitive.h"
#include "kernels/cpu/vector.h"
#include "kernels/kernels.h"
#include "mlx/ops.h"

namespace mlxk::kernels {
namespace {

using Arrays = std::vector<array>;

// A primitive over dense float32 inputs that gives y and the state it leaves; the state is the last input.
class Recurrence : public mlx::core::Primitive {
 public:
  Recurrence(mlx::core::Stream stream, const char* name) : Primitive(stream), name_(name) {}

  void eval_cpu(const Arrays& inputs, Arrays& outputs) final {
    for (array& output : outputs) output.set_data(mlx::core::allocator::malloc(output.nbytes()));
    for (const array& input : inputs) {
      if (!input.flags().row_contiguous) throw std::runtime_error("a recurrence was given a strided array");
    }
    std::vector<const float*> from;
    for (const array& input : inputs) from.push_back(input.data<float>());
    float *y = outputs[0].data<float>(), *state = outputs[1].data<float>();
    const size_t size = outputs[1].size();
    mlx::core::cpu::get_command_encoder(stream()).dispatch([work = work(inputs), from, y, state, size] {
      std::copy_n(from.back(), size, state);
      work(from, y, state);
    });
  }
  void eval_gpu(const Arrays&, Arrays&) final { throw std::runtime_error("a CPU kernel was asked to run on the GPU"); }
  const char* name() const final { return name_; }

 protected:
  using Work = std::function<void(const std::vector<const float*>& inputs, float* y, float* state)>;
  virtual Work work(const Arrays& inputs) const = 0;

 private:
  const char* name_;
};

MLXK_VECTORIZED void scale(float* values, float factor, int n) {
  for (int i = 0; i < n; ++i) values[i] *= factor;
}
MLXK_VECTORIZED void scale(float* values, const float* factors, int n) {
  for (int i = 0; i < n; ++i) values[i] *= factors[i];
}

class GatedDelta final : public Recurrence {
 public:
  explicit GatedDelta(mlx::core::Stream stream) : Recurrence(stream, "mlxk::GatedDelta") {}

 protected:
  // inputs: q, k, v, g, beta, state
  Work work(const Arrays& inputs) const override {
    const int batch = inputs[0].shape(0), length = inputs[0].shape(1), key_heads = inputs[0].shape(2);
    const int dk = inputs[0].shape(3), heads = inputs[2].shape(2), dv = inputs[2].shape(3);
    const int gates = inputs[3].ndim() == 4 ? dk : 1;
    return [=](const std::vector<const float*>& in, float* y, float* state) {
      for (int row = 0; row < batch * heads; ++row) {
        const int b = row / heads, head = row % heads, key_head = head / (heads / key_heads);
        float* s = state + static_cast<int64_t>(row) * dv * dk;
        for (int t = 0; t < length; ++t) {
          const int64_t at = int64_t{b} * length + t;
          const float *q = in[0] + (at * key_heads + key_head) * dk, *k = in[1] + (at * key_heads + key_head) * dk;
          const float *v = in[2] + (at * heads + head) * dv, *g = in[3] + (at * heads + head) * gates;
          const float beta = in[4][at * heads + head];
          float* out = y + (at * heads + head) * dv;
          for (int i = 0; i < dv; ++i) {
            float* values = s + int64_t{i} * dk;
            if (gates == 1) {
              scale(values, *g, dk);
            } else {
              scale(values, g, dk);
            }
            add_scaled((v[i] - dot(values, k, dk)) * beta, k, values, dk);
            out[i] = dot(values, q, dk);
          }
        }
      }
    };
  }
};

class StateSpace final : public Recurrence {
 public:
  explicit StateSpace(mlx::core::Stream stream) : Recurrence(stream, "mlxk::StateSpace") {}

 protected:
  // inputs: x, a, b, c, d, dt, state
  Work work(const Arrays& inputs) const override {
    const int batch = inputs[0].shape(0), length = inputs[0].shape(1), heads = inputs[0].shape(2);
    const int width = inputs[0].shape(3), groups = inputs[2].shape(2), n = inputs[2].shape(3);
    return [=](const std::vector<const float*>& in, float* y, float* state) {
      for (int row = 0; row < batch * heads; ++row) {
        const int batch_index = row / heads, head = row % heads, group = head / (heads / groups);
        float* s = state + static_cast<int64_t>(row) * width * n;
        for (int t = 0; t < length; ++t) {
          const int64_t at = int64_t{batch_index} * length + t;
          const float *x = in[0] + (at * heads + head) * width, *b = in[2] + (at * groups + group) * n;
          const float* c = in[3] + (at * groups + group) * n;
          const float dt = in[5][at * heads + head], decay = std::exp(in[1][head] * dt);
          float* out = y + (at * heads + head) * width;
          for (int i = 0; i < width; ++i) {
            float* values = s + int64_t{i} * n;
            scale(values, decay, n);
            add_scaled(dt * x[i], b, values, n);
            out[i] = dot(values, c, n) + in[4][head] * x[i];
          }
        }
      }
    };
  }
};

// e^x to a few units in the last place, in operations that vectorize: x = n ln 2 + r, then a polynomial in r (the
// coefficients are those of Cephes' expf).
inline float exponential(float x) {
  x = std::min(std::max(x, -87.0f), 88.0f);
  constexpr float kRound = 12582912.0f;  // added to a float below 2^22, it leaves the nearest integer in the low bits
  const float shifted = x * 1.44269504088896341f + kRound, n = shifted - kRound;
  const float r = x - n * 0.693359375f - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1;
  return p * std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) << 23) + 0x3f800000u);
}

// s <- exp(dt a) s + dtx b; returns s c.
MLXK_VECTORIZED float scan_step(float* s, const float* a, const float* b, const float* c, float dt, float dtx, int n) {
  constexpr int kLanes = 16;
  float lanes[kLanes] = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) {
      s[i + j] = s[i + j] * exponential(dt * a[i + j]) + dtx * b[i + j];
      lanes[j] += s[i + j] * c[i + j];
    }
  }
  float sum = sum_of(lanes);
  for (; i < n; ++i) {
    s[i] = s[i] * exponential(dt * a[i]) + dtx * b[i];
    sum += s[i] * c[i];
  }
  return sum;
}

class SelectiveScan final : public Recurrence {
 public:
  explicit SelectiveScan(mlx::core::Stream stream) : Recurrence(stream, "mlxk::SelectiveScan") {}

 protected:
  // inputs: x, a, b, c, d, dt, state
  Work work(const Arrays& inputs) const override {
    const int batch = inputs[0].shape(0), length = inputs[0].shape(1), channels = inputs[0].shape(2);
    const int n = inputs[1].shape(1);
    return [=](const std::vector<const float*>& in, float* y, float* state) {
      for (int64_t at = 0; at < int64_t{batch} * length; ++at) {
        float* s = state + at / length * channels * n;
        const float *x = in[0] + at * channels, *dt = in[5] + at * channels, *b = in[2] + at * n, *c = in[3] + at * n;
        for (int i = 0; i < channels; ++i) {
          const int64_t row = int64_t{i} * n;
          y[at * channels + i] = scan_step(s + row, in[1] + row, b, c, dt[i], dt[i] * x[i], n) + in[4][i] * x[i];
        }
      }
    };
  }
};

class Wkv7 final : public Recurrence {
 public:
  explicit Wkv7(mlx::core::Stream stream) : Recurrence(stream, "mlxk::Wkv7") {}

 protected:
  // inputs: r, w, k, v, a, b, state
  Work work(const Arrays& inputs) const override {
    const int batch = inputs[0].shape(0), length = inputs[0].shape(1), heads = inputs[0].shape(2);
    const int width = inputs[0].shape(3);
    return [=](const std::vector<const float*>& in, float* y, float* state) {
      for (int row = 0; row < batch * heads; ++row) {
        float* s = state + int64_t{row} * width * width;
        for (int t = 0; t < length; ++t) {
          const int64_t at = ((int64_t{row} / heads * length + t) * heads + row % heads) * width;
          for (int i = 0; i < width; ++i) {
            float* values = s + int64_t{i} * width;
            const float recalled = dot(values, in[4] + at, width);
            scale(values, in[1] + at, width);
            add_scaled(recalled, in[5] + at, values, width);
            add_scaled(in[3][at + i], in[2] + at, values, width);
            y[at + i] = dot(values, in[0] + at, width);
          }
        }
      }
    };
  }
};

// Handles of y and the new state, or none.
template <class P>
std::pair<void*, void*> made(const Arrays& inputs, mlx::core::Shape y, const void* stream) {
  for (const array& input : inputs) {
    if (input.dtype() != mlx::core::float32 || input.size() == 0) return {nullptr, nullptr};
  }
  Arrays dense;
  for (const array& input : inputs) dense.push_back(mlx::core::contiguous(input, false, stream_of(stream)));
  const auto state = dense.back().shape();
  const auto outputs = array::make_arrays({std::move(y), state}, {mlx::core::float32, mlx::core::float32},
                                          std::make_shared<P>(stream_of(stream)), dense);
  return {new array(outputs[0]), new array(outputs[1])};
}

}  // namespace

std::pair<void*, void*> gated_delta(const void* q, const void* k, const void* v, const void* g, const void* beta,
                                    const void* state, const void* stream) {
  if (!on_cpu(stream)) return {nullptr, nullptr};
  const array& values = unwrap(v);
  return made<GatedDelta>({unwrap(q), unwrap(k), values, unwrap(g), unwrap(beta), unwrap(state)}, values.shape(),
                          stream);
}

std::pair<void*, void*> state_space(const void* x, const void* a, const void* b, const void* c, const void* d,
                                    const void* dt, const void* state, const void* stream) {
  if (!on_cpu(stream)) return {nullptr, nullptr};
  const array& input = unwrap(x);
  return made<StateSpace>({input, unwrap(a), unwrap(b), unwrap(c), unwrap(d), unwrap(dt), unwrap(state)}, input.shape(),
                          stream);
}

std::pair<void*, void*> selective_scan(const void* x, const void* a, const void* b, const void* c, const void* d,
                                       const void* dt, const void* state, const void* stream) {
  if (!on_cpu(stream)) return {nullptr, nullptr};
  const array& input = unwrap(x);
  return made<SelectiveScan>({input, unwrap(a), unwrap(b), unwrap(c), unwrap(d), unwrap(dt), unwrap(state)},
                             input.shape(), stream);
}

std::pair<void*, void*> wkv7(const void* r, const void* w, const void* k, const void* v, const void* a, const void* b,
                             const void* state, const void* stream) {
  if (!on_cpu(stream)) return {nullptr, nullptr};
  const array& input = unwrap(r);
  return made<Wkv7>({input, unwrap(w), unwrap(k), unwrap(v), unwrap(a), unwrap(b), unwrap(state)}, input.shape(),
                    stream);
}

}  // namespace mlxk::kernels
