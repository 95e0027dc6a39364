// The tensors of a checkpoint by name, handed to the layers that bind them, with strict bookkeeping: every tensor is
// taken exactly once or discarded on purpose, and what is missing, misshapen or left over is reported together.
// Knows names and shapes; never files. Thread: engine thread only.

#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config.h"
#include "mx.h"

namespace mlxk {

// How an adapter's low-rank matrices change the ones they belong to: by scale * b a; with `decomposed` (DoRA) each row
// is then scaled to a learnt length.
struct LowRank {
  float scale = 0;
  bool decomposed = false;
};

// A scope in the checkpoint's dotted names. Copies are views of the same store.
class Weights {
 public:
  // `activations`: see activations().
  Weights(std::map<std::string, Array> tensors, QuantizationConfig quantization, std::optional<LowRank> adapter = {},
          std::optional<mx::Type> activations = {});

  Weights operator[](std::string_view name) const;
  Weights operator[](int index) const;

  // True when the checkpoint has `name` in this scope.
  bool has(std::string_view name) const;
  // The tensor's own shape and type before it is taken; the tensor must be there.
  const Array& peek(std::string_view name) const;
  // Takes a tensor of a floating-point type and of exactly this shape. One that is missing or of another shape is
  // noted for `finish`, and zeros stand in, so that one load reports all problems. It comes in the type of activations
  // where that is not its own.
  Array take(std::string_view name, const mx::Shape& shape) const;
  // The same for matrices: in their own type where products with activations of another have a kernel.
  Array take_matrix(std::string_view name, const mx::Shape& shape) const;
  // The same for packed and scale tensors, of the given type.
  Array take(std::string_view name, const mx::Shape& shape, mx::Type type) const;

  // What config.json says of this module: parameters, "not quantized", or nothing.
  enum class Declared { unsaid, dense, quantized };
  Declared declared(mx::QuantizedShape& parameters) const;

  // Rewriting checkpoints that are laid out otherwise, before anything is taken. Names are below this scope; where the
  // tensors to rewrite are not there, nothing happens.

  // Every tensor named `from` or below it is then named `to`, and what config.json says of its quantization goes along.
  void rename(std::string_view from, std::string_view to) const;
  // Replaces the tensor `name`, or adds it.
  void put(std::string_view name, const Array& tensor) const;
  // Joins the tensors of `count` modules `from`.0.`module`, `from`.1.`module` … into one module `to` with a leading
  // axis. An expert that lacks a tensor, or has another shape, is noted for `finish`.
  void stack(std::string_view from, int count, std::string_view module, std::string_view to) const;
  // Splits the rows (outputs) of module `from`, packed or not, into modules of the given numbers of rows; with `groups`
  // the rows hold so many times the parts, one below the other, and every part collects its share of each. What
  // config.json says of the quantization of `from` holds for the parts.
  void split(std::string_view from, const std::vector<std::pair<std::string, int>>& parts, int groups = 1) const;

  // Drops the tensor `name`.
  void drop(std::string_view name) const;
  // Drops every tensor of this scope whose full name ends with `suffix`; for buffers a checkpoint may carry along.
  void discard_suffix(std::string_view suffix) const;
  // Drops this scope and all below it.
  void discard() const;

  // The type that activations are to have; nothing where it is the weights' own.
  std::optional<mx::Type> activations() const { return store_->activations; }

  // Of the adapter whose tensors are among these.
  const std::optional<LowRank>& adapter() const { return store_->adapter; }
  // Everything taken so far, by full name.
  const std::map<std::string, Array>& taken() const { return store_->taken; }

  // Notes a problem with the tensor `name` of this scope, for `finish`.
  void refuse(std::string_view name, const std::string& reason, const std::string& message) const;

  // Throws validation_error with reason tensor_missing, tensor_shape, tensor_type or tensor_unexpected; the message
  // lists the first ten names.
  // `subject` is what the message complains of.
  void finish(const std::string& subject) const;

 private:
  struct Problem {
    std::string reason, message;
  };
  struct Store {
    std::map<std::string, Array, std::less<>> tensors;
    std::map<std::string, Array> taken;
    std::vector<Problem> problems;
    QuantizationConfig quantization;
    std::optional<LowRank> adapter;
    std::optional<mx::Type> activations;
  };

  Weights(std::shared_ptr<Store> store, std::string prefix) : store_(std::move(store)), prefix_(std::move(prefix)) {}
  std::string full(std::string_view name) const;

  std::shared_ptr<Store> store_;
  std::string prefix_;
};

}  // namespace mlxk
