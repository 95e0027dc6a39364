// What a layer remembers of one sequence, and the view of it that a forward pass works on.
//
// Each sequence owns its own states, so rows join and leave a batch without copying anyone's keys, rows of any length
// run together without padding or masks, and every kind of state works in a batch as it works alone.
// Thread: engine thread only.

#pragma once

#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "mx.h"

namespace mlxk {

// How the keys and values that attention keeps are packed: affine codes of `bits` bits, with a scale and a bias for
// each `group_size` of a head's numbers. A sequence is packed whole when it holds `start` positions, and stays so.
struct KVQuantization {
  int bits, group_size, start;
  bool operator==(const KVQuantization&) const = default;
};

class LayerState {
 public:
  virtual ~LayerState() = default;
  // The arrays to evaluate so that the state no longer hangs on the graph that made it.
  virtual void collect(std::vector<Array>& arrays) const = 0;
  virtual size_t bytes() const = 0;
  virtual bool quantized() const { return false; }

  // Whether the last `count` positions can be taken back, so that the state is as it was before them.
  virtual bool can_trim(int count) const = 0;
  virtual void trim(int count) = 0;
  // A state that goes on by itself, less the last `count` positions. Shares its arrays until one of the two writes.
  virtual std::unique_ptr<LayerState> copy(int count) const = 0;
};

// Keys and values [1, K, T, D] of one sequence, in buffers that grow by whole steps of `kStep` positions: MLX's fused
// decode kernels want slices of such a buffer. With a window W only what the last W positions can see is kept.
class KVCache final : public LayerState {
 public:
  static constexpr int kStep = 256;

  explicit KVCache(int window = 0) : window_(window) {}

  // Appends L positions; `update` returns what those positions may look at, oldest first: at most window - 1 + L of it.
  // With a `quantization` they are packed once there are as many as it says, unless a window bounds them already.
  // Throws validation_error / kv_group_size where its groups do not divide a head.
  std::pair<Array, Array> update(const Array& keys, const Array& values,
                                 const std::optional<KVQuantization>& quantization = {});
  void append(const Array& keys, const Array& values, const std::optional<KVQuantization>& quantization = {});
  // What the `length` positions that the last update appended may look at.
  std::pair<Array, Array> visible(int length) const;
  // The same as it is packed; nothing where it is not.
  std::optional<mx::PackedKeysValues> packed() const;

  // The buffers [1, K, C, D] where they hold one more position and may be written in place: nothing is packed, and no
  // copy shares them. It is to be written at `at` and sees what lies from `first` on; `appended` gives them back.
  struct Room {
    const Array &keys, &values;
    int at, first;
  };
  std::optional<Room> room() const;
  void appended(Array keys, Array values);

  void collect(std::vector<Array>& arrays) const override;
  size_t bytes() const override;
  bool quantized() const override { return quantization_.has_value(); }
  // With a window, for as long as what the positions before could see was not dropped; once packed, back to where that
  // began.
  bool can_trim(int count) const override;
  void trim(int count) override;
  std::unique_ptr<LayerState> copy(int count) const override;

 private:
  // The numbers, or their codes, scales and biases; each [1, K, T, ..].
  using Parts = std::vector<Array>;

  void quantize(const KVQuantization& quantization, int key_width, int value_width);
  Parts parts_of(const Array& a) const;
  Array plain(const Parts& parts, int first, int last) const;
  void reserve(const Parts& keys, const Parts& values, int length);

  int window_;
  int begin_ = 0;                // first position still kept, as an index into the buffers
  int end_ = 0;                  // next position to write
  bool dropped_ = false;         // positions before the buffers' first
  mutable bool shared_ = false;  // with a copy, until something is written
  Parts keys_, values_;
  std::optional<KVQuantization> quantization_;  // once they are packed
};

// All layers of one sequence, and how many tokens they have seen.
struct SequenceCache {
  std::vector<std::unique_ptr<LayerState>> layers;
  int position = 0;
  std::optional<KVQuantization> quantization{};

  size_t bytes() const;
  void collect(std::vector<Array>& arrays) const;

  // Of all layers; a model with one that cannot has to compute the sequence anew.
  bool can_trim(int count) const;
  SequenceCache copy(int count) const;
};

// The sequences of one forward pass; each contributes `length` tokens.
class Batch {
 public:
  Batch(std::vector<SequenceCache*> rows, int length);

  int rows() const { return static_cast<int>(rows_.size()); }
  int length() const { return length_; }
  SequenceCache& row(int index) const { return *rows_[static_cast<size_t>(index)]; }

  // Position of the first token of every row, when it is the same for all.
  std::optional<int> common_offset() const { return common_offset_; }
  // The positions as an int32 array [rows], for rows that differ.
  const Array& offsets();
  // The position of every token, int32 [rows, length], or [1, length] where the rows agree.
  const Array& positions();
  // Boolean [length, keys], true attends: causal, aligned to the lower right, each query seeing `window` keys.
  const Array& window_mask(int keys, int window);

  // What an earlier layer of this pass hands to later ones; empty until one did.
  std::vector<Array>& handed() { return handed_; }

  // Counts the tokens of this pass; called once, after the last layer.
  void advance();

 private:
  std::vector<SequenceCache*> rows_;
  int length_;
  std::optional<int> common_offset_;
  Array offsets_, positions_;
  std::map<std::pair<int, int>, Array> masks_;
  std::vector<Array> handed_;
};

// One layer's part of a batch: what a model's attention or recurrence receives.
struct LayerCache {
  Batch& batch;
  int layer;

  template <class State>
  State& state(int row) const {
    return static_cast<State&>(*batch.row(row).layers[static_cast<size_t>(layer)]);
  }
};

// Calls `function(arrays of one row, row)` for every row of the batch, `arrays` being split along their first axis, and
// joins what it returns. A batch of one is not split.
template <class Function>
Array by_row(const LayerCache& cache, const std::vector<Array>& arrays, const Function& function) {
  const int rows = cache.batch.rows();
  if (rows == 1) return function(arrays, 0);
  std::vector<std::vector<Array>> parts(static_cast<size_t>(rows));
  for (const Array& whole : arrays) {
    const auto pieces = mx::split(whole, rows, 0);
    for (size_t row = 0; row < parts.size(); ++row) parts[row].push_back(pieces[row]);
  }
  std::vector<Array> out;
  for (int row = 0; row < rows; ++row) out.push_back(function(parts[static_cast<size_t>(row)], row));
  return mx::concatenate(out, 0);
}

}  // namespace mlxk
