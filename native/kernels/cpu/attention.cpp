// Attention in one pass; stock MLX composes it of a dozen operations and keeps all scores. The result lies by
// positions, [B, L, H, E] in memory, which is how the layer after it reads it.

#include <algorithm>

#include "kernels/cpu/primitive.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

// Rows (positions times heads of a group) of one piece of work: the more share a block of keys, the cheaper it is.
constexpr int kRows = 128;
// Keys of one piece where there are few rows: so long contexts keep all threads busy whatever the number of heads.
constexpr int kKeys = 512;

// Queries, keys or values [B, H, L, D]: where they lie, or copied where their last axis has gaps.
class Operand {
 public:
  explicit Operand(const array& a)
      : packed_(a), data_(bytes_of(a)), item_(static_cast<int64_t>(a.itemsize())), gaps_(a.strides()[3] != 1) {
    const auto& s = a.strides();
    const int64_t width = a.shape(3), length = a.shape(2), heads = a.shape(1);
    if (width == 1) gaps_ = false;
    batch_ = gaps_ ? heads * length * width : s[0];
    head = gaps_ ? length * width : s[1];
    position = gaps_ ? width : s[2];
  }
  void read() {
    if (gaps_) data_ = packed_.read(buffer_);
  }
  const uint8_t* at(int64_t of_batch, int64_t of_head) const {
    return data_ + item_ * (of_batch * batch_ + of_head * head);
  }

  int64_t head, position;  // steps in numbers

 private:
  Packed packed_;
  std::vector<uint8_t> buffer_;
  const uint8_t* data_;
  int64_t item_, batch_;
  bool gaps_;
};

class AttentionPrimitive final : public CpuPrimitive {
 public:
  AttentionPrimitive(mlx::core::Stream stream, AttentionOptions options)
      : CpuPrimitive(stream, "mlxk::Attention"), options_(options) {}

 protected:
  void allocate(array& output) override {
    const int64_t heads = output.shape(1), length = output.shape(2), width = output.shape(3);
    output.set_data(mlx::core::allocator::malloc(output.nbytes()), output.size(),
                    {heads * length * width, width, heads * width, 1},
                    {true, heads == 1 || length == 1, output.size() == 1});
  }

  // inputs: q, k, v, then mask and sinks where there are any.
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    const array &q = inputs[0], &k = inputs[1], &v = inputs[2];
    Attention a{};
    a.type = *type_of(q);
    a.width = q.shape(3);
    a.value_width = v.shape(3);
    a.group = q.shape(1) / k.shape(1);
    a.queries = q.shape(2);
    a.keys = k.shape(2);
    a.scale = options_.scale;
    a.soft_cap = options_.soft_cap;
    a.causal = options_.causal;
    a.window = options_.window;
    if (options_.mask) {
      const array& mask = inputs[3];
      a.mask = mask.data<bool>();
      a.mask_query_step = mask.shape(-2) == 1 ? 0 : mask.strides()[mask.ndim() - 2];
      a.mask_key_step = mask.shape(-1) == 1 ? 0 : mask.strides().back();
    }
    const std::optional<Rows> sinks = options_.sinks ? std::optional<Rows>(inputs.back()) : std::nullopt;
    return [a, sinks, queries = Operand(q), keys = Operand(k), values = Operand(v), to = output.data<uint8_t>(),
            batches = q.shape(0), kv_heads = k.shape(1)]() mutable {
      queries.read();
      keys.read();
      values.read();
      std::vector<float> sink_values(static_cast<size_t>(kv_heads * a.group));
      std::vector<uint8_t> buffer;
      if (sinks) sinks->widen(a.type, 0, sink_values.data(), buffer);
      const int64_t item = size_of(a.type);
      const int all_rows = a.queries * a.group;
      const int ranges = (all_rows + kRows - 1) / kRows;
      const int parts = ranges > 1 || a.keys < 2 * kKeys ? 1 : (a.keys + kKeys - 1) / kKeys;
      const int64_t stride = attention_stride(a.value_width);
      const int64_t heads = int64_t{batches} * kv_heads;

      // Sums, largest scores and totals of [head, part, row] where parts have to be joined.
      std::vector<float> joined;
      if (parts > 1) joined.resize(static_cast<size_t>(heads * parts * all_rows * (stride + 2)));
      const auto finish = [&](int64_t head, int row, int count, int64_t step, const float* sums, const float* largest,
                              const float* totals) {
        const int64_t batch = head / kv_heads, position = row / a.group;
        const int64_t q_head = head % kv_heads * a.group + row % a.group;
        Attention of_head = a;
        of_head.sinks = sinks ? sink_values.data() + head % kv_heads * a.group : nullptr;
        uint8_t* y = to + ((batch * a.queries + position) * kv_heads * a.group + q_head) * a.value_width * item;
        routines().finish_attention(of_head, row % a.group, count, step, sums, largest, totals, y);
      };
      const auto pieces = static_cast<size_t>(heads * ranges * parts);
      const auto body = [&](size_t piece) {
        const auto head = static_cast<int64_t>(piece) / (ranges * parts);
        const int range = static_cast<int>(static_cast<int64_t>(piece) / parts % ranges);
        const int part = static_cast<int>(static_cast<int64_t>(piece) % parts);
        const int64_t batch = head / kv_heads, kv_head = head % kv_heads;
        const int first = range * kRows, last = std::min(all_rows, first + kRows), rows = last - first;
        const AttentionPointers p{queries.at(batch, kv_head * a.group),
                                  keys.at(batch, kv_head),
                                  values.at(batch, kv_head),
                                  queries.position,
                                  queries.head,
                                  keys.position,
                                  values.position};
        static thread_local Scratch memory;
        const int64_t own = parts > 1 ? 0 : rows * (stride + 2);
        float* scratch = memory.floats(own + routines().attend_scratch(a, rows));
        float* sums = scratch + routines().attend_scratch(a, rows);
        if (parts > 1) sums = joined.data() + (head * parts + part) * all_rows * (stride + 2);
        float *largest = sums + rows * stride, *totals = largest + rows;
        const int first_key = parts > 1 ? part * kKeys : 0;
        const int last_key = parts > 1 ? std::min(a.keys, first_key + kKeys) : a.keys;
        routines().attend(a, p, first, last, first_key, last_key, sums, largest, totals, scratch);
        if (parts > 1) return;
        for (int r = 0; r < rows; ++r) finish(head, first + r, 1, 0, sums + r * stride, largest + r, totals + r);
      };
      const size_t work = static_cast<size_t>(a.keys) * static_cast<size_t>(a.width + a.value_width) *
                          static_cast<size_t>(all_rows) * static_cast<size_t>(heads);
      if (work < 8 * kSmallWork) {
        for (size_t piece = 0; piece < pieces; ++piece) body(piece);
      } else {
        for_pieces(pieces, body);
      }
      if (parts == 1) return;
      for (int64_t head = 0; head < heads; ++head) {
        for (int r = 0; r < all_rows; ++r) join(head, r, parts, all_rows, stride, joined.data(), finish);
      }
    };
  }

 private:
  // Brings the parts of one row side by side and finishes it.
  template <class Finish>
  static void join(int64_t head, int row, int parts, int all_rows, int64_t stride, const float* joined,
                   const Finish& finish) {
    static thread_local std::vector<float> side;
    side.resize(static_cast<size_t>(parts * (stride + 2)));
    float *sums = side.data(), *largest = sums + parts * stride, *totals = largest + parts;
    for (int part = 0; part < parts; ++part) {
      const float* from = joined + (head * parts + part) * all_rows * (stride + 2);
      std::copy_n(from + row * stride, stride, sums + part * stride);
      largest[part] = from[all_rows * stride + row];
      totals[part] = from[all_rows * stride + all_rows + row];
    }
    finish(head, row, parts, 1, sums, largest, totals);
  }

  AttentionOptions options_;
};

}  // namespace

void* attention(const void* q, const void* k, const void* v, const AttentionOptions& options, const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array& qs = unwrap(q);
  array ks = unwrap(k), vs = unwrap(v);
  if (!has_kernel(qs) || ks.dtype() != qs.dtype() || vs.dtype() != qs.dtype()) return nullptr;
  if (qs.ndim() != 4 || ks.ndim() != 4 || vs.ndim() != 4 || ks.size() == 0 || vs.size() == 0) return nullptr;
  if (ks.shape(0) != qs.shape(0) || ks.shape(3) != qs.shape(3) || qs.shape(1) % ks.shape(1) != 0) return nullptr;
  for (int axis = 0; axis < 3; ++axis) {
    if (vs.shape(axis) != ks.shape(axis)) return nullptr;
  }
  if (options.causal && qs.shape(2) > ks.shape(2)) return nullptr;
  std::vector<array> inputs{qs, ks, vs};
  if (options.mask) {
    const array& mask = unwrap(options.mask);
    if (mask.dtype() != mlx::core::bool_ || mask.ndim() < 2) return nullptr;
    for (int axis = 0; axis + 2 < static_cast<int>(mask.ndim()); ++axis) {
      if (mask.shape(axis) != 1) return nullptr;
    }
    for (const auto& [axis, size] : {std::pair{-2, qs.shape(2)}, std::pair{-1, ks.shape(2)}}) {
      if (mask.shape(axis) != size && mask.shape(axis) != 1) return nullptr;
    }
    inputs.push_back(mask);
  }
  if (options.sinks) {
    const array& sinks = unwrap(options.sinks);
    if (sinks.dtype() != qs.dtype() || sinks.ndim() != 1 || sinks.shape(0) != qs.shape(1)) return nullptr;
    inputs.push_back(sinks);
  }
  return make<AttentionPrimitive>({qs.shape(0), qs.shape(1), qs.shape(2), vs.shape(3)}, qs.dtype(), std::move(inputs),
                                  stream, options);
}

}  // namespace mlxk::kernels
