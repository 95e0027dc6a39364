// Products with weights packed to 2, 4 or 8 bits (affine mode: code * scale + bias for each group of inputs). The
// stock kernel unpacks one number at a time and, in bfloat16, adds in bfloat16.

#include <bit>

#include "kernels/cpu/primitive.h"
#include "kernels/cpu/rows_times_matrix.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

constexpr int kLanes = 32;  // every group size is a multiple

// Codes [at, at + kLanes) of a packed row. Codes fill each byte from its low bits up.
template <int kBits>
inline void unpack(const uint8_t* row, int at, float* codes) {
  constexpr int kPerByte = 8 / kBits, kMask = (1 << kBits) - 1;
  const uint8_t* bytes = row + at / kPerByte;
  for (int i = 0; i < kLanes; ++i) {
    codes[i] = static_cast<float>((bytes[i / kPerByte] >> (kBits * (i % kPerByte))) & kMask);
  }
}

// Weights [O, I] as MLX packs them: codes row after row, a scale and a bias for each group.
template <class S>
struct Packed {
  const uint8_t* codes;
  const S *scales, *biases;
  int outputs, inputs, group_size, bits;

  int groups() const { return inputs / group_size; }
  const uint8_t* row(int o) const {
    return codes + static_cast<size_t>(o) * static_cast<size_t>(inputs) * static_cast<size_t>(bits) / 8;
  }
  const S* scales_of(int o) const { return scales + static_cast<size_t>(o) * static_cast<size_t>(groups()); }
  const S* biases_of(int o) const { return biases + static_cast<size_t>(o) * static_cast<size_t>(groups()); }
};

template <class S>
inline float widen(S value) {
  if constexpr (std::is_same_v<S, float>) return value;
  // The upper half of a float32; MLX's own conversion keeps compilers from vectorizing.
  else
    return std::bit_cast<float>(static_cast<uint32_t>(std::bit_cast<uint16_t>(value)) << 16);
}

// y [O] = w x, with the sum of x over each group in `sums`.
template <int kBits, class S>
MLXK_VECTORIZED void multiply_row(const Packed<S>& w, const float* x, const float* sums, float* y) {
  const int groups = w.groups();
  for (int o = 0; o < w.outputs; ++o) {
    const uint8_t* row = w.row(o);
    const S *scales = w.scales_of(o), *biases = w.biases_of(o);
    float total = 0, lanes[kLanes] = {};
    for (int g = 0; g < groups; ++g) {
      float group[kLanes] = {};  // of x times code
      for (int at = g * w.group_size; at < (g + 1) * w.group_size; at += kLanes) {
        float codes[kLanes];
        unpack<kBits>(row, at, codes);
        for (int i = 0; i < kLanes; ++i) group[i] += x[at + i] * codes[i];
      }
      const float scale = widen(scales[g]);
      for (int i = 0; i < kLanes; ++i) lanes[i] += group[i] * scale;
      total += sums[g] * widen(biases[g]);
    }
    y[o] = total + sum_of(lanes);
  }
}

// values [I] = row o of w.
template <int kBits, class S>
MLXK_VECTORIZED void expand_row(const Packed<S>& w, int o, float* values) {
  const uint8_t* row = w.row(o);
  for (int g = 0; g < w.groups(); ++g) {
    const float scale = widen(w.scales_of(o)[g]), bias = widen(w.biases_of(o)[g]);
    for (int at = g * w.group_size; at < (g + 1) * w.group_size; at += kLanes) {
      float codes[kLanes];
      unpack<kBits>(row, at, codes);
      for (int i = 0; i < kLanes; ++i) values[at + i] = codes[i] * scale + bias;
    }
  }
}

template <int kBits, class T, class S>
void multiply(const Packed<S>& w, const Rows& rows, const T* x, T* y) {
  if (rows.count == 1) {
    std::vector<float> buffer, sums(static_cast<size_t>(w.groups())), result(static_cast<size_t>(w.outputs));
    const float* from = rows.read(x, 0, buffer);
    for (int i = 0; i < w.inputs; ++i) sums[static_cast<size_t>(i / w.group_size)] += from[i];
    multiply_row<kBits>(w, from, sums.data(), result.data());
    for (size_t o = 0; o < result.size(); ++o) y[o] = static_cast<T>(result[o]);
    return;
  }
  rows_times_matrix(rows, x, w.outputs, y, [&](int o, std::vector<float>& buffer) -> const float* {
    buffer.resize(static_cast<size_t>(w.inputs));
    expand_row<kBits>(w, o, buffer.data());
    return buffer.data();
  });
}

class QuantizedLinear final : public CpuPrimitive {
 public:
  QuantizedLinear(mlx::core::Stream stream, int group_size, int bits)
      : CpuPrimitive(stream, "mlxk::QuantizedLinear"), group_size_(group_size), bits_(bits) {}

 protected:
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    const array &x = inputs[0], &w = inputs[1], &scales = inputs[2], &biases = inputs[3];
    for (const array& a : {w, scales, biases}) {
      if (!a.flags().row_contiguous) throw std::runtime_error("packed weights must be contiguous");
    }
    std::function<void()> work;
    by_type(output, [&]<class T>(T) {
      by_type(scales, [&]<class S>(S) {
        const Packed<S> packed{reinterpret_cast<const uint8_t*>(w.data<uint32_t>()),
                               scales.data<S>(),
                               biases.data<S>(),
                               w.shape(0),
                               x.shape(-1),
                               group_size_,
                               bits_};
        work = [packed, rows = Rows(x), from = x.data<T>(), to = output.data<T>()] {
          if (packed.bits == 8) return multiply<8>(packed, rows, from, to);
          if (packed.bits == 4) return multiply<4>(packed, rows, from, to);
          multiply<2>(packed, rows, from, to);
        };
      });
    });
    return work;
  }

 private:
  int group_size_, bits_;
};

}  // namespace

void* quantized_linear(const void* x, const void* w, const void* scales, const void* biases, int group_size, int bits,
                       const void* stream) {
  if (!on_cpu(stream) || biases == nullptr || (bits != 2 && bits != 4 && bits != 8) || group_size % kLanes != 0)
    return nullptr;
  const array &a = unwrap(x), &b = unwrap(w), &s = unwrap(scales), &c = unwrap(biases);
  // The stock operation promotes mixed types; only equal ones keep the type of x.
  if (!has_kernel(a) || s.dtype() != a.dtype() || c.dtype() != s.dtype() || a.size() == 0) return nullptr;
  // The stock operation says what is wrong with these.
  if (b.dtype() != mlx::core::uint32 || b.ndim() != 2 || b.shape(1) * (32 / bits) != a.shape(-1)) return nullptr;
  if (s.shape() != mlx::core::Shape{b.shape(0), a.shape(-1) / group_size} || c.shape() != s.shape()) return nullptr;
  mlx::core::Shape shape = a.shape();
  shape.back() = b.shape(0);
  return make<QuantizedLinear>(std::move(shape), a.dtype(), {a, b, s, c}, stream, group_size, bits);
}

}  // namespace mlxk::kernels
