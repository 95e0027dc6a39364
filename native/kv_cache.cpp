// See kv_cache.h.

#include "kv_cache.h"

#include <algorithm>

namespace mlxk {
namespace {

constexpr int kTime = 2;  // axis of positions in [1, K, T, D]

int round_up(int n, int step) { return (n + step - 1) / step * step; }

// The live part of `buffer` moved to the front of one with room for `capacity` positions.
Array grown(const Array& buffer, const Array& like, int begin, int end, int capacity) {
  mx::Shape shape = like.shape();
  shape[kTime] = capacity - (end - begin);
  Array room = mx::zeros(shape, like.dtype());
  return end == begin ? room : mx::concatenate({mx::slice(buffer, kTime, begin, end), room}, kTime);
}

}  // namespace

void KVCache::reserve(const Array& keys, const Array& values, int length) {
  if (keys_ && end_ + length <= keys_.dim(kTime)) return;
  const int live = end_ - begin_;
  const int capacity = round_up(live + length, kStep);
  keys_ = grown(keys_, keys, begin_, end_, capacity);
  values_ = grown(values_, values, begin_, end_, capacity);
  begin_ = 0;
  end_ = live;
}

std::pair<Array, Array> KVCache::update(const Array& keys, const Array& values) {
  const int length = keys.dim(kTime);
  reserve(keys, values, length);
  keys_ = mx::slice_update(keys_, keys, kTime, end_);
  values_ = mx::slice_update(values_, values, kTime, end_);
  end_ += length;
  if (window_ > 0) begin_ = std::max(begin_, end_ - (window_ - 1));
  return visible(length);
}

// What fell out of the window stays in the buffers until the next update.
std::pair<Array, Array> KVCache::visible(int length) const {
  const int seen = window_ > 0 ? std::max(0, end_ - (window_ - 1 + length)) : begin_;
  return {mx::slice(keys_, kTime, seen, end_), mx::slice(values_, kTime, seen, end_)};
}

void KVCache::collect(std::vector<Array>& arrays) const {
  if (!keys_) return;
  arrays.push_back(keys_);
  arrays.push_back(values_);
}

size_t KVCache::bytes() const { return keys_ ? keys_.nbytes() + values_.nbytes() : 0; }

size_t SequenceCache::bytes() const {
  size_t total = 0;
  for (const auto& layer : layers) total += layer->bytes();
  return total;
}

void SequenceCache::collect(std::vector<Array>& arrays) const {
  for (const auto& layer : layers) layer->collect(arrays);
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
