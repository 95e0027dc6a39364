// Linear recurrences: the gated delta rule and Mamba-2's. Composed of MLX operations they take a graph of several
// operations for every position, or a square matrix for every chunk of them.

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

}  // namespace mlxk::kernels
