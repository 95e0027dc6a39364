// See loader.h.

#include "loader.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "error.h"

namespace mlxk {
namespace {

constexpr int kDefaultContext = 4096;  // for a config that states no max_position_embeddings
constexpr size_t kAlignment = 16384;   // a page on Apple silicon, where the GPU can then use the memory as it is

mx::Type array_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::Bool: return mx::Type::boolean;
    case Dtype::I8: return mx::Type::i8;
    case Dtype::U16: return mx::Type::u16;
    case Dtype::I16: return mx::Type::i16;
    case Dtype::U32: return mx::Type::u32;
    case Dtype::I32: return mx::Type::i32;
    case Dtype::U64: return mx::Type::u64;
    case Dtype::I64: return mx::Type::i64;
    case Dtype::F16: return mx::Type::f16;
    case Dtype::BF16: return mx::Type::bf16;
    case Dtype::F32: return mx::Type::f32;
    case Dtype::U8:
    case Dtype::F8_E4M3:
    case Dtype::F8_E8M0: return mx::Type::u8;  // MLX has no 8-bit float; the quantized kernels read the bytes
  }
  invalid("dtype_unsupported", "unknown tensor type");
}

Array read_tensor(const Checkpoint& checkpoint, const Checkpoint::Tensor& tensor) {
  mx::Shape shape;
  for (const int64_t d : tensor.entry.shape) shape.push_back(static_cast<int>(d));
  const uint64_t bytes = tensor.entry.bytes();
  const size_t room = std::max<size_t>((bytes + kAlignment - 1) / kAlignment * kAlignment, kAlignment);
  std::unique_ptr<void, void (*)(void*)> data(std::aligned_alloc(kAlignment, room), std::free);
  if (!data) {
    fail("insufficient_memory", "allocation_failed",
         "no memory for tensor " + quoted(tensor.entry.name) + " of " + std::to_string(bytes) + " bytes");
  }
  checkpoint.read(tensor, data.get());
  return mx::from_memory(data.release(), shape, array_type(tensor.entry.dtype), std::free);
}

std::string largest_type(const Checkpoint& checkpoint, const QuantizationConfig& quantization) {
  std::map<std::string, uint64_t> bytes;
  for (const auto& tensor : checkpoint.tensors()) {
    bytes[mx::type_name(array_type(tensor.entry.dtype))] += tensor.entry.bytes();
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

}  // namespace

Loader::Loader(const std::string& folder, int context_length, uint64_t memory_bytes)
    : checkpoint_(Checkpoint::open(folder)) {
  const ConfigReader config = checkpoint_.config();
  info_.model_type = config.text("model_type");
  factory_ = find_model(info_.model_type);
  const int positions = context_of(config);
  if (context_length > positions) {
    invalid("context_too_long", "contextLength must be at most the model's " + std::to_string(positions) + ", got " +
                                    std::to_string(context_length));
  }
  info_.context_length = context_length > 0 ? context_length : positions;
  info_.weight_bytes = checkpoint_.total_bytes();
  info_.weight_type = largest_type(checkpoint_, read_quantization(config));

  const uint64_t in_use = mx::active_memory();
  if (in_use + info_.weight_bytes > memory_bytes) {
    fail("insufficient_memory", "weights_exceed_budget",
         "the weights need " + std::to_string(info_.weight_bytes) + " bytes, the budget is " +
             std::to_string(memory_bytes) + " bytes and " + std::to_string(in_use) + " are in use");
  }
}

bool Loader::step() {
  uint64_t read = 0;
  while (next_ < checkpoint_.tensors().size() && read < kStepBytes) {
    const auto& tensor = checkpoint_.tensors()[next_++];
    tensors_.emplace(tensor.entry.name, read_tensor(checkpoint_, tensor));
    read += tensor.entry.bytes();
  }
  done_bytes_ += read;
  return next_ == checkpoint_.tensors().size();
}

LoadedModel Loader::finish() {
  checkpoint_.verify_unchanged();
  const ConfigReader config = checkpoint_.config();
  const Weights weights(std::move(tensors_), read_quantization(config));
  LoadedModel loaded{factory_(config, weights), info_};
  weights.finish();
  if (const int positions = loaded.model->positions(); positions > 0) {
    loaded.info.context_length = std::min(loaded.info.context_length, positions);
  }
  loaded.info.vocab_size = loaded.model->vocab_size();
  loaded.info.layers = loaded.model->layers();
  return loaded;
}

}  // namespace mlxk
