// See deepseek.h.

#include "deepseek.h"

namespace mlxk {

DeepseekConfig::DeepseekConfig(const ConfigReader& c, const Defaults& defaults)
    : DecoderConfig(c, DecoderFields{.default_norm_eps = defaults.norm_eps}),
      n_routed_experts(c.count_or_zero("n_routed_experts", 0)),
      n_shared_experts(c.count_or_zero("n_shared_experts", 0)),
      moe_intermediate_size(c.dim("moe_intermediate_size", 1407)),
      first_k_dense_replace(c.integer("first_k_dense_replace", defaults.first_k_dense_replace, 0, 4096)),
      moe_layer_freq(c.count("moe_layer_freq", 1)),
      num_nextn_predict_layers(c.integer("num_nextn_predict_layers", 1, 0, 64)),
      routing(read_grouped_top_k(c, n_routed_experts, defaults.routing)),
      latent(LatentShape::read(c, hidden_size, num_attention_heads)) {
  rope = Rope(c, latent.qk_rope_head_dim, 10000.0f, true);
}

bool DeepseekConfig::sparse(int layer) const {
  return n_routed_experts > 0 && layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
}

std::unique_ptr<Mixer> DeepseekConfig::mixer(const Weights& layer, int) const {
  return std::make_unique<LatentAttention>(layer["self_attn"], latent, rope);
}

std::unique_ptr<FeedForward> DeepseekConfig::feed_forward(const Weights& layer, int index) const {
  const Weights w = layer["mlp"];
  if (!sparse(index)) return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
  return grouped_moe(w, {hidden_size, moe_intermediate_size, n_routed_experts}, routing, n_shared_experts, corrected);
}

void require_noaux_tc(const ConfigReader& c) {
  c.require(c.text("topk_method", "noaux_tc") == "noaux_tc", "topk_method", "must be noaux_tc");
  c.require(c.text("scoring_func", "sigmoid") == "sigmoid", "scoring_func", "must be sigmoid");
}

}  // namespace mlxk
