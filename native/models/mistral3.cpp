// Mistral 3 and LLaVA: dense decoder, the text tower of the multimodal checkpoints. Reference: mlx-lm,
// models/mistral3.py.
// Against Ministral 3 and Llama, of which text_config names one: tied only where the config says so.

#include "text_tower.h"

namespace mlxk {
namespace {

struct Mistral3 {
  static std::unique_ptr<Model> make(const ConfigReader& c, const Weights& w) {
    const ConfigReader text = text_config(c);
    const std::string inside = text.text("model_type", "llama");
    const bool named = inside == "ministral3" || inside == "mistral4";
    const bool tied = text.flag("tie_word_embeddings", false);
    return text_tower(named ? inside : "llama", text.with("tie_word_embeddings", Json(tied)), w);
  }
};

}  // namespace

MLXK_MODEL(Mistral3, "mistral3", "llava");

}  // namespace mlxk
