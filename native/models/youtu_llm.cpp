// Youtu-LLM: dense decoder. Reference: mlx-lm, models/youtu_llm.py.
// Against Llama: DeepSeek-V3's latent attention.

#include <cmath>

#include "decoder.h"
#include "latent_attention.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  LatentShape latent;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, DecoderFields{.tied = true, .default_norm_eps = 1e-6f}),
        latent(LatentShape::read(c, hidden_size, num_attention_heads)) {
    latent.norm_eps = rms_norm_eps;
    latent.scale = 1 / std::sqrt(static_cast<float>(latent.qk_nope_head_dim + latent.qk_rope_head_dim));
    rope = Rope(c, latent.qk_rope_head_dim, 1600000.0f, c.flag("rope_traditional", true));
    mlp_bias = c.flag("mlp_bias", false);
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int) const {
    return std::make_unique<LatentAttention>(w["self_attn"], latent, rope);
  }
};

using YoutuLLM = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(YoutuLLM, "youtu_llm");

}  // namespace mlxk
