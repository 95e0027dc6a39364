// Qwen2-MoE and Qwen1.5-MoE: mixture of experts. Reference: mlx-lm, models/qwen2_moe.py.
// Against Qwen2: every feed-forward is a mixture with one shared expert behind a gate of its own.

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int num_experts, num_experts_per_tok, moe_intermediate_size, shared_expert_intermediate_size;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        num_experts(c.count("num_experts")),
        num_experts_per_tok(c.count("num_experts_per_tok")),
        moe_intermediate_size(c.dim("moe_intermediate_size")),
        shared_expert_intermediate_size(c.dim("shared_expert_intermediate_size")) {
    require_top_k(c, num_experts_per_tok, "num_experts_per_tok", num_experts);
    rope = Rope(c, head_dim, 1000000.0f, c.flag("rope_traditional", false));
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qkv_bias = true;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    const Weights w = layer["mlp"];
    return shared_expert_moe(w, {hidden_size, moe_intermediate_size, num_experts}, num_experts_per_tok, false,
                             shared_expert_intermediate_size);
  }
};

using Qwen2Moe = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Qwen2Moe, "qwen2_moe");

}  // namespace mlxk
