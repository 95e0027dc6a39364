// Products of rows with the matrices that indices pick for them, as a mixture of experts needs: rows of one expert are
// multiplied together, so that its matrix is unpacked once.

#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/cpu/product.h"
#include "kernels/kernels.h"
#include "mlx/ops.h"

namespace mlxk::kernels {
namespace {

class GatherLinear final : public CpuPrimitive {
 public:
  GatherLinear(mlx::core::Stream stream, PackedFormat format, size_t parts, bool has_lhs)
      : CpuPrimitive(stream, "mlxk::GatherLinear"), format_(format), parts_(parts), has_lhs_(has_lhs) {}

 protected:
  // inputs: x, the parts of w, rhs, then lhs where there is one.
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    const array& rhs = inputs[1 + parts_];
    const Type type = *type_of(output);
    return [type, rows = Rows(inputs[0]), y = Results{type, output.data<uint8_t>(), output.shape(-1)},
            per_item = static_cast<size_t>(inputs[0].shape(-2)), experts = static_cast<uint32_t>(inputs[1].shape(0)),
            layout = MatrixLayout(format_.format, format_.group, format_.bits, inputs, 1, inputs[0].shape(-1)),
            picked = Packed(rhs), items = rhs.size(),
            from = has_lhs_ ? std::optional<Packed>(inputs[2 + parts_]) : std::nullopt]() mutable {
      layout.read();
      std::vector<uint8_t> rhs_buffer, lhs_buffer;
      const auto* expert_of = reinterpret_cast<const uint32_t*>(picked.read(rhs_buffer));
      const auto* x_of = from ? reinterpret_cast<const uint32_t*>(from->read(lhs_buffer)) : nullptr;
      const size_t x_items = rows.count / per_item;
      // Row of x that row `row` of the result comes from. An index past the end is read as the last, as it is in
      // no valid model and must not be read beyond the array.
      const auto source = [&](size_t row) {
        const size_t item = row / per_item, at = x_of ? x_of[item] : item;
        return std::min(at, x_items - 1) * per_item + row % per_item;
      };
      const auto expert = [&](size_t row) { return std::min(expert_of[row / per_item], experts - 1); };
      const auto read = [&](size_t row, float* to) {
        std::vector<uint8_t> buffer;
        rows.widen(type, source(row), to, buffer);
      };
      run(layout, items * per_item, expert, read, y);
    };
  }

 private:
  template <class ExpertOf, class Read>
  static void run(const MatrixLayout& layout, size_t count, const ExpertOf& expert, const Read& read,
                  const Results& y) {
    std::vector<size_t> order(count);
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return expert(a) < expert(b); });
    const int64_t row_bytes = y.row_stride * size_of(y.type);
    std::vector<Product> singles;
    std::vector<size_t> single_rows;
    std::vector<uint8_t> together;
    for (size_t first = 0, last; first < count; first = last) {
      for (last = first + 1; last < count && expert(order[last]) == expert(order[first]);) ++last;
      const Matrix w = layout.matrix(expert(order[first]));
      if (last - first < kTogether) {
        for (size_t i = first; i < last; ++i) {
          singles.push_back({w, {y.type, y.data + static_cast<int64_t>(order[i]) * row_bytes, y.row_stride}});
          single_rows.push_back(order[i]);
        }
        continue;
      }
      together.resize((last - first) * static_cast<size_t>(row_bytes));
      multiply(
          w, last - first, [&](size_t row, float* to) { read(order[first + row], to); },
          {y.type, together.data(), y.row_stride}, y.type);
      for (size_t i = first; i < last; ++i) {
        std::memcpy(y.data + static_cast<int64_t>(order[i]) * row_bytes,
                    together.data() + static_cast<int64_t>(i - first) * row_bytes, static_cast<size_t>(row_bytes));
      }
    }
    multiply_each(singles, [&](size_t i, float* to) { read(single_rows[i], to); }, y.type);
  }

  static constexpr size_t kTogether = 4;  // fewer rows than this are read one by one, on all threads at once

  PackedFormat format_;
  size_t parts_;
  bool has_lhs_;
};

// `parts`: w, then scales and biases where there are any.
void* make_gather(const array& x, std::vector<array> parts, const void* lhs, const void* rhs, PackedFormat format,
                  const void* stream) {
  const array &w = parts[0], &r = unwrap(rhs);
  if (x.ndim() < 2 || w.ndim() != 3 || r.dtype() != mlx::core::uint32 || r.size() == 0) return nullptr;
  std::vector<array> inputs{x};
  const size_t count = parts.size();
  mlx::core::Shape shape = r.shape();
  shape.push_back(x.shape(-2));
  shape.push_back(w.shape(1));
  inputs.insert(inputs.end(), parts.begin(), parts.end());
  inputs.push_back(r);
  if (lhs) {
    const array& l = unwrap(lhs);
    if (l.dtype() != mlx::core::uint32 || l.shape() != r.shape()) return nullptr;
    inputs.push_back(l);
  } else {
    // Without lhs MLX numbers the batches of x and broadcasts those numbers to the shape of rhs.
    const mlx::core::Shape batch(x.shape().begin(), x.shape().end() - 2);
    array numbers = mlx::core::reshape(
        mlx::core::arange(0, static_cast<int>(x.size() / static_cast<size_t>(x.shape(-1) * x.shape(-2))),
                          mlx::core::uint32, stream_of(stream)),
        batch, stream_of(stream));
    if (batch.size() > r.shape().size()) return nullptr;
    for (size_t i = 0; i < batch.size(); ++i) {
      const int size = batch[batch.size() - 1 - i];
      if (size != 1 && size != r.shape(-1 - static_cast<int>(i))) return nullptr;
    }
    inputs.push_back(mlx::core::broadcast_to(numbers, r.shape(), stream_of(stream)));
  }
  return make<GatherLinear>(std::move(shape), x.dtype(), std::move(inputs), stream, format, count, true);
}

}  // namespace

void* gather_linear(const void* x, const void* w, const void* lhs, const void* rhs, const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array &a = unwrap(x), &b = unwrap(w);
  if (!fits_dense(a, b) || b.ndim() != 3 || b.shape(2) != a.shape(-1) || b.size() == 0) return nullptr;
  return make_gather(a, {b}, lhs, rhs, {Format::dense, 0, 0}, stream);
}

void* gather_quantized_linear(const void* x, const void* w, const void* scales, const void* biases, const void* lhs,
                              const void* rhs, int group_size, int bits, const std::string& mode, const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array &a = unwrap(x), &b = unwrap(w), &s = unwrap(scales);
  const array* c = biases ? &unwrap(biases) : nullptr;
  const auto format = packed_format(mode, group_size, bits, a, b, s, c);
  if (!format) return nullptr;
  std::vector<array> parts{b, s};
  if (c) parts.push_back(*c);
  return make_gather(a, std::move(parts), lhs, rhs, *format, stream);
}

}  // namespace mlxk::kernels
