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
    stack_experts(w, num_experts);
    return std::make_unique<SparseMoE>(
        std::make_unique<SoftmaxRouter>(w["gate"], hidden_size, num_experts, num_experts_per_tok, false),
        GatedExperts(w["switch_mlp"], {hidden_size, moe_intermediate_size, num_experts}),
        std::make_unique<GatedMLP>(w["shared_expert"], hidden_size, shared_expert_intermediate_size),
        Linear(w["shared_expert_gate"], hidden_size, 1));
  }
};

using Qwen2Moe = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Qwen2Moe, "qwen2_moe");

}  // namespace mlxk
