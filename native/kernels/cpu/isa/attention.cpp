// Scores, softmax and the sum of values in one pass over the keys, a block of keys at a time: what was summed so far is
// scaled down when a larger score appears.

#include "kernels/cpu/isa/attention.h"

#include "kernels/cpu/isa/attention_exponentials.h"
#include "kernels/cpu/isa/attention_floats.h"
#include "kernels/cpu/isa/attention_pairs.h"

namespace mlxk::kernels::MLXK_ISA {
namespace {

constexpr int kFewRows = 8;  // above it panels pay

bool in_pairs(const Attention& a, int rows) { return kMultipliesPairs && a.type == Type::bf16 && rows > kFewRows; }

struct Scratch {
  Scratch(const Attention& a, int rows, float* at)
      : queries(at),
        scores(queries + queries_size(a, rows)),
        weights(scores + int64_t{rows} * kBlock),
        panel(weights + weights_size(a, rows)) {}
  static int64_t size(const Attention& a, int rows) {
    const int64_t widest = round_up(a.width > a.value_width ? a.width : a.value_width, kPanel);
    return queries_size(a, rows) + int64_t{rows} * kBlock + weights_size(a, rows) + widest * kBlock;
  }
  static int64_t queries_size(const Attention& a, int rows) {
    return in_pairs(a, rows) ? round_up(rows, kTileRows) * words_of_width(a) : int64_t{rows} * a.width;
  }
  static int64_t weights_size(const Attention& a, int rows) {
    return in_pairs(a, rows) ? int64_t{rows} * kBlock / 2 : 0;
  }
  float *queries, *scores, *weights, *panel;  // weights: exponentials in bfloat16
};

template <class T, bool kInPairs>
void attend_typed(const Attention& a, const AttentionPointers& p, int first_row, int last_row, int first_key,
                  int last_key, float* sums, float* largest_scores, float* totals, const Scratch& scratch) {
  const int rows = last_row - first_row;
  const int64_t stride = attention_stride(a.value_width);
  auto *queries = reinterpret_cast<uint32_t*>(scratch.queries), *panel = reinterpret_cast<uint32_t*>(scratch.panel);
  auto* weights = kInPairs ? reinterpret_cast<Bf16*>(scratch.weights) : nullptr;
  for (int r = 0; r < rows; ++r) {
    const int query = (first_row + r) / a.group, head = (first_row + r) % a.group;
    const T* q = reinterpret_cast<const T*>(p.q) + query * p.q_position + head * p.q_head;
    if constexpr (kInPairs) {
      put_query(a, q, r, queries);
    } else {
      float* to = scratch.queries + int64_t{r} * a.width;
      for_vectors(a.width, [&](auto get, auto put) { put(to, get(q) * a.scale); });
    }
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
    if constexpr (kInPairs) {
      score_pairs(a, queries, rows, keys, p.k_position, count, panel, scratch.scores);
    } else if (rows <= kFewRows) {
      by_rows(rows, [&]<int kRows>(int row) {
        score_few<T, kRows>(a, scratch.queries + int64_t{row} * a.width, keys, p.k_position, count,
                            scratch.scores + row * kBlock);
      });
    } else {
      score_many<T>(a, scratch.queries, rows, keys, p.k_position, count, scratch.panel, scratch.scores);
    }
    for (int r = 0; r < rows; ++r) {
      to_exponentials(a, (first_row + r) / a.group, from, count, scratch.scores + r * kBlock,
                      weights ? weights + r * kBlock : nullptr, sums + r * stride, stride, largest_scores[r],
                      totals[r]);
    }
    if constexpr (kInPairs) {
      add_pairs(a, weights, rows, values, p.v_position, count, panel, sums, stride);
    } else if (rows <= kFewRows) {
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
  if (in_pairs(a, last_row - first_row)) {
    return attend_typed<Bf16, true>(a, p, first_row, last_row, first_key, last_key, sums, largest_scores, totals,
                                    scratch);
  }
  by_type(a.type, [&]<class T>(T*) {
    attend_typed<T, false>(a, p, first_row, last_row, first_key, last_key, sums, largest_scores, totals, scratch);
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
