// See model.h.

#include "model.h"

#include <algorithm>
#include <map>

#include "error.h"

namespace mlxk {
namespace {

// Filled while the library is loaded, read only after that.
std::map<std::string, ModelFactory>& registry() {
  static std::map<std::string, ModelFactory> factories;
  return factories;
}

}  // namespace

ModelRegistration::ModelRegistration(std::initializer_list<const char*> model_types, ModelFactory factory) {
  for (const char* type : model_types) registry().emplace(type, factory);
}

ModelFactory find_model(const std::string& model_type) {
  const auto found = registry().find(model_type);
  if (found != registry().end()) return found->second;
  std::string known;
  for (const auto& [name, factory] : registry()) known += (known.empty() ? "" : ", ") + name;
  throw EngineError("not_implemented", "model_type_unsupported",
                    "config.json: model_type " + quoted(model_type) + " is not supported; supported: " + known);
}

void check_quantization(const Model& model, const KVQuantization& quantization) {
  SequenceCache cache = model.new_cache();
  cache.quantization = quantization;
  cache.quantization->start = 0;
  // Shapes are known before anything is computed, and nothing is: the layers themselves say what does not fit.
  const uint32_t id = 0;
  Batch batch({&cache}, 1);
  model.hidden(mx::from_ids({&id, 1}, {1, 1}), batch);
  if (std::ranges::any_of(cache.layers, [](const auto& layer) { return layer->quantized(); })) return;
  invalid("kv_quantization_unsupported",
          "kvBits must be left out: no layer of this model keeps the keys and values of its whole context");
}

std::vector<std::string> model_types() {
  std::vector<std::string> names;
  for (const auto& [name, factory] : registry()) names.push_back(name);
  return names;
}

}  // namespace mlxk
