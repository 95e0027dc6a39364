// DeepSeek-V3, R1 and Kimi K2: mixture of experts. Reference: mlx-lm, models/deepseek_v3.py.
// Against Llama: latent attention; all layers but the first few are mixtures with shared experts, of which groups are
// chosen first.

#include "decoder.h"
#include "experts.h"
#include "latent_attention.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int n_routed_experts, n_shared_experts, moe_intermediate_size, first_k_dense_replace, moe_layer_freq;
  GroupedTopK routing;
  LatentShape latent;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        n_routed_experts(c.count_or_zero("n_routed_experts", 0)),
        n_shared_experts(c.count_or_zero("n_shared_experts", 0)),
        moe_intermediate_size(c.dim("moe_intermediate_size", 1407)),
        first_k_dense_replace(c.integer("first_k_dense_replace", 0, 0, 4096)),
        moe_layer_freq(c.count("moe_layer_freq", 1)),
        routing(read_grouped_top_k(c, n_routed_experts)),
        latent(LatentShape::read(c, hidden_size, num_attention_heads)) {
    tie_word_embeddings = false;
    c.require(c.text("topk_method", "noaux_tc") == "noaux_tc", "topk_method", "must be noaux_tc");
    c.require(c.text("scoring_func", "sigmoid") == "sigmoid", "scoring_func", "must be sigmoid");
    rope = Rope(c, latent.qk_rope_head_dim, 10000.0f, true);
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int) const {
    return std::make_unique<LatentAttention>(w["self_attn"], latent, rope);
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["mlp"];
    if (n_routed_experts == 0 || index < first_k_dense_replace || index % moe_layer_freq != 0) {
      return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
    }
    return grouped_moe(w, {hidden_size, moe_intermediate_size, n_routed_experts}, routing, n_shared_experts);
  }
};

class DeepseekV3 final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  DeepseekV3(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), w) {
    // The layers that predict further tokens ahead follow the others; nothing here runs them.
    w["model"]["layers"][config().num_hidden_layers].discard();
  }
};

}  // namespace

MLXK_MODEL(DeepseekV3, "deepseek_v3", "kimi_k2", "joyai_llm_flash");

}  // namespace mlxk
