// What sampling needs of the scores over a vocabulary, in one pass on all threads: the largest, and the logarithm of
// the sum of exponentials. Stock MLX takes 150,000 scores on one thread, an exponential at a time.

#include "kernels/cpu/scores.h"

#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

constexpr size_t kPiece = 8192;  // scores

bool above(float a, float b) { return a > b || (std::isnan(a) && !std::isnan(b)); }

}  // namespace

Summary summary_of(Type type, const uint8_t* row, size_t count) {
  std::vector<Summary> parts((count + kPiece - 1) / kPiece);
  for_ranges(count, kPiece, [&](size_t first, size_t last) {
    const uint8_t* from = row + first * static_cast<size_t>(size_of(type));
    const auto width = static_cast<int64_t>(last - first);
    const int64_t place = routines().argmax(type, from, width);
    Summary& part = parts[first / kPiece];
    routines().widen(type, from + place * size_of(type), &part.largest, 1);
    part.place = static_cast<int64_t>(first) + place;
    part.total = routines().sum_exponentials(type, from, part.largest, width);
  });
  Summary whole = parts.front();
  for (const Summary& part : parts) {
    if (above(part.largest, whole.largest)) whole = part;
  }
  whole.total = 0;
  for (const Summary& part : parts) whole.total += part.total * std::exp(part.largest - whole.largest);
  return whole;
}

namespace {

// inputs: scores [.., V]. outputs: places [..] and their log-probabilities [..].
class Greedy final : public CpuPrimitives {
 public:
  explicit Greedy(mlx::core::Stream stream) : CpuPrimitives(stream, "mlxk::Greedy") {}

 protected:
  std::function<void()> evaluate(const std::vector<array>& inputs, std::vector<array>& outputs) override {
    return [type = *type_of(inputs[0]), rows = Rows(inputs[0]), places = outputs[0].data<uint32_t>(),
            logprobs = outputs[1].data<float>()] {
      std::vector<uint8_t> buffer;
      for (size_t row = 0; row < rows.count; ++row) {
        const Summary found = summary_of(type, rows.read(row, buffer), static_cast<size_t>(rows.width));
        places[row] = static_cast<uint32_t>(found.place);
        logprobs[row] = found.largest - found.log_sum();
      }
    };
  }
};

class LogSumExp final : public CpuPrimitive {
 public:
  explicit LogSumExp(mlx::core::Stream stream) : CpuPrimitive(stream, "mlxk::LogSumExp") {}

 protected:
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    return [type = *type_of(inputs[0]), rows = Rows(inputs[0]), to = output.data<float>()] {
      std::vector<uint8_t> buffer;
      for (size_t row = 0; row < rows.count; ++row) {
        to[row] = summary_of(type, rows.read(row, buffer), static_cast<size_t>(rows.width)).log_sum();
      }
    };
  }
};

}  // namespace

std::pair<void*, void*> greedy(const void* scores, const void* stream) {
  if (!wanted_on(stream)) return {};
  const array& a = unwrap(scores);
  if (!has_kernel(a)) return {};
  const mlx::core::Shape shape(a.shape().begin(), a.shape().end() - 1);
  const auto made = array::make_arrays({shape, shape}, {mlx::core::uint32, mlx::core::float32},
                                       std::make_shared<Greedy>(stream_of(stream)), {a});
  return {new array(made[0]), new array(made[1])};
}

void* log_sum_exp(const void* x, const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array& a = unwrap(x);
  if (!has_kernel(a) || a.dtype() != mlx::core::float32) return nullptr;
  mlx::core::Shape shape = a.shape();
  shape.back() = 1;
  return make<LogSumExp>(std::move(shape), mlx::core::float32, {a}, stream);
}

}  // namespace mlxk::kernels
