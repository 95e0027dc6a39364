// Linear recurrences: the gated delta rule, Mamba-2's, Mamba's and RWKV-7's. Composed of MLX operations they take a
// graph of several operations for every position, or a square matrix for every chunk of them.

#include <algorithm>

#include "kernels/cpu/primitive.h"
#include "kernels/kernels.h"
#include "mlx/ops.h"

namespace mlxk::kernels {
namespace {

// body(head) for every head, of `work` multiplications each; so many heads a piece that a thread is worth its waking.
template <class Body>
void for_heads(int heads, int64_t work, const Body& body) {
  const int64_t grain = std::max<int64_t>(1, int64_t{8 * kSmallWork} / std::max<int64_t>(1, work));
  for_ranges(static_cast<size_t>(heads), static_cast<size_t>(grain), [&](size_t first, size_t last) {
    for (size_t head = first; head < last; ++head) body(head);
  });
}

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
      for_heads(batch * heads, int64_t{length} * dk * dv, [&](size_t piece) {
        const int row = static_cast<int>(piece), b = row / heads, head = row % heads;
        const int64_t first = int64_t{b} * length, key_head = head / (heads / key_heads);
        DeltaHead h;
        h.key_width = dk;
        h.value_width = dv;
        h.gates = gates;
        h.length = length;
        h.key_step = int64_t{key_heads} * dk;
        h.value_step = int64_t{heads} * dv;
        h.gate_step = int64_t{heads} * gates;
        h.beta_step = heads;
        h.q = in[0] + first * h.key_step + key_head * dk;
        h.k = in[1] + first * h.key_step + key_head * dk;
        h.v = in[2] + first * h.value_step + head * dv;
        h.g = in[3] + first * h.gate_step + head * gates;
        h.beta = in[4] + first * h.beta_step + head;
        routines().gated_delta(h, state + int64_t{row} * dv * dk, y + first * h.value_step + head * dv);
      });
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
      for_heads(batch * heads, int64_t{length} * width * n, [&](size_t piece) {
        const int row = static_cast<int>(piece), batch_index = row / heads, head = row % heads;
        const int64_t first = int64_t{batch_index} * length, group = head / (heads / groups);
        StateSpaceHead h;
        h.width = width;
        h.states = n;
        h.length = length;
        h.x_step = int64_t{heads} * width;
        h.group_step = int64_t{groups} * n;
        h.dt_step = heads;
        h.a = in[1][head];
        h.d = in[4][head];
        h.x = in[0] + first * h.x_step + int64_t{head} * width;
        h.b = in[2] + first * h.group_step + group * n;
        h.c = in[3] + first * h.group_step + group * n;
        h.dt = in[5] + first * h.dt_step + head;
        routines().state_space(h, state + int64_t{row} * width * n, y + first * h.x_step + int64_t{head} * width);
      });
    };
  }
};

class SelectiveScan final : public Recurrence {
 public:
  explicit SelectiveScan(mlx::core::Stream stream) : Recurrence(stream, "mlxk::SelectiveScan") {}

 protected:
  // inputs: x, a, b, c, d, dt, state
  Work work(const Arrays& inputs) const override {
    const int batch = inputs[0].shape(0), length = inputs[0].shape(1), channels = inputs[0].shape(2);
    const int n = inputs[1].shape(1);
    return [=](const std::vector<const float*>& in, float* y, float* state) {
      for_ranges(static_cast<size_t>(batch) * static_cast<size_t>(channels), kChannels, [&](size_t first, size_t last) {
        for (size_t at = first; at < last; ++at) {
          const auto row = static_cast<int64_t>(at) / channels, channel = static_cast<int64_t>(at) % channels;
          const int64_t position = row * length;
          ScanChannel h;
          h.states = n;
          h.length = length;
          h.x_step = channels;
          h.group_step = n;
          h.d = in[4][channel];
          h.a = in[1] + channel * n;
          h.x = in[0] + position * channels + channel;
          h.dt = in[5] + position * channels + channel;
          h.b = in[2] + position * n;
          h.c = in[3] + position * n;
          routines().selective_scan(h, state + (row * channels + channel) * n, y + position * channels + channel);
        }
      });
    };
  }

 private:
  static constexpr size_t kChannels = 64;  // of one piece of work
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
      for_heads(batch * heads, int64_t{length} * width * width, [&](size_t piece) {
        const auto row = static_cast<int64_t>(piece);
        const int64_t at = (row / heads * length * heads + row % heads) * width;
        const WkvHead h{width,      length,    int64_t{heads} * width, in[0] + at, in[1] + at, in[2] + at, in[3] + at,
                        in[4] + at, in[5] + at};
        routines().wkv7(h, state + row * width * width, y + at);
      });
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
  if (!wanted_on(stream)) return {nullptr, nullptr};
  const array& values = unwrap(v);
  return made<GatedDelta>({unwrap(q), unwrap(k), values, unwrap(g), unwrap(beta), unwrap(state)}, values.shape(),
                          stream);
}

std::pair<void*, void*> state_space(const void* x, const void* a, const void* b, const void* c, const void* d,
                                    const void* dt, const void* state, const void* stream) {
  if (!wanted_on(stream)) return {nullptr, nullptr};
  const array& input = unwrap(x);
  return made<StateSpace>({input, unwrap(a), unwrap(b), unwrap(c), unwrap(d), unwrap(dt), unwrap(state)}, input.shape(),
                          stream);
}

std::pair<void*, void*> selective_scan(const void* x, const void* a, const void* b, const void* c, const void* d,
                                       const void* dt, const void* state, const void* stream) {
  if (!wanted_on(stream)) return {nullptr, nullptr};
  const array& input = unwrap(x);
  return made<SelectiveScan>({input, unwrap(a), unwrap(b), unwrap(c), unwrap(d), unwrap(dt), unwrap(state)},
                             input.shape(), stream);
}

std::pair<void*, void*> wkv7(const void* r, const void* w, const void* k, const void* v, const void* a, const void* b,
                             const void* state, const void* stream) {
  if (!wanted_on(stream)) return {nullptr, nullptr};
  const array& input = unwrap(r);
  return made<Wkv7>({input, unwrap(w), unwrap(k), unwrap(v), unwrap(a), unwrap(b), unwrap(state)}, input.shape(),
                    stream);
}

}  // namespace mlxk::kernels
