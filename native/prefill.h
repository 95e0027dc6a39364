// How a prompt is cut into forward passes, and what memory they will take. Computes nothing: shapes are known when a
// pass is built. Thread: engine thread only.

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "model.h"

namespace mlxk {

// Tokens of each pass over the positions [done, size) of a prompt, each at most `step`.
//
// What comes before keys and values are packed and what comes after run apart, wherever the passes would end. Of a pass
// whose scores nobody needs, the last layer only has to fill its cache; so the last token runs on its own where that
// saves more than a further pass costs.
std::vector<int> prefill_passes(const Model& model, const std::optional<KVQuantization>& quantization, int done,
                                int size, int step);

// About how many bytes more than now a pass takes, once it is built: what its caches gain, `before` being the bytes of
// those that nobody else holds and that it replaces layer by layer, and what is held at once of the results between.
// `work`: what mx::take_work told of it.
uint64_t pass_bytes(const Model& model, uint64_t before, const SequenceCache& cache, const mx::Work& work);

// The most that is held beside all else while a prompt of `size` tokens runs, from an empty cache on. Where even a
// rough upper bound `fits`, that bound.
uint64_t prompt_bytes(const Model& model, const std::optional<KVQuantization>& quantization, int size, int step,
                      const std::function<bool(uint64_t)>& fits);

}  // namespace mlxk
