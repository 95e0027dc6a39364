// Ling and Ring 2.5: hybrid of latent attention and lightning attention with a mixture of experts. Reference: mlx-lm,
// models/bailing_hybrid.py. Against Ling 2.0 linear: the layers that attend have latent attention; layers that predict
// ahead may follow.

#include "bailing.h"
#include "latent_attention.h"

namespace mlxk {
namespace {

struct Config : BailingConfig {
  LatentShape latent;
  Rope latent_rope;

  explicit Config(const ConfigReader& c)
      : BailingConfig(
            c, {.score_function = "sigmoid", .qk_norm = true, .expert_bias = true, .partial_rotary_factor = 0.5f}),
        latent(LatentShape::read(c, hidden_size, num_attention_heads)),
        latent_rope(c, latent.qk_rope_head_dim, 10000.0f, c.flag("rope_interleave", true)) {
    c.require(heads_width(num_attention_heads, head_dim) % group_norm_size == 0, "group_norm_size",
              "must divide num_attention_heads * head_dim");
    latent.bias = use_qkv_bias;
    latent.norm_eps = rms_norm_eps;
    const int shared = c.count_or_zero("num_shared_experts", 0);
    if (shared == 0) return;
    shared_intermediate_size =
        c.has("moe_shared_expert_intermediate_size")
            ? c.dim("moe_shared_expert_intermediate_size")
            : heads_width(shared, moe_intermediate_size, "num_shared_experts * moe_intermediate_size");
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const {
    const Weights w = layer["attention"];
    if (!attends(index)) return lightning(w, head_dim, index);
    w.rename("dense", "o_proj");
    return std::make_unique<LatentAttention>(w, latent, latent_rope);
  }
};

class BailingHybrid final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  BailingHybrid(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), w) {
    // The layers that predict further tokens ahead follow the others; nothing here runs them.
    const int ahead = reader.integer("num_nextn_predict_layers", 0, 0, 4096);
    for (int i = 0; i < ahead; ++i) w["model"]["layers"][config().num_hidden_layers + i].discard();
  }
};

}  // namespace

MLXK_MODEL(BailingHybrid, "bailing_hybrid");

}  // namespace mlxk
