// See prefill.h.

#include "prefill.h"

#include <algorithm>

namespace mlxk {
namespace {

// Tokens a layer from which on the last token of a prompt runs on its own: on the CPU a pass costs about what a token
// costs, on a GPU it reads all weights for one.
constexpr int kSplitCpu = 2, kSplitGpu = 64;

// MLX makes the results of operations ahead of those that run, and frees theirs behind: of prompts of 500 tokens about
// three layers' were seen to be there at once.
constexpr int kLayersAtOnce = 3;

}  // namespace

std::vector<int> prefill_passes(const Model& model, const std::optional<KVQuantization>& quantization, int done,
                                int size, int step) {
  const int split = (mx::default_device() == mx::Device::gpu ? kSplitGpu : kSplitCpu) * model.layers();
  std::vector<int> passes;
  while (done < size) {
    int count = std::min(size - done, step);
    if (done + count == size && count > split) --count;
    if (quantization && done < quantization->start) count = std::min(count, quantization->start - done);
    passes.push_back(count);
    done += count;
  }
  return passes;
}

uint64_t pass_bytes(const Model& model, uint64_t before, const SequenceCache& cache, const mx::Work& work) {
  const int layers = model.layers();
  const auto at_once = static_cast<uint64_t>(std::min(layers, kLayersAtOnce));
  const uint64_t after = cache.bytes();
  return after - std::min(before, after) + work.results / static_cast<uint64_t>(layers) * at_once + work.largest;
}

uint64_t prompt_bytes(const Model& model, const std::optional<KVQuantization>& quantization, int size, int step,
                      const std::function<bool(uint64_t)>& fits) {
  SequenceCache cache = model.new_cache();
  cache.quantization = quantization;
  uint64_t most = 0;
  for (const int count : prefill_passes(model, quantization, 0, size, step)) {
    const bool first = cache.position == 0;
    mx::take_work();
    Batch batch({&cache}, count);
    model.hidden(mx::zeros({1, count}, mx::Type::u32), batch);
    most = std::max(most, pass_bytes(model, 0, cache, mx::take_work()));
    // Caches and scores grow at most with the positions.
    const uint64_t bound = most * static_cast<uint64_t>((size + count - 1) / count);
    if (first && fits(bound)) return bound;
  }
  return most;
}

}  // namespace mlxk
