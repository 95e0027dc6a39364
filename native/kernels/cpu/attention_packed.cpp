// Attention of few queries over keys and values in affine codes: a piece of them at a time becomes float32 in the
// thread's own memory, close to the processor, so that a long context is read from memory in as few bytes as it is kept
// in.

#include <algorithm>

#include "kernels/cpu/attention_pieces.h"
#include "kernels/cpu/primitive.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

constexpr int kRows = 128;  // queries times heads of a group; above it dequantizing everything once is as cheap
constexpr int kKeys = 512;  // of one piece

// Keys or values: codes, scales and biases, [B, K, T, ..] each, as the matrix of positions that one head has.
class Heads {
 public:
  Heads(const array& codes, const array& scales, const array& biases, int group_size, int bits)
      : parts_{Part(codes), Part(scales), Part(biases)} {
    head_.format = Format::affine;
    head_.type = *type_of(scales);
    head_.outputs = codes.shape(2);
    head_.groups = scales.shape(3);
    head_.inputs = head_.groups * group_size;
    head_.group = group_size;
    head_.bits = bits;
    head_.row_bytes = int64_t{codes.shape(3)} * 4;
  }
  void read() {
    for (Part& part : parts_) part.read();
  }
  Matrix at(int64_t batch, int64_t head) const {
    Matrix m = head_;
    m.data = parts_[0].at(batch, head);
    m.scales = parts_[1].at(batch, head);
    m.biases = parts_[2].at(batch, head);
    return m;
  }

 private:
  // Where the heads of one array lie, or their copy where the positions of a head have gaps.
  class Part {
   public:
    explicit Part(const array& a) : packed_(a), data_(bytes_of(a)), item_(static_cast<int64_t>(a.itemsize())) {
      const auto& s = a.strides();
      const int64_t width = a.shape(3), length = a.shape(2), heads = a.shape(1);
      gaps_ = (s[3] != 1 && width > 1) || (s[2] != width && length > 1);
      head_ = gaps_ ? length * width : s[1];
      batch_ = gaps_ ? heads * length * width : s[0];
    }
    void read() {
      if (gaps_) data_ = packed_.read(buffer_);
    }
    const uint8_t* at(int64_t batch, int64_t head) const { return data_ + item_ * (batch * batch_ + head * head_); }

   private:
    Packed packed_;
    std::vector<uint8_t> buffer_;
    const uint8_t* data_;
    int64_t item_, head_, batch_;
    bool gaps_;
  };

  Part parts_[3];
  Matrix head_{};
};

class PackedAttentionPrimitive final : public CpuPrimitive {
 public:
  PackedAttentionPrimitive(mlx::core::Stream stream, AttentionOptions options, int group_size, int bits)
      : CpuPrimitive(stream, "mlxk::PackedAttention"), options_(options), group_size_(group_size), bits_(bits) {}

 protected:
  void allocate(array& output) override { allocate_by_positions(output); }

  // inputs: q; codes, scales and biases of k, then of v; sinks where there are any.
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    const array& q = inputs[0];
    const int kv_heads = inputs[1].shape(1);
    Attention a{};
    a.type = *type_of(q);
    a.width = q.shape(3);
    a.value_width = output.shape(3);
    a.group = q.shape(1) / kv_heads;
    a.queries = q.shape(2);
    a.keys = inputs[1].shape(2);
    a.scale = options_.scale;
    a.soft_cap = options_.soft_cap;
    a.causal = options_.causal;
    const std::optional<Rows> sinks = options_.sinks ? std::optional<Rows>(inputs.back()) : std::nullopt;
    return [a, sinks, kv_heads, queries = Rows(q), keys = Heads(inputs[1], inputs[2], inputs[3], group_size_, bits_),
            values = Heads(inputs[4], inputs[5], inputs[6], group_size_, bits_), to = output.data<uint8_t>(),
            batches = q.shape(0)]() mutable {
      keys.read();
      values.read();
      std::vector<float> sink_values(static_cast<size_t>(kv_heads * a.group));
      std::vector<uint8_t> buffer;
      if (sinks) sinks->widen(a.type, 0, sink_values.data(), buffer);
      const int64_t stride = attention_stride(a.value_width);
      const int rows = a.queries * a.group, parts = (a.keys + kKeys - 1) / kKeys;
      const int64_t heads = int64_t{batches} * kv_heads;

      // Queries in float32, [head, position, head of the group, width].
      std::vector<float> wide(static_cast<size_t>(heads * rows * a.width));
      for (int64_t row = 0; row < heads * rows; ++row) {
        const int64_t head = row / rows, position = row % rows / a.group, of_group = row % a.group;
        const int64_t from = (head * a.group + of_group) * a.queries + position;
        queries.widen(a.type, static_cast<size_t>(from), wide.data() + row * a.width, buffer);
      }
      // Of [head, part, row]: sums, largest scores, totals.
      std::vector<float> sums(static_cast<size_t>(heads * parts * rows * stride));
      std::vector<float> largest(static_cast<size_t>(heads * parts * rows)), totals(largest.size());

      const auto body = [&](size_t piece) {
        const auto head = static_cast<int64_t>(piece) / parts;
        const int first = static_cast<int>(static_cast<int64_t>(piece) % parts) * kKeys;
        const Matrix k = keys.at(head / kv_heads, head % kv_heads), v = values.at(head / kv_heads, head % kv_heads);
        static thread_local Scratch memory;
        float* scratch = memory.floats(routines().attend_packed_scratch(a, k, v, rows));
        const int64_t row = static_cast<int64_t>(piece) * rows;
        routines().attend_packed(a, k, v, wide.data() + head * rows * a.width, first, std::min(a.keys, first + kKeys),
                                 sums.data() + row * stride, largest.data() + row, totals.data() + row, scratch);
      };
      const auto pieces = static_cast<size_t>(heads * parts);
      if (static_cast<size_t>(a.keys) * static_cast<size_t>(a.width + a.value_width) * static_cast<size_t>(heads) <
          kSmallWork) {
        for (size_t piece = 0; piece < pieces; ++piece) body(piece);
      } else {
        for_pieces(pieces, body);
      }
      for (int64_t head = 0; head < heads; ++head) {
        Attention of_head = a;
        of_head.sinks = sinks ? sink_values.data() + head % kv_heads * a.group : nullptr;
        for (int64_t row = 0; row < rows; ++row) {
          const int64_t at = head * parts * rows + row, position = row / a.group, of_group = row % a.group;
          const int64_t y =
              (head / kv_heads * a.queries + position) * kv_heads * a.group + head % kv_heads * a.group + of_group;
          routines().finish_attention(of_head, static_cast<int>(of_group), parts, rows, sums.data() + at * stride,
                                      largest.data() + at, totals.data() + at,
                                      to + y * a.value_width * size_of(a.type));
        }
      }
    };
  }

 private:
  AttentionOptions options_;
  int group_size_, bits_;
};

// Numbers of one position of `a`; 0 where its parts do not fit each other.
int width_of(const PackedArray& a, int group_size, int bits, const array& q) {
  const array &codes = unwrap(a.codes), &scales = unwrap(a.scales), &biases = unwrap(a.biases);
  if (codes.dtype() != mlx::core::uint32 || scales.dtype() != q.dtype() || biases.dtype() != q.dtype()) return 0;
  if (codes.ndim() != 4 || scales.ndim() != 4 || biases.shape() != scales.shape() || codes.size() == 0) return 0;
  for (int axis = 0; axis < 3; ++axis) {
    if (scales.shape(axis) != codes.shape(axis)) return 0;
  }
  const int width = scales.shape(3) * group_size;
  return int64_t{codes.shape(3)} * 32 == int64_t{width} * bits ? width : 0;
}

}  // namespace

void* packed_attention(const void* q, const PackedArray& k, const PackedArray& v, int group_size, int bits,
                       const AttentionOptions& options, const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array& qs = unwrap(q);
  if (!has_kernel(qs) || qs.ndim() != 4 || options.mask != nullptr || options.window > 0) return nullptr;
  const int width = width_of(k, group_size, bits, qs), value_width = width_of(v, group_size, bits, qs);
  if (width == 0 || value_width == 0 || width != qs.shape(3)) return nullptr;
  const array &keys = unwrap(k.codes), &values = unwrap(v.codes);
  for (int axis = 0; axis < 3; ++axis) {
    if (values.shape(axis) != keys.shape(axis)) return nullptr;
  }
  if (keys.shape(0) != qs.shape(0) || qs.shape(1) % keys.shape(1) != 0) return nullptr;
  if (qs.shape(1) / keys.shape(1) * qs.shape(2) > kRows) return nullptr;
  if (options.causal && qs.shape(2) > keys.shape(2)) return nullptr;
  std::vector<array> inputs{qs};
  for (const PackedArray& a : {k, v}) {
    for (const void* part : {a.codes, a.scales, a.biases}) inputs.push_back(unwrap(part));
  }
  if (options.sinks) {
    const array& sinks = unwrap(options.sinks);
    if (sinks.dtype() != qs.dtype() || sinks.ndim() != 1 || sinks.shape(0) != qs.shape(1)) return nullptr;
    inputs.push_back(sinks);
  }
  return make<PackedAttentionPrimitive>({qs.shape(0), qs.shape(1), qs.shape(2), value_width}, qs.dtype(),
                                        std::move(inputs), stream, options, group_size, bits);
}

}  // namespace mlxk::kernels
