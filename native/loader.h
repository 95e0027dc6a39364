// From a model folder to a model on the device, in steps small enough that running generations do not stall.
// Thread: engine thread only.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "adapter.h"
#include "checkpoint.h"
#include "foreign_storage.h"
#include "model.h"
#include "mx.h"

namespace mlxk {

struct ModelInfo {
  std::string model_type;
  int vocab_size = 0;
  int context_length = 0;
  int layers = 0;
  uint64_t weight_bytes = 0;
  std::string weight_type;  // the largest by bytes: float32, bfloat16, 4-bit, …
};

// What a model was built from. Holds handles of the model's own arrays, so that a variant shares them.
struct ModelSource {
  ModelFactory factory;
  ConfigReader config;
  QuantizationConfig quantization;
  std::optional<mx::Type> activations;   // see Weights
  std::map<std::string, Array> tensors;  // as the architecture took them

  // The model with an adapter on it. Throws what the architecture refuses, and tensor_unexpected for tensors of
  // modules that it does not have.
  std::unique_ptr<Model> adapted(Adapter adapter) const;
};

struct LoadedModel {
  std::unique_ptr<Model> model;
  ModelInfo info;
  ModelSource source;
};

class Loader {
 public:
  // Opens and checks the folder. Throws what Checkpoint::open throws, not_implemented for the model_type, and
  // insufficient_memory when the weights exceed `memory_bytes` less what is in use.
  Loader(const std::string& folder, int context_length, uint64_t memory_bytes);

  // Proves that a folder holds a model by its config and the names, types and shapes of its tensors; reads none of
  // them. Throws what the constructor and `finish` throw.
  static void check(const std::string& folder);

  uint64_t total_bytes() const { return checkpoint_.total_bytes(); }
  uint64_t done_bytes() const { return done_bytes_; }

  // Reads about `kStepBytes`; true once all is read.
  bool step();
  // Builds the model from what was read. Throws what the architecture refuses.
  LoadedModel finish();

 private:
  static constexpr uint64_t kStepBytes = uint64_t{32} << 20;

  Checkpoint checkpoint_;
  ForeignStorage storage_;
  ModelFactory factory_;
  ModelInfo info_;
  std::map<std::string, Array> tensors_;
  size_t next_ = 0;
  uint64_t done_bytes_ = 0;
};

}  // namespace mlxk
