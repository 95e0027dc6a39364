// Granite MoE: mixture of experts. Reference: mlx-lm, models/granitemoe.py.
// Against Granite: every feed-forward is a mixture.

#include "granite.h"

namespace mlxk {
namespace {

struct Config : GraniteConfig {
  int num_local_experts, num_experts_per_tok;

  explicit Config(const ConfigReader& c)
      : GraniteConfig(c),
        num_local_experts(c.count("num_local_experts")),
        num_experts_per_tok(c.count("num_experts_per_tok")) {
    require_top_k(c, num_experts_per_tok, "num_experts_per_tok", num_local_experts);
    rope = Rope(c, head_dim, 10000.0f);
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    return mixture(layer["block_sparse_moe"], num_local_experts, num_experts_per_tok);
  }
};

using GraniteMoe = GraniteDecoder<Config>;

}  // namespace

MLXK_MODEL(GraniteMoe, "granitemoe");

}  // namespace mlxk
