// Mellum 2: mixture of experts. Reference: mlx-lm, models/mellum.py.
// Against Qwen3-MoE: layers may slide, with a rotation of their own; every feed-forward is a mixture.

#include <algorithm>

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int num_experts, num_experts_per_tok, moe_intermediate_size;
  bool norm_topk_prob;
  Rope sliding_rope;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        num_experts(c.count("num_experts")),
        num_experts_per_tok(c.count("num_experts_per_tok")),
        moe_intermediate_size(c.dim("moe_intermediate_size")),
        norm_topk_prob(c.flag("norm_topk_prob", false)) {
    require_top_k(c, num_experts_per_tok, "num_experts_per_tok", num_experts);
    windows = layer_windows(c, num_hidden_layers, [](int) { return false; });
    const ConfigReader parameters = c.child("rope_parameters");
    rope = Rope::of_parameters(parameters.child("full_attention"), head_dim, 10000.0f);
    if (parameters.has("sliding_attention")) {
      sliding_rope = Rope::of_parameters(parameters.child("sliding_attention"), head_dim, 10000.0f);
    } else {
      c.require(std::ranges::all_of(windows, [](int w) { return w == 0; }), "rope_parameters.sliding_attention",
                "must be given where layers slide");
    }
  }

  Rope layer_rope(int layer) const { return window(layer) > 0 ? sliding_rope : rope; }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qk_norm = QKNorm::per_head;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    const Weights w = layer["mlp"];
    stack_experts(w, num_experts);
    return std::make_unique<SparseMoE>(
        std::make_unique<SoftmaxRouter>(w["gate"], hidden_size, num_experts, num_experts_per_tok, norm_topk_prob),
        GatedExperts(w["switch_mlp"], {hidden_size, moe_intermediate_size, num_experts}));
  }
};

using Mellum = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Mellum, "mellum");

}  // namespace mlxk
