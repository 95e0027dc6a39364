// A fine-tuning of a model as mlx-lm saves it: adapter_config.json and adapters.safetensors. Reference: mlx-lm 0.32.2,
// tuner/lora.py and tuner/dora.py. Thread: engine thread only.

#pragma once

#include <functional>
#include <map>
#include <string>

#include "mx.h"
#include "weights.h"

namespace mlxk {

struct Adapter {
  std::map<std::string, Array> tensors;  // lora_a, lora_b and m by module; whole tensors where everything was trained
  LowRank parameters;
  uint64_t bytes = 0;
};

// Reads the folder. `fits(bytes)` is asked before the tensors are read. Throws validation_error with reason
// adapter_missing, adapter_config_missing, adapter_config_invalid or those of SafetensorsFile::open, and
// insufficient_memory / adapter_exceeds_budget.
Adapter read_adapter(const std::string& folder, const std::function<bool(uint64_t bytes)>& fits);

}  // namespace mlxk
