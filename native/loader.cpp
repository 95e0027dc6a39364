// See loader.h.

#include "loader.h"

#include <algorithm>

#include "error.h"
#include "tensor_input.h"

namespace mlxk {
namespace {

constexpr int kDefaultContext = 4096;  // for a config that states no max_position_embeddings

std::string largest_type(const Checkpoint& checkpoint, const ForeignStorage& storage,
                         const QuantizationConfig& quantization) {
  std::map<std::string, uint64_t> bytes;
  for (const auto& tensor : checkpoint.tensors()) {
    bytes[mx::type_name(storage.type_of(tensor.entry))] += tensor.entry.bytes();
  }
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == bytes.end()) return "none";
  if (most->first == "uint32" && quantization.base) return std::to_string(quantization.base->bits) + "-bit";
  return most->first;
}

// What the checkpoint says it can see at once, under the names that the families have for it.
int context_of(const ConfigReader& config) {
  const auto text = config.maybe("text_config");
  for (const ConfigReader* c : {&config, text ? &*text : &config}) {
    for (const char* name : {"max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"}) {
      if (c->has(name)) return c->integer(name, 0, 1, 1 << 30);
    }
  }
  return kDefaultContext;
}

// A matrix in codes, or their scales; a checkpoint may carry other integers along, such as a causal mask.
bool is_packed(const std::string& name, mx::Type type) {
  const bool is_float = type == mx::Type::f32 || type == mx::Type::f16 || type == mx::Type::bf16;
  return name.ends_with(".scales") || (name.ends_with(".weight") && !is_float);
}

// Float32 on the CPU where no matrix is packed: nothing is rounded in between, and the kernels multiply the two types.
// A packed model keeps its own, as its codes err by more.
std::optional<mx::Type> activations_for(const std::map<std::string, Array>& tensors) {
  const auto packed = [](const auto& named) { return is_packed(named.first, named.second.dtype()); };
  if (mx::default_device() != mx::Device::cpu || std::ranges::any_of(tensors, packed)) return std::nullopt;
  return mx::Type::f32;
}

}  // namespace

Loader::Loader(const std::string& folder, int context_length, uint64_t memory_bytes)
    : checkpoint_(Checkpoint::open(folder)), storage_(checkpoint_) {
  const ConfigReader config = checkpoint_.config();
  info_.model_type = config.text("model_type");
  factory_ = find_model(info_.model_type);
  const int positions = context_of(config);
  if (context_length > positions) {
    invalid("context_too_long", "contextLength must be at most the model's " + std::to_string(positions) + ", got " +
                                    std::to_string(context_length));
  }
  info_.context_length = context_length > 0 ? context_length : positions;
  info_.weight_bytes = storage_.bytes();
  info_.weight_type = largest_type(checkpoint_, storage_, read_quantization(config));

  const uint64_t in_use = mx::active_memory();
  if (in_use + info_.weight_bytes > memory_bytes) {
    fail("insufficient_memory", "weights_exceed_budget",
         "the weights need " + std::to_string(info_.weight_bytes) + " bytes, the budget is " +
             std::to_string(memory_bytes) + " bytes and " + std::to_string(in_use) + " are in use");
  }
}

void Loader::check(const std::string& folder) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const ConfigReader config = checkpoint.config();
  const ModelFactory factory = find_model(config.text("model_type"));
  ForeignStorage storage(checkpoint);
  std::map<std::string, Array> tensors;
  for (const auto& [entry, file] : checkpoint.tensors()) {
    const mx::Shape shape(entry.shape.begin(), entry.shape.end());
    tensors.emplace(entry.name, mx::zeros(shape, array_type(entry.dtype)));  // never evaluated, so without memory
    storage.absorb(entry.name, tensors, false);
  }
  const Weights weights(std::move(tensors), read_quantization(config));
  factory(config, weights);
  weights.finish("the weights");
}

bool Loader::step() {
  uint64_t read = 0;
  while (next_ < checkpoint_.tensors().size() && read < kStepBytes) {
    const auto& tensor = checkpoint_.tensors()[next_++];
    tensors_.emplace(tensor.entry.name, read_tensor(checkpoint_.files()[tensor.file], tensor.entry));
    storage_.absorb(tensor.entry.name, tensors_);
    read += tensor.entry.bytes();
  }
  done_bytes_ += read;
  return next_ == checkpoint_.tensors().size();
}

LoadedModel Loader::finish() {
  checkpoint_.verify_unchanged();
  ModelSource source{
      factory_, checkpoint_.config(), read_quantization(checkpoint_.config()), activations_for(tensors_), {}};
  const Weights weights(std::move(tensors_), source.quantization, {}, source.activations);
  LoadedModel loaded{factory_(source.config, weights), info_, std::move(source)};
  weights.finish("the weights");
  loaded.source.tensors = weights.taken();
  if (const int positions = loaded.model->positions(); positions > 0) {
    loaded.info.context_length = std::min(loaded.info.context_length, positions);
  }
  loaded.info.vocab_size = loaded.model->vocab_size();
  loaded.info.layers = loaded.model->layers();
  return loaded;
}

std::unique_ptr<Model> ModelSource::adapted(Adapter adapter) const {
  auto all = tensors;
  for (auto& [name, tensor] : adapter.tensors) all.insert_or_assign(name, std::move(tensor));
  const Weights weights(std::move(all), quantization, adapter.parameters, activations);
  auto model = factory(config, weights);
  weights.finish("the adapter's weights");
  return model;
}

}  // namespace mlxk
