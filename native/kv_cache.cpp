// See kv_cache.h.

#include "kv_cache.h"

#include <algorithm>
#include <string>

#include "error.h"

namespace mlxk {
namespace {

constexpr int kTime = 2;  // axis of positions in [1, K, T, D]

int round_up(int n, int step) { return (n + step - 1) / step * step; }

// The live part of `buffer`, which may be empty, moved to the front of one with room for `capacity` positions.
Array grown(const Array& buffer, const Array& like, int begin, int end, int capacity) {
  if (end == begin) return mx::with_room(like, kTime, 0, 0, capacity);
  return mx::with_room(buffer, kTime, begin, end, capacity);
}

// Writes `update` at [start, ..) of each of `parts`.
void write(std::vector<Array>& parts, const std::vector<Array>& update, int start) {
  for (size_t i = 0; i < parts.size(); ++i) parts[i] = mx::slice_update(parts[i], update[i], kTime, start);
}

mx::QuantizedShape shape_of(const KVQuantization& q) { return {q.group_size, q.bits, "affine"}; }

}  // namespace

void KVCache::quantize(const KVQuantization& q, int key_width, int value_width) {
  for (const int width : {key_width, value_width}) {
    if (width % q.group_size == 0) continue;
    invalid("kv_group_size", "kvGroupSize must divide the size of the model's heads: " + std::to_string(q.group_size) +
                                 " does not divide " + std::to_string(width));
  }
  quantization_ = q;
  if (end_ == 0) return;
  for (Parts* parts : {&keys_, &values_}) *parts = parts_of(mx::slice(parts->front(), kTime, 0, end_));
}

KVCache::Parts KVCache::parts_of(const Array& a) const {
  if (!quantization_) return {a};
  auto [codes, scales, biases] = mx::quantize(a, shape_of(*quantization_));
  return {std::move(codes), std::move(scales), std::move(biases)};
}

Array KVCache::plain(const Parts& parts, int first, int last) const {
  const auto part = [&](size_t i) { return mx::slice(parts[i], kTime, first, last); };
  if (!quantization_) return part(0);
  return mx::dequantize(part(0), part(1), part(2), shape_of(*quantization_), parts[1].dtype());
}

void KVCache::reserve(const Parts& keys, const Parts& values, int length) {
  if (!keys_.empty() && end_ + length <= keys_.front().dim(kTime)) return;
  const int live = end_ - begin_;
  const int capacity = round_up(live + length, kStep);
  keys_.resize(keys.size());
  values_.resize(values.size());
  for (size_t i = 0; i < keys.size(); ++i) keys_[i] = grown(keys_[i], keys[i], begin_, end_, capacity);
  for (size_t i = 0; i < values.size(); ++i) values_[i] = grown(values_[i], values[i], begin_, end_, capacity);
  dropped_ = dropped_ || begin_ > 0;
  begin_ = 0;
  end_ = live;
}

std::pair<Array, Array> KVCache::update(const Array& keys, const Array& values,
                                        const std::optional<KVQuantization>& quantization) {
  append(keys, values, quantization);
  return visible(keys.dim(kTime));
}

void KVCache::append(const Array& keys, const Array& values, const std::optional<KVQuantization>& quantization) {
  const int length = keys.dim(kTime);
  if (quantization && !quantized() && window_ == 0 && end_ >= quantization->start) {
    quantize(*quantization, keys.dim(-1), values.dim(-1));
  }
  const Parts new_keys = parts_of(keys), new_values = parts_of(values);
  reserve(new_keys, new_values, length);
  write(keys_, new_keys, end_);
  write(values_, new_values, end_);
  shared_ = false;
  end_ += length;
  if (window_ > 0) begin_ = std::max(begin_, end_ - (window_ - 1));
}

// What fell out of the window stays in the buffers until the next update.
std::pair<Array, Array> KVCache::visible(int length) const {
  const int seen = window_ > 0 ? std::max(0, end_ - (window_ - 1 + length)) : begin_;
  return {plain(keys_, seen, end_), plain(values_, seen, end_)};
}

std::optional<mx::PackedKeysValues> KVCache::packed() const {
  if (!quantization_) return std::nullopt;
  const auto of = [&](const Parts& parts) {
    const auto part = [&](size_t i) { return mx::slice(parts[i], kTime, 0, end_); };
    return mx::Quantized{part(0), part(1), part(2)};
  };
  return mx::PackedKeysValues{of(keys_), of(values_), shape_of(*quantization_)};
}

bool KVCache::can_trim(int count) const {
  const int end = end_ - count;
  if (count == 0 || keys_.empty()) return true;  // a layer that looks at another one's never has any
  if (window_ > 0) return end >= (dropped_ ? window_ - 1 : 0);
  return end >= (quantization_ ? quantization_->start : 0);
}

void KVCache::trim(int count) {
  if (keys_.empty()) return;
  end_ -= count;
  begin_ = window_ > 0 ? std::max(0, end_ - (window_ - 1)) : 0;
}

std::unique_ptr<LayerState> KVCache::copy(int count) const {
  shared_ = true;
  auto other = std::make_unique<KVCache>(*this);
  other->trim(count);
  // Without room behind what is kept, so that the first update moves that alone.
  for (Parts* parts : {&other->keys_, &other->values_}) {
    for (Array& part : *parts) part = mx::slice(part, kTime, 0, other->end_);
  }
  return other;
}

std::optional<KVCache::Room> KVCache::room() const {
  if (shared_ || quantization_ || keys_.empty() || end_ == keys_.front().dim(kTime)) return std::nullopt;
  return Room{keys_.front(), values_.front(), end_, window_ > 0 ? std::max(0, end_ + 1 - window_) : begin_};
}

void KVCache::appended(Array keys, Array values) {
  keys_.front() = std::move(keys);
  values_.front() = std::move(values);
  ++end_;
  if (window_ > 0) begin_ = std::max(begin_, end_ - (window_ - 1));
}

void KVCache::collect(std::vector<Array>& arrays) const {
  arrays.insert(arrays.end(), keys_.begin(), keys_.end());
  arrays.insert(arrays.end(), values_.begin(), values_.end());
}

size_t KVCache::bytes() const {
  size_t total = 0;
  for (const Parts* parts : {&keys_, &values_}) {
    for (const Array& part : *parts) total += part.nbytes();
  }
  return total;
}

size_t SequenceCache::bytes() const {
  size_t total = 0;
  for (const auto& layer : layers) total += layer->bytes();
  return total;
}

void SequenceCache::collect(std::vector<Array>& arrays) const {
  for (const auto& layer : layers) layer->collect(arrays);
}

bool SequenceCache::can_trim(int count) const {
  return std::ranges::all_of(layers, [&](const auto& layer) { return layer->can_trim(count); });
}

SequenceCache SequenceCache::copy(int count) const {
  SequenceCache other{{}, position - count, quantization};
  for (const auto& layer : layers) other.layers.push_back(layer->copy(count));
  return other;
}

Batch::Batch(std::vector<SequenceCache*> rows, int length) : rows_(std::move(rows)), length_(length) {
  const int first = rows_.front()->position;
  const bool same = std::all_of(rows_.begin(), rows_.end(), [&](const auto* r) { return r->position == first; });
  if (same) common_offset_ = first;
}

const Array& Batch::offsets() {
  if (!offsets_) {
    std::vector<int32_t> positions;
    for (const auto* row : rows_) positions.push_back(row->position);
    offsets_ = mx::from_ints(positions, {rows()});
  }
  return offsets_;
}

const Array& Batch::positions() {
  if (!positions_) {
    positions_ = common_offset_
                     ? mx::expand_dims(mx::arange(*common_offset_, *common_offset_ + length_, mx::Type::i32), 0)
                     : mx::expand_dims(offsets(), 1) + mx::arange(0, length_, mx::Type::i32);
  }
  return positions_;
}

const Array& Batch::window_mask(int keys, int window) {
  Array& mask = masks_[{keys, window}];
  if (!mask) {
    const Array query = mx::expand_dims(mx::arange(keys - length_, keys, mx::Type::i32), 1);  // [L, 1]
    const Array key = mx::expand_dims(mx::arange(0, keys, mx::Type::i32), 0);                 // [1, T]
    const int32_t width = window;
    const Array past = query - mx::from_ints({&width, 1}, {1});
    mask = mx::logical_and(mx::less_equal(key, query), mx::less(past, key));
  }
  return mask;
}

void Batch::advance() {
  for (auto* row : rows_) row->position += length_;
}

}  // namespace mlxk
