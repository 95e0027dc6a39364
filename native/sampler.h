// From scores to the next token, inside the graph: nothing here waits for the device.
// Order and maths of the filters: mlx-lm 0.32.2, sample_utils.py (top-p, min-p, top-k, then temperature), on untempered
// log-probabilities, so that a seed gives the same tokens as there. Thread: engine thread only.

#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "mx.h"

namespace mlxk {

struct SamplingParams {
  float temperature = 0;  // 0 is greedy
  float top_p = 1;        // 1 is off
  int top_k = 0;          // 0 is off
  float min_p = 0;        // 0 is off
  uint64_t seed = 0;
};

// One sequence's way of choosing, with a random state of its own: what runs beside it never changes its tokens.
class Sampler {
 public:
  explicit Sampler(const SamplingParams& params);

  bool greedy() const { return params_.temperature == 0; }
  // logprobs [1, V] float32 to an id [1]; advances the random state unless greedy.
  Array operator()(const Array& logprobs);
  // The same by one primitive from scores [1, V] of any floating-point type, with the log-probability [1] of the id,
  // float32; nothing where this device has none, and then the random state stays.
  std::optional<std::pair<Array, Array>> fused(const Array& scores);

 private:
  SamplingParams params_;
  Array key_;
};

struct Sampled {
  Array tokens;    // [B] uint32
  Array logprobs;  // [B] float32, of the chosen tokens, unfiltered and untempered; not finite when a score is not
};

// logits [B, V] of any floating-point type, one sampler a row.
Sampled sample(const Array& logits, const std::vector<Sampler*>& samplers);

}  // namespace mlxk
