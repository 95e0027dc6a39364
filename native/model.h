// What an architecture must provide, and the registry it enters by itself: one file under models/ registers its
// `model_type` names; no table, switch or header is edited. Thread: engine thread only.

#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "config.h"
#include "kv_cache.h"
#include "mx.h"
#include "weights.h"

namespace mlxk {

class Model {
 public:
  virtual ~Model() = default;

  // ids [B, L] to the last hidden state, final norm included, [B, L, D]. Appends to the caches of `batch`.
  virtual Array hidden(const Array& ids, Batch& batch) const = 0;
  // Hidden states [..., D] to scores [..., vocab_size].
  virtual Array logits(const Array& hidden) const = 0;
  // Empty states for one new sequence, one a layer.
  virtual SequenceCache new_cache() const = 0;
  virtual int layers() const = 0;
  // Rows of the embedding: every id must be below it.
  virtual int vocab_size() const = 0;
  // The most positions it can tell apart, 0 where there is no end to them.
  virtual int positions() const { return 0; }
};

// Throws validation_error where a model's caches cannot be packed so: kv_group_size, or kv_quantization_unsupported
// where no layer keeps the keys and values of a whole context.
void check_quantization(const Model& model, const KVQuantization& quantization);

using ModelFactory = std::unique_ptr<Model> (*)(const ConfigReader& config, const Weights& weights);

struct ModelRegistration {
  ModelRegistration(std::initializer_list<const char*> model_types, ModelFactory factory);
};

// Throws not_implemented / model_type_unsupported, naming the type and listing what there is.
ModelFactory find_model(const std::string& model_type);

// Registered names, sorted.
std::vector<std::string> model_types();

}  // namespace mlxk

namespace mlxk {

// A `Class` of (config, weights), or what its `make` of them returns.
template <class Class>
std::unique_ptr<Model> make_model(const ConfigReader& config, const Weights& weights) {
  if constexpr (requires { Class::make(config, weights); }) {
    return Class::make(config, weights);
  } else {
    return std::make_unique<Class>(config, weights);
  }
}

}  // namespace mlxk

// Registers `Class`, as make_model makes it, under the names that follow.
#define MLXK_MODEL(Class, ...) \
  static const ::mlxk::ModelRegistration registration_##Class({__VA_ARGS__}, ::mlxk::make_model<Class>)
