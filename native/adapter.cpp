// See adapter.h.

#include "adapter.h"

#include <filesystem>

#include "checkpoint.h"
#include "config.h"
#include "error.h"
#include "tensor_input.h"

namespace mlxk {
namespace {

constexpr size_t kMaxConfigBytes = size_t{1} << 20;

LowRank read_parameters(const ConfigReader& config) {
  const std::string type = config.text("fine_tune_type", "lora");
  config.require(type == "lora" || type == "dora" || type == "full", "fine_tune_type", "must be lora, dora or full");
  if (type == "full") return {.scale = 0, .decomposed = false};
  const ConfigReader parameters = config.child("lora_parameters");
  return {.scale = parameters.number("scale"), .decomposed = type == "dora"};
}

}  // namespace

Adapter read_adapter(const std::string& folder, const std::function<bool(uint64_t bytes)>& fits) {
  const std::filesystem::path path(folder);
  std::error_code missing;
  if (!std::filesystem::is_directory(path, missing)) {
    invalid("adapter_missing", "there is no folder of an adapter at " + mlxk::quoted(folder));
  }
  const auto json = read_json_file(path / "adapter_config.json", "adapter_config.json", kMaxConfigBytes,
                                   "adapter_config_missing", "adapter_config_invalid");
  Adapter adapter;
  adapter.parameters = read_parameters(ConfigReader(json));
  const SafetensorsFile file = SafetensorsFile::open(path / "adapters.safetensors");
  for (const TensorEntry& tensor : file.tensors()) adapter.bytes += tensor.bytes();
  if (!fits(adapter.bytes)) {
    fail("insufficient_memory", "adapter_exceeds_budget",
         "the adapter " + mlxk::quoted(folder) + " needs " + std::to_string(adapter.bytes) +
             " bytes more than the budget has left");
  }
  for (const TensorEntry& tensor : file.tensors()) adapter.tensors.emplace(tensor.name, read_tensor(file, tensor));
  file.verify_unchanged();
  return adapter;
}

}  // namespace mlxk
