// GLM-4.7-Flash: mixture of experts. Reference: mlx-lm, models/glm4_moe_lite.py.
// Against DeepSeek-V3: the latent vectors are normalized with the model's own epsilon.

#include "deepseek.h"

namespace mlxk {
namespace {

struct Config : DeepseekConfig {
  explicit Config(const ConfigReader& c) : DeepseekConfig(c, {{.k = 4, .scale = 1.8f}, 1e-5f, 1}) {
    tie_word_embeddings = false;
    require_noaux_tc(c);
    routing.epsilon = 1e-20f;
    latent.norm_eps = rms_norm_eps;
    rope = Rope(c, latent.qk_rope_head_dim, 1000000.0f, true);
  }
};

using Glm4MoeLite = DeepseekDecoder<Config>;

}  // namespace

MLXK_MODEL(Glm4MoeLite, "glm4_moe_lite");

}  // namespace mlxk
