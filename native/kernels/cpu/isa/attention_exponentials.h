// From the scores of a block of keys to the exponentials that values are weighed by.

#pragma once

#include "kernels/cpu/isa/attention_floats.h"

namespace mlxk::kernels::MLXK_ISA {

constexpr float kMasked = -3e38f;  // finite, so that a row that may look at nothing averages everything, as MLX's does

// Keys [first, last) that a query may look at as far as causality and window go.
struct Visible {
  Visible(const Attention& a, int query) : first(0), last(a.keys) {
    if (a.causal) last = a.keys - a.queries + query + 1;
    if (a.window > 0 && last - a.window > 0) first = last - a.window;
  }
  int first, last;
};

// Scores of one row to exponentials relative to the largest so far; what was summed before is brought down to it.
// Rounded to `weights` where there are any, and then summed as they were rounded.
inline void to_exponentials(const Attention& a, int query, int first_key, int count, float* scores, Bf16* weights,
                            float* sums, int64_t stride, float& largest_score, float& total) {
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
      if (weights) __builtin_memset(weights, 0, kBlock * sizeof *weights);
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
    F e = exp(load(scores + k) - now);
    if (weights) {
      store(weights + k, e);
      e = load(weights + k);
    } else {
      store(scores + k, e);
    }
    added += e;
  }
  total += sum(added);
}

}  // namespace mlxk::kernels::MLXK_ISA
