// DeepSeek-V3, R1 and Kimi K2: mixture of experts. Reference: mlx-lm, models/deepseek_v3.py.
// Against Llama: latent attention; all layers but the first few are mixtures with shared experts, of which groups are
// chosen first.

#include "deepseek.h"

namespace mlxk {
namespace {

struct Config : DeepseekConfig {
  explicit Config(const ConfigReader& c) : DeepseekConfig(c) {
    tie_word_embeddings = false;
    require_noaux_tc(c);
  }
};

using DeepseekV3 = DeepseekDecoder<Config>;

}  // namespace

MLXK_MODEL(DeepseekV3, "deepseek_v3", "kimi_k2", "joyai_llm_flash");

}  // namespace mlxk
