// The text model inside a multimodal checkpoint, run by the architecture it has alone. The towers that see and hear are
// dropped. Thread: engine thread only.

#pragma once

#include <memory>
#include <string>

#include "model.h"

namespace mlxk {

// `text_config`, or the document itself where the text model's fields stand there.
ConfigReader text_config(const ConfigReader& config);

// The architecture `model_type` on these settings and the language tower of `w`.
std::unique_ptr<Model> text_tower(const std::string& model_type, const ConfigReader& text, const Weights& w);

}  // namespace mlxk
