// Typed, ranged reading of config.json. Every refusal names the field by its full path, the allowed
// range and the value found. Knows JSON and error text; knows no architecture and no tensor.

#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json.h"

namespace mlxk {

// All readers throw EngineError validation_error: reason config_missing_field when a field without
// default is absent or null, config_invalid for anything else. A null counts as absent, but a flag that is null is
// false, as in Python.
class ConfigReader {
 public:
  explicit ConfigReader(std::shared_ptr<const Json> root, std::string path = "");

  int dim(std::string_view name) const;  // 1 to 2^20: sizes, heads, vocabulary
  int dim(std::string_view name, int fallback) const;
  int count(std::string_view name) const;  // 1 to 65,536: heads, experts
  int count(std::string_view name, int fallback) const;
  int count_or_zero(std::string_view name, int fallback) const;
  int layers(std::string_view name) const;  // 1 to 4,096
  int layers(std::string_view name, int fallback) const;
  int integer(std::string_view name, int fallback, int min, int max) const;

  float positive(std::string_view name) const;  // finite and above zero, as float
  float positive(std::string_view name, float fallback) const;
  float number(std::string_view name) const;  // finite, as float
  float number(std::string_view name, float fallback) const;
  bool flag(std::string_view name, bool fallback) const;
  std::string text(std::string_view name) const;
  std::string text(std::string_view name, std::string_view fallback) const;

  // Lists: at most 1,048,576 elements; the field must be there.
  std::vector<int> ints(std::string_view name, int min, int max) const;
  std::vector<float> floats(std::string_view name) const;
  std::vector<std::string> texts(std::string_view name) const;
  std::vector<int> ids(std::string_view name) const;  // one id or a list; absent: empty

  bool has(std::string_view name) const;          // present and not null
  bool is_null(std::string_view name) const;      // present, and null
  const Json* find(std::string_view name) const;  // null when absent or null
  ConfigReader child(std::string_view name) const;
  std::optional<ConfigReader> maybe(std::string_view name) const;
  // The same document with `value` for the field, whatever it says itself.
  ConfigReader with(std::string_view name, Json value) const;
  // The same document with these values for fields that are absent or null.
  ConfigReader or_else(std::initializer_list<std::pair<std::string_view, int>> defaults) const;

  void require(bool ok, std::string_view field, std::string_view message) const;
  [[noreturn]] void refuse(std::string_view field, std::string_view message) const;
  std::string path(std::string_view field) const;  // "rope_scaling.factor"; of this when empty
  const Json& json() const { return *root_; }

 private:
  const Json* stated(std::string_view name) const;  // null when absent
  const Json* expect(std::string_view name) const;  // throws config_missing_field
  int read_int(std::string_view name, int min, int max) const;
  int to_int(const Json& value, std::string_view field, int min, int max) const;
  float to_float(const Json& value, std::string_view field) const;
  const Json::Array& list(std::string_view name, const char* of) const;

  std::shared_ptr<const Json> root_;
  std::string path_;
  std::map<std::string, std::shared_ptr<const Json>, std::less<>> replaced_;
};

struct Quantization {
  int group_size, bits;
  std::string mode;  // affine, mxfp4, mxfp8, nvfp4

  bool operator==(const Quantization&) const = default;
};

// Whether MLX has kernels for this combination.
bool quantization_supported(const Quantization& q);

struct QuantizationConfig {
  std::optional<Quantization> base;
  // By module path. An empty optional: the file says false, this layer is not quantized. An entry
  // of `true` means the base parameters.
  std::map<std::string, std::optional<Quantization>> layers;
};

// What another toolkit says of how it stored the weights: the `quantization_config` with a quant_method, of a config
// without MLX's own `quantization`.
std::optional<ConfigReader> foreign_quantization(const ConfigReader& config);

// Reads `quantization`, or `quantization_config` where that has the same shape (bits, group_size), or what
// ForeignStorage makes of the methods fp8, awq, compressed-tensors and bitnet.
// A combination MLX has no kernel for is refused with reason quantization_unsupported.
QuantizationConfig read_quantization(const ConfigReader& config);

}  // namespace mlxk
