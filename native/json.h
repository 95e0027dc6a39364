// A strict JSON reader for files that someone else made: config.json, index files, safetensors
// headers. Bounded in bytes, depth and values; UTF-8 checked; a name given twice is refused at any
// level; integers stay exact. Knows nothing of what the values mean.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "error.h"

namespace mlxk {

struct JsonOptions {
  size_t max_bytes = 10'000'000;
  size_t max_values = 4'000'000;         // bounds memory: about 40 bytes a value
  int max_depth = 64;                    // of nested arrays and objects; the outermost is depth 1
  bool python_literals = false;          // NaN, Infinity and -Infinity, which Python's json writes
  bool wide_integers_as_double = false;  // integers beyond 64 bits become numbers, not errors
};

// reason: json_size, json_utf8, json_syntax, json_depth, json_duplicate, json_number, json_values.
struct JsonError : EngineError {
  size_t offset;        // byte offset in the document
  size_t line, column;  // counted from 1; the column counts bytes

  JsonError(std::string error_reason, const std::string& what, size_t at, size_t at_line, size_t at_column);
};

class Json {
 public:
  enum class Kind { Null, Bool, Int, Uint, Double, String, Array, Object };
  struct Member;
  using Array = std::vector<Json>;

  class Object {
   public:
    const Json* find(std::string_view name) const;                   // null when absent; O(log n)
    const std::vector<Member>& members() const { return members_; }  // in document order
    size_t size() const { return members_.size(); }

   private:
    friend class JsonParser;
    std::vector<Member> members_;
    std::vector<uint32_t> by_name_;  // positions in members_, sorted by name
  };

  Json() = default;
  explicit Json(bool value) : value_(value) {}
  explicit Json(int64_t value) : value_(value) {}
  explicit Json(uint64_t value) : value_(value) {}
  explicit Json(double value) : value_(value) {}
  explicit Json(std::string value) : value_(std::move(value)) {}
  explicit Json(Array value) : value_(std::move(value)) {}
  explicit Json(std::unique_ptr<Object> value) : value_(std::move(value)) {}

  // Throws JsonError. Uint is used only for integers above the range of Int.
  static Json parse(std::string_view text, const JsonOptions& options = {});

  Kind kind() const { return static_cast<Kind>(value_.index()); }
  bool is_null() const { return kind() == Kind::Null; }
  bool is_bool() const { return kind() == Kind::Bool; }
  bool is_integer() const { return kind() == Kind::Int || kind() == Kind::Uint; }
  bool is_number() const { return is_integer() || kind() == Kind::Double; }
  bool is_string() const { return kind() == Kind::String; }
  bool is_array() const { return kind() == Kind::Array; }
  bool is_object() const { return kind() == Kind::Object; }

  // Each throws std::bad_variant_access on another kind: ask first.
  bool as_bool() const { return std::get<bool>(value_); }
  const std::string& as_string() const { return std::get<std::string>(value_); }
  const Array& as_array() const { return std::get<Array>(value_); }
  const Object& as_object() const { return *std::get<std::unique_ptr<Object>>(value_); }
  double as_double() const;  // any number

  // False when this is no integer or does not fit.
  bool get(int64_t& out) const;
  bool get(uint64_t& out) const;

  // A short, printable account of the value for error messages: `"abc"`, `-1`, `an object`.
  std::string describe() const;

 private:
  // The order of the alternatives is the order of Kind.
  std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string, Array, std::unique_ptr<Object>> value_;
};

struct Json::Member {
  std::string name;
  Json value;
};

}  // namespace mlxk
