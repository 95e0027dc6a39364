// See text_tower.h.

#include "text_tower.h"

#include "decoder.h"

namespace mlxk {

ConfigReader text_config(const ConfigReader& config) {
  const auto text = config.maybe("text_config");
  return text ? *text : config;
}

std::unique_ptr<Model> text_tower(const std::string& model_type, const ConfigReader& text, const Weights& w) {
  return find_model(model_type)(text, language_tower(w));
}

}  // namespace mlxk
