// MiniMax-M2: mixture of experts. Reference: mlx-lm, models/minimax.py.
// Against Llama: q and k are normalized over all heads together; part of each head is rotated; every feed-forward is a
// mixture, routed by sigmoids that a learnt correction shifts for the choice alone.

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int num_local_experts;
  bool use_qk_norm;
  GroupedTopK routing;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        num_local_experts(c.count("num_local_experts")),
        use_qk_norm(c.flag("use_qk_norm", true)),
        routing{.k = c.count("num_experts_per_tok"), .normalize_one = true, .epsilon = 1e-20f} {
    require_top_k(c, routing.k, "num_experts_per_tok", num_local_experts);
    const int rotary_dim = c.dim("rotary_dim", head_dim);
    c.require(rotary_dim <= head_dim, "rotary_dim", "must be at most head_dim");
    rope = Rope(c, rotary_dim, 10000.0f);
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    if (use_qk_norm) shape.qk_norm = QKNorm::whole;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    const Weights w = layer["block_sparse_moe"];
    w.stack("experts", num_local_experts, "w1", "switch_mlp.gate_proj");
    w.stack("experts", num_local_experts, "w2", "switch_mlp.down_proj");
    w.stack("experts", num_local_experts, "w3", "switch_mlp.up_proj");
    return std::make_unique<SparseMoE>(
        std::make_unique<SigmoidRouter>(Linear(w["gate"], hidden_size, num_local_experts),
                                        w.take("e_score_correction_bias", {num_local_experts}), routing),
        GatedExperts(w["switch_mlp"], {hidden_size, intermediate_size, num_local_experts}));
  }
};

using MiniMax = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(MiniMax, "minimax", "minimax_m2");

}  // namespace mlxk
