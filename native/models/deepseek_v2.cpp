// DeepSeek-V2 and DeepSeek-Coder-V2: mixture of experts. Reference: mlx-lm, models/deepseek_v2.py.
// Against DeepSeek-V3: experts are weighed by a softmax that is not normalized again; a group of them counts by its
// best; nothing corrects the choice.

#include "deepseek.h"

namespace mlxk {
namespace {

struct Config : DeepseekConfig {
  explicit Config(const ConfigReader& c) : DeepseekConfig(c) {
    tie_word_embeddings = false;
    routing.softmax = routing.by_best = true;
    routing.normalize = corrected = false;
    rope = Rope(c, latent.qk_rope_head_dim, 10000.0f, true, "yarn");
    if (c.text("topk_method", "greedy") != "group_limited_greedy") routing.groups = routing.top_groups = 1;
  }
};

using DeepseekV2 = DeepseekDecoder<Config>;

}  // namespace

MLXK_MODEL(DeepseekV2, "deepseek_v2");

}  // namespace mlxk
