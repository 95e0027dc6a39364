// DeepSeek-V3.2 and GLM-5: mixture of experts. References: mlx-lm, models/deepseek_v32.py and models/glm_moe_dsa.py.
// Against DeepSeek-V3: an indexer chooses the positions that each query attends to.

#include "deepseek.h"

namespace mlxk {
namespace {

template <bool interleaved>
struct Config : DeepseekConfig {
  explicit Config(const ConfigReader& c) : DeepseekConfig(c) {
    tie_word_embeddings = false;
    require_noaux_tc(c);
    const int rotated = latent.qk_rope_head_dim;
    const Rope index_rope(c, rotated, 10000.0f, c.flag("indexer_rope_interleave", interleaved));
    latent.indexer = IndexerShape::read(c, hidden_size, latent.q_lora_rank, rotated, index_rope);
  }

  static constexpr int kStatesPerLayer = 2;  // the latent vectors, the indexer's keys
};

using DeepseekV32 = DeepseekDecoder<Config<false>>;
using GlmMoeDsa = DeepseekDecoder<Config<true>>;

}  // namespace

MLXK_MODEL(DeepseekV32, "deepseek_v32");
MLXK_MODEL(GlmMoeDsa, "glm_moe_dsa");

}  // namespace mlxk
