// The text model inside a multimodal checkpoint: where its settings and its weights are. The towers that see and hear
// are dropped. Thread: engine thread only.

#pragma once

#include <memory>
#include <string>

#include "model.h"

namespace mlxk {

// `text_config`, or the document itself where the text model's fields stand there.
ConfigReader text_config(const ConfigReader& config);

// The text model's tensors under the names it has alone (model.layers.0, lm_head), whichever of the layouts the
// checkpoint has: language_model.model.layers, model.language_model.layers, or model.layers beside the other towers.
Weights text_weights(const Weights& w);

// The architecture `model_type` on these settings and the text model's part of `w`.
std::unique_ptr<Model> text_tower(const std::string& model_type, const ConfigReader& text, const Weights& w);

}  // namespace mlxk
