// Kimi-VL and Kimi K2.5: mixture of experts, the text tower of the multimodal checkpoints. References: mlx-lm,
// models/kimi_vl.py and models/kimi_k25.py.
// Against DeepSeek-V3: the settings stand in text_config.

#include "text_tower.h"

namespace mlxk {
namespace {

struct KimiVL {
  static std::unique_ptr<Model> make(const ConfigReader& c, const Weights& w) {
    return text_tower("deepseek_v3", c.child("text_config"), w);
  }
};

}  // namespace

MLXK_MODEL(KimiVL, "kimi_vl", "kimi_k25");

}  // namespace mlxk
