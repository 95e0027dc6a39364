// Rotary position embedding. Stock MLX composes it of twenty-nine operations, each time with new cosines.

#include "kernels/cpu/angles.h"
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
    const auto length = static_cast<size_t>(output.shape(-2)), batches = static_cast<size_t>(output.shape(0));
    return [=, r = rotation_, type = *type_of(output), rows = Rows(inputs[0]), to = output.data<uint8_t>()] {
      static thread_local Angles angles_of_thread;
      Angles& angles = angles_of_thread;  // that of this thread, whichever runs a piece
      angles.set_frequencies(r.dims, r.base, freqs, freq_step);
      const size_t in_batch = rows.count / batches, width = static_cast<size_t>(rows.width);
      for (size_t batch = 0; batch < batches; ++batch) {
        angles.turn_to(r.scale, offsets ? offsets[static_cast<int64_t>(batch) * offset_step] : r.offset, length);
        for_rows(in_batch, width, [&](size_t first, size_t last) {
          std::vector<uint8_t> buffer;
          for (size_t i = first; i < last; ++i) {
            const size_t row = batch * in_batch + i;
            routines().rotate(type, rows.read(row, buffer), angles.cosines(row % length), angles.sines(row % length),
                              r.dims, r.traditional, rows.width, to + row * width * static_cast<size_t>(size_of(type)));
          }
        });
      }
    };
  }

 private:
  Rotation rotation_;
};

}  // namespace

void* rope(const void* x, int dims, bool traditional, std::optional<float> base, float scale, int offset,
           const void* offsets, const void* freqs, const void* stream) {
  if (!wanted_on(stream) || (base.has_value() == (freqs != nullptr))) return nullptr;
  const array& a = unwrap(x);
  if (!has_kernel(a) || a.ndim() < 3 || dims % 2 != 0 || dims > a.shape(-1)) return nullptr;
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
