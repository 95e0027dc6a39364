// Mixtral: mixture of experts. Reference: mlx-lm, models/mixtral.py.
// Against Llama: every feed-forward is a mixture of gated experts, routed by a softmax over the chosen scores.

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int num_local_experts, num_experts_per_tok;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c.or_else({{"num_key_value_heads", 8}}), DecoderFields{.default_norm_eps = 1e-5f}),
        num_local_experts(c.count("num_local_experts", 8)),
        num_experts_per_tok(c.count("num_experts_per_tok", 2)) {
    require_top_k(c, num_experts_per_tok, "num_experts_per_tok", num_local_experts);
    rope = Rope(c, head_dim, 1000000.0f, c.flag("rope_traditional", false));
  }

  AttentionShape attention(int layer) const { return AttentionShape::of(*this, layer); }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    const Weights w = layer["block_sparse_moe"];
    w.stack("experts", num_local_experts, "w1", "switch_mlp.gate_proj");
    w.stack("experts", num_local_experts, "w2", "switch_mlp.down_proj");
    w.stack("experts", num_local_experts, "w3", "switch_mlp.up_proj");
    return std::make_unique<SparseMoE>(
        std::make_unique<TopKRouter>(w["gate"], hidden_size, num_local_experts, num_experts_per_tok),
        GatedExperts(w["switch_mlp"], {hidden_size, intermediate_size, num_local_experts}));
  }
};

using Mixtral = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Mixtral, "mixtral");

}  // namespace mlxk
