// Pixtral: dense decoder, the text tower of the multimodal checkpoints. Reference: mlx-lm, models/pixtral.py.
// Against Llama: the settings stand in text_config; never tied.

#include "text_tower.h"

namespace mlxk {
namespace {

struct Pixtral {
  static std::unique_ptr<Model> make(const ConfigReader& c, const Weights& w) {
    ConfigReader text = text_config(c).with("tie_word_embeddings", Json(false));
    text = text.with("num_attention_heads", Json(int64_t{text.count("num_attention_heads", 32)}));
    return text_tower("llama", text, w);
  }
};

}  // namespace

MLXK_MODEL(Pixtral, "pixtral");

}  // namespace mlxk
