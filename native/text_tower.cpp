// See text_tower.h.

#include "text_tower.h"

namespace mlxk {
namespace {

constexpr const char* kOtherTowers[] = {
    "vision_tower",  "vision_model", "vision_encoder", "vision_embedder", "vision_language_adapter",
    "visual",        "audio_tower",  "embed_audio",    "embed_vision",    "multi_modal_projector",
    "image_newline", "mm_projector", "patch_merger",
};

}  // namespace

ConfigReader text_config(const ConfigReader& config) {
  const auto text = config.maybe("text_config");
  return text ? *text : config;
}

Weights text_weights(const Weights& w) {
  for (const char* tower : kOtherTowers) {
    w[tower].discard();
    w["model"][tower].discard();
  }
  w.rename("model.language_model", "language_model.model");
  w.rename("model", "language_model.model");
  w.rename("lm_head", "language_model.lm_head");
  return w["language_model"];
}

std::unique_ptr<Model> text_tower(const std::string& model_type, const ConfigReader& text, const Weights& w) {
  return find_model(model_type)(text, text_weights(w));
}

}  // namespace mlxk
