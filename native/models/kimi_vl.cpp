// Kimi-VL and Kimi K2.5, text: mixture of experts. References: mlx-lm, models/kimi_vl.py and models/kimi_k25.py.
// Against DeepSeek-V3: it is the language model of a multimodal checkpoint.

#include "deepseek.h"

namespace mlxk {
namespace {

struct Config : DeepseekConfig {
  explicit Config(const ConfigReader& c) : DeepseekConfig(c) {
    tie_word_embeddings = false;
    require_noaux_tc(c);
  }
};

class KimiVL final : public DeepseekDecoder<Config> {
 public:
  KimiVL(const ConfigReader& reader, const Weights& w)
      : DeepseekDecoder(reader.child("text_config"), language_tower(w)) {}
};

}  // namespace

MLXK_MODEL(KimiVL, "kimi_vl", "kimi_k25");

}  // namespace mlxk
