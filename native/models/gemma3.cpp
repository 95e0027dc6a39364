// Gemma 3: dense decoder, the text tower of the multimodal checkpoints. Reference: mlx-lm, models/gemma3.py.
// Against Gemma 3, text: the settings stand in text_config, and some defaults differ.

#include "text_tower.h"

namespace mlxk {
namespace {

struct Gemma3 {
  static std::unique_ptr<Model> make(const ConfigReader& c, const Weights& w) {
    ConfigReader text = text_config(c).with("vocab_size", Json(int64_t{c.dim("vocab_size", 262208)}));
    text = text.with("num_attention_heads", Json(int64_t{text.count("num_attention_heads", 8)}));
    text = text.with("num_key_value_heads", Json(int64_t{text.count("num_key_value_heads", 4)}));
    return text_tower("gemma3_text", text, w);
  }
};

}  // namespace

MLXK_MODEL(Gemma3, "gemma3");

}  // namespace mlxk
