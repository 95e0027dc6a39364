// Rotary position embedding. Stock MLX composes it of twenty-nine operations, each time with new cosines.

#include <cmath>

#include "kernels/cpu/primitive.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

struct Rotation {
  int dims;
  bool traditional;
  float base, scale;
  int offset;
  bool has_freqs, has_offsets;
};

// Cosine and sine of every angle of one position.
class Angles {
 public:
  Angles(const Rotation& r, const float* freqs, int64_t step) : cos_(half(r)), sin_(half(r)) {
    for (size_t i = 0; i < half(r); ++i) {
      frequencies_.push_back(freqs
                                 ? 1 / freqs[static_cast<int64_t>(i) * step]
                                 : std::exp(-static_cast<float>(i) * (std::log(r.base) / static_cast<float>(half(r)))));
    }
  }

  void turn_to(float position) {
    if (known_ && position == position_) return;
    known_ = true;
    position_ = position;
    for (size_t i = 0; i < frequencies_.size(); ++i) {
      cos_[i] = std::cos(position * frequencies_[i]);
      sin_[i] = std::sin(position * frequencies_[i]);
    }
  }
  float cos(int i) const { return cos_[static_cast<size_t>(i)]; }
  float sin(int i) const { return sin_[static_cast<size_t>(i)]; }

 private:
  static size_t half(const Rotation& r) { return static_cast<size_t>(r.dims / 2); }

  std::vector<float> frequencies_, cos_, sin_;
  float position_ = 0;
  bool known_ = false;
};

class Rope final : public CpuPrimitive {
 public:
  Rope(mlx::core::Stream stream, Rotation rotation) : CpuPrimitive(stream, "mlxk::Rope"), rotation_(rotation) {}

 protected:
  // inputs: x, then freqs and offsets where there are any.
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    const float* freqs = rotation_.has_freqs ? inputs[1].data<float>() : nullptr;
    const int64_t freq_step = freqs ? inputs[1].strides()[0] : 0;
    const int32_t* offsets = rotation_.has_offsets ? inputs.back().data<int32_t>() : nullptr;
    const int64_t offset_step = offsets && inputs.back().size() > 1 ? inputs.back().strides()[0] : 0;
    const auto length = static_cast<size_t>(output.shape(-2));
    const size_t rows_per_batch =
        output.size() / static_cast<size_t>(output.shape(-1)) / static_cast<size_t>(output.shape(0));
    std::function<void()> work;
    by_type(output, [&]<class T>(T) {
      work = [=, r = rotation_, rows = Rows(inputs[0]), x = inputs[0].data<T>(), y = output.data<T>()] {
        Angles angles(r, freqs, freq_step);
        std::vector<float> buffer;
        for (size_t row = 0; row < rows.count; ++row) {
          const int start = offsets ? offsets[static_cast<int64_t>(row / rows_per_batch) * offset_step] : r.offset;
          angles.turn_to(r.scale * static_cast<float>(start + static_cast<int>(row % length)));
          rotate(r, angles, rows.read(x, row, buffer), y + row * static_cast<size_t>(rows.width), rows.width);
        }
      };
    });
    return work;
  }

 private:
  template <class T>
  static void rotate(const Rotation& r, const Angles& angles, const float* from, T* to, int width) {
    const int half = r.dims / 2;
    const int stride = r.traditional ? 2 : 1, other = r.traditional ? 1 : half;
    for (int i = 0; i < half; ++i) {
      const int at = i * stride;
      const float a = from[at], b = from[at + other], c = angles.cos(i), s = angles.sin(i);
      to[at] = static_cast<T>(a * c - b * s);
      to[at + other] = static_cast<T>(a * s + b * c);
    }
    for (int i = r.dims; i < width; ++i) to[i] = static_cast<T>(from[i]);
  }

  Rotation rotation_;
};

}  // namespace

void* rope(const void* x, int dims, bool traditional, std::optional<float> base, float scale, int offset,
           const void* offsets, const void* freqs, const void* stream) {
  if (!on_cpu(stream) || (base.has_value() == (freqs != nullptr))) return nullptr;
  const array& a = unwrap(x);
  if (!has_kernel(a) || a.ndim() < 3 || a.size() == 0 || dims % 2 != 0 || dims > a.shape(-1)) return nullptr;
  std::vector<array> inputs{a};
  if (freqs) {
    const array& f = unwrap(freqs);
    if (f.dtype() != mlx::core::float32 || f.ndim() != 1 || f.shape(0) != dims / 2) return nullptr;
    inputs.push_back(f);
  }
  if (offsets) {
    const array& o = unwrap(offsets);
    if (o.dtype() != mlx::core::int32 || o.ndim() > 1) return nullptr;
    if (o.size() != 1 && o.size() != static_cast<size_t>(a.shape(0))) return nullptr;
    inputs.push_back(o);
  }
  const Rotation rotation{dims, traditional, base.value_or(1.0f), scale, offset, freqs != nullptr, offsets != nullptr};
  return make<Rope>(a.shape(), a.dtype(), std::move(inputs), stream, rotation);
}

}  // namespace mlxk::kernels
