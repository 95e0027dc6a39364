// Gemma 4: dense decoder or mixture of experts, the text tower of the multimodal checkpoints. Reference: mlx-lm,
// models/gemma4.py.
// Against Gemma 4, text: the settings stand in text_config, and some defaults differ.

#include "text_tower.h"

namespace mlxk {
namespace {

struct Gemma4 {
  static std::unique_ptr<Model> make(const ConfigReader& c, const Weights& w) {
    ConfigReader text = text_config(c).with("vocab_size", Json(int64_t{c.dim("vocab_size", 262144)}));
    text = text.with("num_attention_heads", Json(int64_t{text.count("num_attention_heads", 8)}));
    return text_tower("gemma4_text", text, w);
  }
};

}  // namespace

MLXK_MODEL(Gemma4, "gemma4", "gemma4_unified");

}  // namespace mlxk
