// How attention is split into pieces of work and its parts joined, and how its result lies.

#pragma once

#include <algorithm>
#include <vector>

#include "kernels/cpu/primitive.h"

namespace mlxk::kernels {

// Rows (positions times heads of a group) of one piece of work: the more share a block of keys, the cheaper it is.
constexpr int kAttentionRows = 128;
// Keys of one piece where there are few rows: so long contexts keep all threads busy whatever the number of heads.
constexpr int kAttentionKeys = 512;

// Memory for y [B, H, L, E] as [B, L, H, E], which is how the layer after it reads it.
inline void allocate_by_positions(array& y) {
  const int64_t heads = y.shape(1), length = y.shape(2), width = y.shape(3);
  y.set_data(mlx::core::allocator::malloc(y.nbytes()), y.size(), {heads * length * width, width, heads * width, 1},
             {true, heads == 1 || length == 1, y.size() == 1});
}

// Writes y [batches, queries, heads, value_width] to `to`. pointers(batch, kv_head, last) tells where operands lie; it
// is called by the piece itself, `last` telling that the piece sees the last key. `sinks` [heads] or null.
template <class Pointers>
void attend_all(const Attention& a, int64_t batches, int64_t kv_heads, const float* sinks, uint8_t* to,
                const Pointers& pointers) {
  const int64_t item = size_of(a.type);
  const int all_rows = a.queries * a.group;
  const int ranges = (all_rows + kAttentionRows - 1) / kAttentionRows;
  const int parts = ranges > 1 || a.keys < 2 * kAttentionKeys ? 1 : (a.keys + kAttentionKeys - 1) / kAttentionKeys;
  const int64_t stride = attention_stride(a.value_width);
  const int64_t heads = batches * kv_heads;

  // Sums, largest scores and totals of [head, part, row] where parts have to be joined.
  std::vector<float> joined;
  if (parts > 1) joined.resize(static_cast<size_t>(heads * parts * all_rows * (stride + 2)));
  const auto finish = [&](int64_t head, int row, int count, int64_t step, const float* sums, const float* largest,
                          const float* totals) {
    const int64_t batch = head / kv_heads, position = row / a.group;
    const int64_t q_head = head % kv_heads * a.group + row % a.group;
    Attention of_head = a;
    of_head.sinks = sinks ? sinks + head % kv_heads * a.group : nullptr;
    uint8_t* y = to + ((batch * a.queries + position) * kv_heads * a.group + q_head) * a.value_width * item;
    routines().finish_attention(of_head, row % a.group, count, step, sums, largest, totals, y);
  };
  const auto pieces = static_cast<size_t>(heads * ranges * parts);
  const auto body = [&](size_t piece) {
    const auto head = static_cast<int64_t>(piece) / (ranges * parts);
    const int range = static_cast<int>(static_cast<int64_t>(piece) / parts % ranges);
    const int part = static_cast<int>(static_cast<int64_t>(piece) % parts);
    const int first = range * kAttentionRows, last = std::min(all_rows, first + kAttentionRows), rows = last - first;
    const AttentionPointers p = pointers(head / kv_heads, head % kv_heads, part == parts - 1);
    static thread_local Scratch memory;
    const int64_t own = parts > 1 ? 0 : rows * (stride + 2);
    float* scratch = memory.floats(own + routines().attend_scratch(a, rows));
    float* sums = scratch + routines().attend_scratch(a, rows);
    if (parts > 1) sums = joined.data() + (head * parts + part) * all_rows * (stride + 2);
    float *largest = sums + rows * stride, *totals = largest + rows;
    const int first_key = parts > 1 ? part * kAttentionKeys : 0;
    const int last_key = parts > 1 ? std::min(a.keys, first_key + kAttentionKeys) : a.keys;
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
  // The parts of one row side by side.
  std::vector<float> side(static_cast<size_t>(parts * (stride + 2)));
  float *sums = side.data(), *largest = sums + parts * stride, *totals = largest + parts;
  for (int64_t head = 0; head < heads; ++head) {
    for (int row = 0; row < all_rows; ++row) {
      for (int part = 0; part < parts; ++part) {
        const float* from = joined.data() + (head * parts + part) * all_rows * (stride + 2);
        std::copy_n(from + row * stride, stride, sums + part * stride);
        largest[part] = from[all_rows * stride + row];
        totals[part] = from[all_rows * stride + all_rows + row];
      }
      finish(head, row, parts, 1, sums, largest, totals);
    }
  }
}

}  // namespace mlxk::kernels
