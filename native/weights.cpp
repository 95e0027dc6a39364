// See weights.h.

#include "weights.h"

#include "error.h"

namespace mlxk {
namespace {

constexpr size_t kNamesInMessage = 10;

std::string shape_text(const mx::Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

bool is_float(mx::Type type) { return type == mx::Type::f32 || type == mx::Type::f16 || type == mx::Type::bf16; }

}  // namespace

Weights::Weights(std::map<std::string, Array> tensors, QuantizationConfig quantization, std::optional<LowRank> adapter,
                 std::optional<mx::Type> activations)
    : store_(std::make_shared<Store>()) {
  store_->tensors.insert(std::make_move_iterator(tensors.begin()), std::make_move_iterator(tensors.end()));
  store_->quantization = std::move(quantization);
  store_->adapter = adapter;
  store_->activations = activations;
}

std::string Weights::full(std::string_view name) const {
  if (prefix_.empty()) return std::string(name);
  if (name.empty()) return prefix_;
  return prefix_ + "." + std::string(name);
}

Weights Weights::operator[](std::string_view name) const { return {store_, full(name)}; }
Weights Weights::operator[](int index) const { return {store_, full(std::to_string(index))}; }

bool Weights::has(std::string_view name) const { return store_->tensors.contains(full(name)); }

const Array& Weights::peek(std::string_view name) const { return store_->tensors.at(full(name)); }

void Weights::refuse(std::string_view name, const std::string& reason, const std::string& message) const {
  store_->problems.push_back({reason, full(name) + message});
}

Array Weights::take(std::string_view name, const mx::Shape& shape) const {
  const Array tensor = take_matrix(name, shape);
  return store_->activations ? mx::astype(tensor, *store_->activations) : tensor;
}

Array Weights::take_matrix(std::string_view name, const mx::Shape& shape) const {
  const mx::Type type = has(name) && is_float(peek(name).dtype()) ? peek(name).dtype() : mx::Type::f32;
  const Array tensor = take(name, shape, type);
  return store_->activations && !mx::multiplies_mixed_types() ? mx::astype(tensor, *store_->activations) : tensor;
}

Array Weights::take(std::string_view name, const mx::Shape& shape, mx::Type type) const {
  const auto node = store_->tensors.extract(full(name));
  if (node.empty()) {
    refuse(name, "tensor_missing", "");
  } else if (node.mapped().shape() != shape) {
    refuse(name, "tensor_shape",
           " is " + shape_text(node.mapped().shape()) + ", config.json asks for " + shape_text(shape));
  } else if (node.mapped().dtype() != type) {
    refuse(name, "tensor_type",
           std::string(" is ") + mx::type_name(node.mapped().dtype()) + ", expected " +
               (is_float(type) ? "a floating-point type" : mx::type_name(type)));
  } else {
    store_->taken.insert_or_assign(full(name), node.mapped());
    return node.mapped();
  }
  return mx::zeros(shape, type);
}

Weights::Declared Weights::declared(mx::QuantizedShape& parameters) const {
  const auto& layers = store_->quantization.layers;
  const auto entry = layers.find(prefix_);
  if (entry == layers.end()) return Declared::unsaid;
  if (!entry->second) return Declared::dense;
  parameters = {entry->second->group_size, entry->second->bits, entry->second->mode};
  return Declared::quantized;
}

void Weights::rename(std::string_view from, std::string_view to) const {
  const std::string old = full(from), scope = old + ".";
  std::vector<std::string> names;
  for (const auto& [name, tensor] : store_->tensors) {
    if (name == old || name.starts_with(scope)) names.push_back(name);
  }
  auto& layers = store_->quantization.layers;
  std::vector<std::string> entries;
  for (auto entry = layers.lower_bound(old); entry != layers.end() && entry->first.starts_with(old); ++entry) {
    if (entry->first == old || entry->first.starts_with(scope)) entries.push_back(entry->first);
  }
  // A tensor may get a name of its own below the module's: the module stays.
  if (full(to).starts_with(scope)) entries.clear();
  for (const std::string& name : entries) {
    auto node = layers.extract(name);
    node.key() = full(to) + name.substr(old.size());
    layers.insert(std::move(node));
  }
  for (const std::string& name : names) {
    auto node = store_->tensors.extract(name);
    node.key() = full(to) + name.substr(old.size());
    store_->tensors.insert(std::move(node));
  }
}

void Weights::put(std::string_view name, const Array& tensor) const {
  // Frees what it was made from. Where something does not fit, zeros of any size may stand in for it.
  if (store_->problems.empty()) mx::eval({tensor});
  store_->tensors.insert_or_assign(full(name), tensor);
}

void Weights::stack(std::string_view from, int count, std::string_view module, std::string_view to) const {
  const Weights source = (*this)[from], target = (*this)[to];
  for (const char* leaf : {"weight", "scales", "biases", "bias"}) {
    if (!source[0][module].has(leaf)) continue;
    const mx::Shape shape = source[0][module].peek(leaf).shape();
    const mx::Type type = source[0][module].peek(leaf).dtype();
    std::vector<Array> parts;
    for (int i = 0; i < count; ++i) parts.push_back(source[i][module].take(leaf, shape, type));
    target.put(leaf, mx::stack(parts, 0));
  }
}

void Weights::split(std::string_view from, const std::vector<std::pair<std::string, int>>& parts, int groups) const {
  const Weights source = (*this)[from];
  auto& layers = store_->quantization.layers;
  if (const auto entry = layers.find(source.prefix_); entry != layers.end()) {
    for (const auto& [name, count] : parts) layers.emplace(full(name), entry->second);
  }
  for (const char* leaf : {"weight", "scales", "biases", "bias"}) {
    if (!source.has(leaf)) continue;
    const Array whole = source.peek(leaf);
    const int axis = whole.ndim() - (std::string_view(leaf) == "bias" ? 1 : 2);
    int rows = 0;
    for (const auto& [name, count] : parts) rows += count;
    if (axis < 0 || whole.dim(axis) != int64_t{rows} * groups) {
      source.refuse(leaf, "tensor_shape",
                    " is " + shape_text(whole.shape()) + ", config.json asks for " +
                        std::to_string(int64_t{rows} * groups) + " rows");
      continue;
    }
    mx::Shape grouped = whole.shape();
    grouped[static_cast<size_t>(axis)] = rows;
    grouped.insert(grouped.begin() + axis, groups);
    int start = 0;
    for (const auto& [name, count] : parts) {
      mx::Shape shape = whole.shape();
      shape[static_cast<size_t>(axis)] = count * groups;
      const Array part = mx::slice(mx::reshape(whole, grouped), axis + 1, start, start + count);
      (*this)[name].put(leaf, mx::contiguous(mx::reshape(part, shape)));
      start += count;
    }
    store_->tensors.erase(source.full(leaf));
  }
}

void Weights::drop(std::string_view name) const { store_->tensors.erase(full(name)); }

void Weights::discard_suffix(std::string_view suffix) const {
  std::erase_if(store_->tensors,
                [&](const auto& entry) { return entry.first.starts_with(prefix_) && entry.first.ends_with(suffix); });
}

void Weights::discard() const {
  const auto here = [&](const auto& entry) { return entry.first == prefix_ || entry.first.starts_with(prefix_ + "."); };
  std::erase_if(store_->tensors, here);
  std::erase_if(store_->taken, here);
}

void Weights::finish(const std::string& subject) const {
  std::vector<Problem> problems = store_->problems;
  for (const auto& [name, array] : store_->tensors) problems.push_back({"tensor_unexpected", name});
  if (problems.empty()) return;

  const std::string reason = problems.front().reason;
  std::string list;
  size_t same = 0;
  for (const Problem& p : problems) {
    if (p.reason != reason) continue;
    if (++same <= kNamesInMessage) list += (same > 1 ? ", " : "") + p.message;
  }
  if (same > kNamesInMessage) list += " and " + std::to_string(same - kNamesInMessage) + " more";
  const std::string what = reason == "tensor_missing"      ? " lack "
                           : reason == "tensor_unexpected" ? " hold tensors this architecture does not use: "
                                                           : " do not fit config.json: ";
  throw EngineError("validation_error", reason, subject + what + list);
}

}  // namespace mlxk
