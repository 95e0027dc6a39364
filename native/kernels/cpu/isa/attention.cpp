// Scores, softmax and the sum of values in one pass over the keys, a block of keys at a time: what was summed so far is
// scaled down when a larger score appears. Few rows multiply keys and values as they lie; many rows turn a block into
// panels first, whose cost they share.

#include "kernels/cpu/isa/attention.h"

#include "kernels/cpu/isa/products.h"

namespace mlxk::kernels::MLXK_ISA {
namespace {

constexpr int kBlock = 64;         // keys
constexpr int kFewRows = 8;        // above it panels pay
constexpr float kMasked = -3e38f;  // finite, so that a row that may look at nothing averages everything, as MLX's does

// Keys [first, last) that a query may look at as far as causality and window go.
struct Visible {
  Visible(const Attention& a, int query) : first(0), last(a.keys) {
    if (a.causal) last = a.keys - a.queries + query + 1;
    if (a.window > 0 && last - a.window > 0) first = last - a.window;
  }
  int first, last;
};

struct Scratch {
  Scratch(const Attention& a, int rows, float* at)
      : queries(at), scores(queries + int64_t{rows} * a.width), panel(scores + int64_t{rows} * kBlock) {}
  static int64_t size(const Attention& a, int rows) {
    const int64_t widest = round_up(a.width > a.value_width ? a.width : a.value_width, kPanel);
    return int64_t{rows} * (a.width + kBlock) + widest * kBlock;
  }
  float *queries, *scores, *panel;
};

// scores [rows][count] of keys that lie as they came.
template <class T, int kRows>
void score_few(const Attention& a, const float* queries, const T* keys, int64_t step, int count, float* scores) {
  for (int k = 0; k < count; ++k) {
    F sums[kRows] = {};
    const T* key = keys + k * step;
    int at = 0;
    for (; at + kLanes <= a.width; at += kLanes) {
      const F v = load(key + at);
      for (int r = 0; r < kRows; ++r) sums[r] += v * load(queries + int64_t{r} * a.width + at);
    }
    if (at < a.width) {
      const F v = load_some(key + at, a.width - at);
      for (int r = 0; r < kRows; ++r) {
        sums[r] += v * load_some(queries + int64_t{r} * a.width + at, a.width - at);
      }
    }
    for (int r = 0; r < kRows; ++r) scores[r * kBlock + k] = sum(sums[r]);
  }
}

// sums [rows][stride] += scores [rows][count] times values.
template <class T, int kRows>
void add_few(const Attention& a, const float* scores, const T* values, int64_t step, int count, float* sums,
             int64_t stride) {
  constexpr int kVectors = kRows > 2 ? 4 : 8;
  int at = 0;
  for (; at + kVectors * kLanes <= a.value_width; at += kVectors * kLanes) {
    F total[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) total[r][v] = load(sums + r * stride + at + v * kLanes);
    }
    for (int k = 0; k < count; ++k) {
      const T* value = values + k * step + at;
      for (int v = 0; v < kVectors; ++v) {
        const F x = load(value + v * kLanes);
        for (int r = 0; r < kRows; ++r) total[r][v] += x * scores[r * kBlock + k];
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) store(sums + r * stride + at + v * kLanes, total[r][v]);
    }
  }
  for (; at < a.value_width; at += kLanes) {
    const int left = a.value_width - at;
    for (int r = 0; r < kRows; ++r) {
      F total = load(sums + r * stride + at);  // rows of sums are padded
      for (int k = 0; k < count; ++k) {
        const T* value = values + k * step + at;
        total += (left >= kLanes ? load(value) : load_some(value, left)) * scores[r * kBlock + k];
      }
      store(sums + r * stride + at, total);
    }
  }
}

// body(number of rows, as a constant; first row) until all rows had their turn.
template <class Body>
void by_rows(int rows, Body body) {
  int row = 0;
  for (; row + 4 <= rows; row += 4) body.template operator()<4>(row);
  for (; row + 2 <= rows; row += 2) body.template operator()<2>(row);
  if (row < rows) body.template operator()<1>(row);
}

// The same as score_few and add_few, by panels.
template <class T>
void score_many(const Attention& a, const float* queries, int rows, const T* keys, int64_t step, int count,
                float* panel, float* scores) {
  for (int first = 0; first < count; first += kPanel) {
    for (int half = 0; half < kPanel; half += kLanes) {
      for (int at = 0; at < a.width; at += kLanes) {
        const int left = a.width - at < kLanes ? a.width - at : kLanes;
        U block[kLanes];
        for (int i = 0; i < kLanes; ++i) {
          const int k = first + half + i;
          const T* key = keys + k * step + at;
          block[i] = k >= count ? U{} : reinterpret_cast<U>(left < kLanes ? load_some(key, left) : load(key));
        }
        transpose(block);
        for (int i = 0; i < left; ++i) store(panel + (at + i) * kPanel + half, reinterpret_cast<F>(block[i]));
      }
    }
    multiply_panel(queries, a.width, rows, panel, kPanel, a.width, scores + first, kBlock, false);
  }
}

template <class T>
void add_many(const Attention& a, const float* scores, int rows, const T* values, int64_t step, int count, float* panel,
              float* sums, int64_t stride) {
  const int64_t padded = round_up(a.value_width, kPanel);
  for (int k = 0; k < count; ++k) {
    for (int64_t at = 0; at < padded; at += kLanes) {
      const int64_t left = a.value_width - at;
      const T* value = values + k * step + at;
      store(panel + k * padded + at, left >= kLanes ? load(value)
                                     : left > 0     ? load_some(value, static_cast<int>(left))
                                                    : F{});
    }
  }
  for (int64_t at = 0; at < padded; at += kPanel) {
    multiply_panel(scores, kBlock, rows, panel + at, padded, count, sums + at, stride, true);
  }
}

// Scores of one row to exponentials relative to the largest so far; what was summed before is brought down to it.
void to_exponentials(const Attention& a, int query, int first_key, int count, float* scores, float* sums,
                     int64_t stride, float& largest_score, float& total) {
  const Visible visible(a, query);
  if (a.soft_cap > 0) {
    for (int k = 0; k < kBlock; k += kLanes) {
      store(scores + k, a.soft_cap * tanh(load(scores + k) / a.soft_cap));
    }
  }
  if (a.mask) {
    const bool* mask = a.mask + query * a.mask_query_step;
    for (int k = 0; k < count; ++k) {
      if (!mask[(first_key + k) * a.mask_key_step]) scores[k] = kMasked;
    }
  }
  const float nothing = -__builtin_inff();
  for (int k = 0; k < visible.first - first_key && k < count; ++k) scores[k] = nothing;
  for (int k = visible.last > first_key ? visible.last - first_key : 0; k < count; ++k) scores[k] = nothing;
  for (int k = count; k < kBlock; ++k) scores[k] = nothing;

  F most = splat(largest_score);
  for (int k = 0; k < kBlock; k += kLanes) most = most_of(most, load(scores + k));
  const float now = largest(most);
  if (now == nothing) {
    bool nan = false;
    for (int k = 0; k < kBlock; ++k) nan |= scores[k] != scores[k];
    if (!nan) {
      for (int k = 0; k < kBlock; ++k) scores[k] = 0;
      return;
    }
  }
  if (now != largest_score) {
    const float factor = largest_score == nothing ? 0 : exp(splat(largest_score - now))[0];
    total *= factor;
    for (int64_t at = 0; at < stride; at += kLanes) store(sums + at, load(sums + at) * factor);
    largest_score = now;
  }
  F added = {};
  for (int k = 0; k < kBlock; k += kLanes) {
    const F e = exp(load(scores + k) - now);
    store(scores + k, e);
    added += e;
  }
  total += sum(added);
}

template <class T>
void attend_typed(const Attention& a, const AttentionPointers& p, int first_row, int last_row, int first_key,
                  int last_key, float* sums, float* largest_scores, float* totals, const Scratch& scratch) {
  const int rows = last_row - first_row;
  const int64_t stride = attention_stride(a.value_width);
  for (int r = 0; r < rows; ++r) {
    const int query = (first_row + r) / a.group, head = (first_row + r) % a.group;
    const T* q = reinterpret_cast<const T*>(p.q) + query * p.q_position + head * p.q_head;
    float* to = scratch.queries + int64_t{r} * a.width;
    for_vectors(a.width, [&](auto get, auto put) { put(to, get(q) * a.scale); });
    for (int64_t at = 0; at < stride; ++at) sums[r * stride + at] = 0;
    largest_scores[r] = -__builtin_inff();
    totals[r] = 0;
  }
  // Only what the rows together may look at.
  const Visible front(a, first_row / a.group), back(a, (last_row - 1) / a.group);
  if (front.first > first_key) first_key = front.first;
  if (back.last < last_key) last_key = back.last;

  for (int from = first_key; from < last_key; from += kBlock) {
    const int count = last_key - from < kBlock ? last_key - from : kBlock;
    const T* keys = reinterpret_cast<const T*>(p.k) + from * p.k_position;
    const T* values = reinterpret_cast<const T*>(p.v) + from * p.v_position;
    if (rows <= kFewRows) {
      by_rows(rows, [&]<int kRows>(int row) {
        score_few<T, kRows>(a, scratch.queries + int64_t{row} * a.width, keys, p.k_position, count,
                            scratch.scores + row * kBlock);
      });
    } else {
      score_many<T>(a, scratch.queries, rows, keys, p.k_position, count, scratch.panel, scratch.scores);
    }
    for (int r = 0; r < rows; ++r) {
      to_exponentials(a, (first_row + r) / a.group, from, count, scratch.scores + r * kBlock, sums + r * stride, stride,
                      largest_scores[r], totals[r]);
    }
    if (rows <= kFewRows) {
      by_rows(rows, [&]<int kRows>(int row) {
        add_few<T, kRows>(a, scratch.scores + row * kBlock, values, p.v_position, count, sums + row * stride, stride);
      });
    } else {
      add_many<T>(a, scratch.scores, rows, values, p.v_position, count, scratch.panel, sums, stride);
    }
  }
}

}  // namespace

int64_t attend_scratch(const Attention& a, int rows) { return Scratch::size(a, rows); }

void attend(const Attention& a, const AttentionPointers& p, int first_row, int last_row, int first_key, int last_key,
            float* sums, float* largest_scores, float* totals, float* memory) {
  const Scratch scratch(a, last_row - first_row, memory);
  by_type(a.type, [&]<class T>(T*) {
    attend_typed<T>(a, p, first_row, last_row, first_key, last_key, sums, largest_scores, totals, scratch);
  });
}

void finish_attention(const Attention& a, int head, int parts, int64_t part_step, const float* sums,
                      const float* largest_scores, const float* totals, void* to) {
  const int64_t stride = attention_stride(a.value_width);
  float most = a.sinks ? a.sinks[head] : -__builtin_inff(), total = 0;
  for (int i = 0; i < parts; ++i) {
    const float here = largest_scores[i * part_step];
    most = here > most ? here : most;
  }
  const auto factor = [&](float score) { return score == -__builtin_inff() ? 0 : exp(splat(score - most))[0]; };
  if (a.sinks) total = factor(a.sinks[head]);
  for (int i = 0; i < parts; ++i) total += totals[i * part_step] * factor(largest_scores[i * part_step]);
  by_type(a.type, [&]<class T>(T*) {
    T* y = static_cast<T*>(to);
    for (int at = 0; at < a.value_width; at += kLanes) {
      F result = {};
      for (int i = 0; i < parts; ++i) {
        result += load(sums + i * part_step * stride + at) * (factor(largest_scores[i * part_step]) / total);
      }
      const int left = a.value_width - at;
      left >= kLanes ? store(y + at, result) : store_some(y + at, result, left);
    }
  });
}

}  // namespace mlxk::kernels::MLXK_ISA
