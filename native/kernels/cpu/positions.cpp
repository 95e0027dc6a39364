// Writing and moving positions of a cache on several threads. Stock MLX copies on one, and room for more positions has
// to be filled with zeros before: touching memory for the first time is what costs most.

#include <cstring>

#include "kernels/cpu/primitive.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

// Copies positions [from, from + length) of `source` to [to, ..) of a dense array with `positions` of them; of both,
// `per_position` rows belong to a position.
struct Copy {
  Rows source;
  uint8_t* target;
  size_t item, source_positions, positions, per_position, from, to, length;

  void run() const {
    const size_t row_bytes = static_cast<size_t>(source.width) * item;
    const size_t outer = source.count / (source_positions * per_position), each = length * per_position;
    for_rows(outer * each, row_bytes, [&](size_t first, size_t last) {
      std::vector<uint8_t> buffer;
      for (size_t i = first; i < last; ++i) {
        const size_t batch = i / each, within = i % each;
        const size_t row = (batch * source_positions + from) * per_position + within;
        const size_t at = (batch * positions + to) * per_position + within;
        std::memcpy(target + at * row_bytes, source.read(row, buffer), row_bytes);
      }
    });
  }
};

// The axis of positions, and how many rows (last axis) one of them has.
size_t rows_per_position(const array& a, int axis) {
  size_t rows = 1;
  for (int i = axis + 1; i + 1 < static_cast<int>(a.ndim()); ++i) rows *= static_cast<size_t>(a.shape(i));
  return rows;
}

Copy copy_of(const array& source, int axis, array& output, size_t from, size_t to, size_t length) {
  return {Rows(source),
          output.data<uint8_t>(),
          source.itemsize(),
          static_cast<size_t>(source.shape(axis)),
          static_cast<size_t>(output.shape(axis)),
          rows_per_position(source, axis),
          from,
          to,
          length};
}

class UpdatePositions final : public CpuPrimitive {
 public:
  UpdatePositions(mlx::core::Stream stream, int axis, int start)
      : CpuPrimitive(stream, "mlxk::UpdatePositions"), axis_(axis), start_(static_cast<size_t>(start)) {}

 protected:
  void allocate(array&) override {}

  // inputs: the array, and what is written over it.
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    const array &whole = inputs[0], &update = inputs[1];
    const bool in_place = whole.is_donatable() && whole.flags().row_contiguous;
    if (in_place) {
      output.copy_shared_buffer(whole);
    } else {
      output.set_data(mlx::core::allocator::malloc(output.nbytes()));
    }
    const auto all = static_cast<size_t>(whole.shape(axis_)), written = static_cast<size_t>(update.shape(axis_));
    return [in_place, rest = copy_of(whole, axis_, output, 0, 0, all),
            copy = copy_of(update, axis_, output, 0, start_, written)] {
      if (!in_place) rest.run();
      copy.run();
    };
  }

 private:
  int axis_;
  size_t start_;
};

class MovePositions final : public CpuPrimitive {
 public:
  MovePositions(mlx::core::Stream stream, int axis, int begin, int end)
      : CpuPrimitive(stream, "mlxk::MovePositions"),
        axis_(axis),
        begin_(static_cast<size_t>(begin)),
        end_(static_cast<size_t>(end)) {}

 protected:
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    return [copy = copy_of(inputs[0], axis_, output, begin_, 0, end_ - begin_)] { copy.run(); };
  }

 private:
  int axis_;
  size_t begin_, end_;
};

bool has_positions(const array& a, int axis) {
  return a.size() > 0 && axis >= 0 && axis + 1 < static_cast<int>(a.ndim());
}

}  // namespace

void* update_positions(const void* a, const void* update, int axis, int start, const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array &whole = unwrap(a), &part = unwrap(update);
  if (!has_positions(whole, axis) || !has_positions(part, axis) || part.dtype() != whole.dtype()) return nullptr;
  mlx::core::Shape shape = part.shape();
  if (shape.size() != whole.shape().size() || start < 0 || start + part.shape(axis) > whole.shape(axis)) return nullptr;
  shape[static_cast<size_t>(axis)] = whole.shape(axis);
  if (shape != whole.shape()) return nullptr;
  return make<UpdatePositions>(shape, whole.dtype(), {whole, part}, stream, axis, start);
}

void* move_positions(const void* a, int axis, int begin, int end, int positions, const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array& from = unwrap(a);
  if (!has_positions(from, axis) || begin < 0 || begin > end || end > from.shape(axis) || end - begin > positions) {
    return nullptr;
  }
  mlx::core::Shape shape = from.shape();
  shape[static_cast<size_t>(axis)] = positions;
  return make<MovePositions>(shape, from.dtype(), {from}, stream, axis, begin, end);
}

}  // namespace mlxk::kernels
