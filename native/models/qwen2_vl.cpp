// Qwen2-VL, Qwen2.5-VL and Qwen3-VL: dense decoders, the text towers of the multimodal checkpoints. References: mlx-lm,
// models/qwen2_vl.py and models/qwen3_vl.py.
// Against Qwen2 and Qwen3: the settings stand in text_config, where there is one.

#include "text_tower.h"

namespace mlxk {
namespace {

struct Qwen2Vl {
  static std::unique_ptr<Model> make(const ConfigReader& c, const Weights& w) {
    return text_tower("qwen2", text_config(c), w);
  }
};

struct Qwen3Vl {
  static std::unique_ptr<Model> make(const ConfigReader& c, const Weights& w) {
    return text_tower("qwen3", text_config(c), w);
  }
};

}  // namespace

MLXK_MODEL(Qwen2Vl, "qwen2_vl", "qwen2_5_vl");
MLXK_MODEL(Qwen3Vl, "qwen3_vl");

}  // namespace mlxk
