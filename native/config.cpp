#include "config.h"

#include <cmath>
#include <limits>

namespace mlxk {
namespace {

constexpr int kMaxDim = 1 << 20;
constexpr int kMaxCount = 65'536;
constexpr int kMaxLayers = 4'096;
constexpr size_t kMaxList = 1 << 20;
constexpr const char* kFile = "config.json: ";

bool is_plain(std::string_view name) {
  for (char c : name) {
    const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!word && c != '_') return false;
  }
  return !name.empty();
}

}  // namespace

ConfigReader::ConfigReader(std::shared_ptr<const Json> root, std::string path)
    : root_(std::move(root)), path_(std::move(path)) {
  if (!root_->is_object()) refuse("", "must be an object, got " + root_->describe());
}

std::string ConfigReader::path(std::string_view field) const {
  if (field.empty()) return path_.empty() ? "the document" : path_;
  if (!is_plain(field)) return path_ + '[' + quoted(field) + ']';
  return path_.empty() ? std::string(field) : path_ + '.' + std::string(field);
}

void ConfigReader::refuse(std::string_view field, std::string_view message) const {
  invalid("config_invalid", kFile + path(field) + ' ' + std::string(message));
}

void ConfigReader::require(bool ok, std::string_view field, std::string_view message) const {
  if (!ok) refuse(field, message);
}

const Json* ConfigReader::stated(std::string_view name) const {
  const auto replaced = replaced_.find(name);
  return replaced != replaced_.end() ? replaced->second.get() : root_->as_object().find(name);
}

const Json* ConfigReader::find(std::string_view name) const {
  const Json* value = stated(name);
  return value && !value->is_null() ? value : nullptr;
}

bool ConfigReader::is_null(std::string_view name) const {
  const Json* value = stated(name);
  return value && value->is_null();
}

bool ConfigReader::has(std::string_view name) const { return find(name) != nullptr; }

const Json* ConfigReader::expect(std::string_view name) const {
  const Json* value = find(name);
  if (!value) invalid("config_missing_field", kFile + path(name) + " is missing");
  return value;
}

int ConfigReader::to_int(const Json& value, std::string_view field, int min, int max) const {
  int64_t number;
  if (!value.get(number) || number < min || number > max) {
    refuse(field, "must be an integer from " + std::to_string(min) + " to " + std::to_string(max) + ", got " +
                      value.describe());
  }
  return static_cast<int>(number);
}

int ConfigReader::read_int(std::string_view name, int min, int max) const {
  return to_int(*expect(name), name, min, max);
}

int ConfigReader::integer(std::string_view name, int fallback, int min, int max) const {
  if (has(name)) return read_int(name, min, max);
  // The limits may come from other fields, and so may the default.
  if (fallback < min || fallback > max) {
    refuse(name, "is missing, and its default " + std::to_string(fallback) + " is not from " + std::to_string(min) +
                     " to " + std::to_string(max));
  }
  return fallback;
}

int ConfigReader::dim(std::string_view name) const { return read_int(name, 1, kMaxDim); }
int ConfigReader::dim(std::string_view name, int fallback) const { return integer(name, fallback, 1, kMaxDim); }
int ConfigReader::count(std::string_view name) const { return read_int(name, 1, kMaxCount); }
int ConfigReader::count(std::string_view name, int fallback) const { return integer(name, fallback, 1, kMaxCount); }
int ConfigReader::count_or_zero(std::string_view name, int fallback) const {
  return integer(name, fallback, 0, kMaxCount);
}
int ConfigReader::layers(std::string_view name) const { return read_int(name, 1, kMaxLayers); }
int ConfigReader::layers(std::string_view name, int fallback) const { return integer(name, fallback, 1, kMaxLayers); }

float ConfigReader::to_float(const Json& value, std::string_view field) const {
  if (value.is_number()) {
    const double number = value.as_double();
    // Outside the range of float the conversion itself is undefined.
    if (std::abs(number) <= std::numeric_limits<float>::max()) return static_cast<float>(number);
  }
  refuse(field, "must be a finite number, got " + value.describe());
}

float ConfigReader::number(std::string_view name) const { return to_float(*expect(name), name); }

float ConfigReader::number(std::string_view name, float fallback) const { return has(name) ? number(name) : fallback; }

float ConfigReader::positive(std::string_view name) const {
  const Json& value = *expect(name);
  if (value.is_number()) {
    const double number = value.as_double();
    if (number <= std::numeric_limits<float>::max()) {
      const auto result = static_cast<float>(number);
      if (result > 0) return result;
    }
  }
  refuse(name, "must be a positive number, got " + value.describe());
}

float ConfigReader::positive(std::string_view name, float fallback) const {
  return has(name) ? positive(name) : fallback;
}

bool ConfigReader::flag(std::string_view name, bool fallback) const {
  const Json* value = stated(name);
  if (!value) return fallback;
  if (value->is_null()) return false;
  if (!value->is_bool()) refuse(name, "must be true or false, got " + value->describe());
  return value->as_bool();
}

std::string ConfigReader::text(std::string_view name) const {
  const Json& value = *expect(name);
  if (!value.is_string()) refuse(name, "must be a string, got " + value.describe());
  return value.as_string();
}

std::string ConfigReader::text(std::string_view name, std::string_view fallback) const {
  return has(name) ? text(name) : std::string(fallback);
}

const Json::Array& ConfigReader::list(std::string_view name, const char* of) const {
  const Json& value = *expect(name);
  if (!value.is_array()) {
    refuse(name, "must be a list of " + std::string(of) + ", got " + value.describe());
  }
  if (value.as_array().size() > kMaxList) {
    refuse(name, "must have at most " + std::to_string(kMaxList) + " elements, got " +
                     std::to_string(value.as_array().size()));
  }
  return value.as_array();
}

std::vector<int> ConfigReader::ints(std::string_view name, int min, int max) const {
  std::vector<int> out;
  for (const Json& value : list(name, "integers")) {
    int64_t number;
    if (!value.get(number) || number < min || number > max) {
      refuse(name, "must hold integers from " + std::to_string(min) + " to " + std::to_string(max) + ", got " +
                       value.describe() + " at position " + std::to_string(out.size()));
    }
    out.push_back(static_cast<int>(number));
  }
  return out;
}

std::vector<float> ConfigReader::floats(std::string_view name) const {
  std::vector<float> out;
  for (const Json& value : list(name, "numbers")) {
    if (!value.is_number() || !(std::abs(value.as_double()) <= std::numeric_limits<float>::max())) {
      refuse(name, "must hold finite numbers, got " + value.describe() + " at position " + std::to_string(out.size()));
    }
    out.push_back(static_cast<float>(value.as_double()));
  }
  return out;
}

std::vector<std::string> ConfigReader::texts(std::string_view name) const {
  std::vector<std::string> out;
  for (const Json& value : list(name, "strings")) {
    if (!value.is_string()) {
      refuse(name, "must hold strings, got " + value.describe() + " at position " + std::to_string(out.size()));
    }
    out.push_back(value.as_string());
  }
  return out;
}

std::vector<int> ConfigReader::ids(std::string_view name) const {
  const Json* value = find(name);
  if (!value) return {};
  constexpr int kMax = std::numeric_limits<int>::max();
  if (value->is_array()) return ints(name, 0, kMax);
  return {to_int(*value, name, 0, kMax)};
}

ConfigReader ConfigReader::child(std::string_view name) const {
  if (const auto replaced = replaced_.find(name); replaced != replaced_.end()) {
    return ConfigReader(replaced->second, path(name));
  }
  // The aliasing pointer keeps the whole document alive.
  return ConfigReader(std::shared_ptr<const Json>(root_, expect(name)), path(name));
}

std::optional<ConfigReader> ConfigReader::maybe(std::string_view name) const {
  if (!has(name)) return std::nullopt;
  return child(name);
}

ConfigReader ConfigReader::with(std::string_view name, Json value) const {
  ConfigReader out = *this;
  out.replaced_.insert_or_assign(std::string(name), std::make_shared<const Json>(std::move(value)));
  return out;
}

ConfigReader ConfigReader::or_else(std::initializer_list<std::pair<std::string_view, int>> defaults) const {
  ConfigReader out = *this;
  for (const auto& [name, value] : defaults) {
    if (!has(name)) out = out.with(name, Json(int64_t{value}));
  }
  return out;
}

namespace {

struct Kernel {
  const char* mode;
  int group_size, bits;
};

// What MLX has kernels for; the first of a mode is its default.
constexpr Kernel kKernels[] = {
    {"affine", 64, 4},  {"affine", 64, 2},  {"affine", 64, 3},  {"affine", 64, 5},  {"affine", 64, 6},
    {"affine", 64, 8},  {"affine", 32, 2},  {"affine", 32, 3},  {"affine", 32, 4},  {"affine", 32, 5},
    {"affine", 32, 6},  {"affine", 32, 8},  {"affine", 128, 2}, {"affine", 128, 3}, {"affine", 128, 4},
    {"affine", 128, 5}, {"affine", 128, 6}, {"affine", 128, 8}, {"mxfp4", 32, 4},   {"mxfp8", 32, 8},
    {"nvfp4", 16, 4},
};

[[noreturn]] void unsupported(const std::string& message) { invalid("quantization_unsupported", kFile + message); }

constexpr int kMaxBits = 64, kMaxGroup = 65'536;

Quantization read_parameters(const ConfigReader& c, bool defaults) {
  Quantization q{0, 0, c.text("mode", "affine")};
  const Kernel* fallback = nullptr;
  for (const Kernel& k : kKernels) {
    if (!fallback && q.mode == k.mode) fallback = &k;
  }
  if (!fallback) {
    unsupported(c.path("mode") + " must be affine, mxfp4, mxfp8 or nvfp4, got " + quoted(q.mode));
  }
  // A layer's entry may leave out what the mode implies; the base entry says everything.
  const bool take = defaults || q.mode != "affine";
  q.group_size = take ? c.integer("group_size", fallback->group_size, 1, kMaxGroup) : c.count("group_size");
  q.bits = take ? c.integer("bits", fallback->bits, 1, kMaxBits) : c.count("bits");
  if (quantization_supported(q)) return q;
  unsupported(c.path("") + " asks for " + q.mode + " with " + std::to_string(q.bits) + " bits in groups of " +
              std::to_string(q.group_size) +
              "; supported are affine with 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128, "
              "mxfp4 (4 bits, 32), mxfp8 (8 bits, 32) and nvfp4 (4 bits, 16)");
}

QuantizationConfig read_layers(const ConfigReader& c) {
  QuantizationConfig out;
  out.base = read_parameters(c, false);
  for (const auto& [name, value] : c.json().as_object().members()) {
    // Scalars that are no flag are notes of the tool that wrote the file, never layers.
    if (value.is_object()) {
      out.layers.emplace(name, read_parameters(c.child(name), true));
    } else if (value.is_bool()) {
      out.layers.emplace(name, value.as_bool() ? out.base : std::nullopt);
    }
  }
  return out;
}

}  // namespace

bool quantization_supported(const Quantization& q) {
  for (const Kernel& k : kKernels) {
    if (q == Quantization{k.group_size, k.bits, k.mode}) return true;
  }
  return false;
}

namespace {

std::optional<ConfigReader> stated_quantization(const ConfigReader& config) {
  if (config.has("quantization_config")) return config.maybe("quantization_config");
  const Json* text = config.find("text_config");
  return text && text->is_object() ? config.child("text_config").maybe("quantization_config") : std::nullopt;
}

Quantization read_awq(const ConfigReader& c) {
  const int bits = c.integer("bits", 4, 1, kMaxBits), group_size = c.integer("group_size", 128, -1, kMaxGroup);
  const std::string version = c.text("version", "gemm");
  if (bits != 4) unsupported(c.path("bits") + " must be 4 with the method awq, got " + std::to_string(bits));
  if (version != "gemm" && version != "GEMM") {
    unsupported(c.path("version") + " must be gemm with the method awq, got " + quoted(version));
  }
  const Quantization q{group_size, bits, "affine"};
  if (quantization_supported(q)) return q;
  unsupported(c.path("group_size") + " must be 32, 64 or 128 with the method awq, got " + std::to_string(group_size));
}

Quantization read_compressed_tensors(const ConfigReader& c) {
  const std::string format = c.text("format", "");
  if (format == "mxfp4-pack-quantized") return {32, 4, "mxfp4"};
  if (format != "pack-quantized") {
    unsupported(c.path("format") + " must be pack-quantized or mxfp4-pack-quantized with the method " +
                "compressed-tensors, got " + quoted(format));
  }
  const auto groups = c.maybe("config_groups");
  if (!groups) return {32, 4, "affine"};
  for (const auto& [name, group] : groups->json().as_object().members()) {
    const auto weights = groups->child(name).maybe("weights");
    if (!weights) continue;
    const int bits = weights->integer("num_bits", 4, 1, kMaxBits);
    if (bits != 4) unsupported(weights->path("num_bits") + " must be 4, got " + std::to_string(bits));
    if (!weights->flag("symmetric", true)) unsupported(weights->path("symmetric") + " must be true");
  }
  return {32, 4, "affine"};
}

}  // namespace

std::optional<ConfigReader> foreign_quantization(const ConfigReader& config) {
  if (config.has("quantization")) return std::nullopt;
  auto stated = stated_quantization(config);
  if (stated && !stated->has("quant_method")) return std::nullopt;
  return stated;
}

QuantizationConfig read_quantization(const ConfigReader& config) {
  if (auto own = config.maybe("quantization")) return read_layers(*own);
  const auto foreign = stated_quantization(config);
  if (!foreign) return {};
  if (!foreign->has("quant_method")) return read_layers(*foreign);
  const std::string method = foreign->text("quant_method");
  if (method == "mxfp4") return {Quantization{32, 4, method}, {}};
  if (method == "mxfp8") return {Quantization{32, 8, method}, {}};
  if (method == "fp8") return {};
  if (method == "awq") return {read_awq(*foreign), {}};
  if (method == "compressed-tensors") return {read_compressed_tensors(*foreign), {}};
  // The architecture of that name repacks its ternary matrices itself.
  if (method == "bitnet" && config.text("model_type", "") == method) return {};
  if (method == "bitnet") return {Quantization{64, 2, "affine"}, {}};
  unsupported(foreign->path("quant_method") + " is " + quoted(method) +
              "; supported are models quantized by MLX, and the methods awq, bitnet, compressed-tensors, fp8, mxfp4 " +
              "and mxfp8");
}

}  // namespace mlxk
