#include "json.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <locale.h>
#include <optional>
#include <sstream>
#include <stdlib.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

namespace mlxk {
namespace {

constexpr size_t kMaxNumberBytes = 1'000;

std::string where(const std::string& what, size_t line, size_t column) {
  return what + " at line " + std::to_string(line) + ", column " + std::to_string(column);
}

// Electron's GTK calls setlocale, after which plain strtod may want a decimal comma.
double to_double(const std::string& digits) {
  static const locale_t c_locale = newlocale(LC_ALL_MASK, "C", nullptr);
  return strtod_l(digits.c_str(), nullptr, c_locale);
}

// Offset of the first byte that is not well-formed UTF-8, or npos. Overlong forms, surrogates and
// code points above U+10FFFF count as malformed.
size_t find_malformed_utf8(std::string_view text) {
  const auto* s = reinterpret_cast<const unsigned char*>(text.data());
  const size_t n = text.size();
  auto tail = [&](size_t at, unsigned low = 0x80, unsigned high = 0xbf) {
    return at < n && s[at] >= low && s[at] <= high;
  };
  for (size_t i = 0; i < n;) {
    const unsigned c = s[i];
    if (c < 0x80) {
      ++i;
    } else if (c >= 0xc2 && c <= 0xdf && tail(i + 1)) {
      i += 2;
    } else if (c >= 0xe0 && c <= 0xef && tail(i + 1, c == 0xe0 ? 0xa0 : 0x80, c == 0xed ? 0x9f : 0xbf) && tail(i + 2)) {
      i += 3;
    } else if (c >= 0xf0 && c <= 0xf4 && tail(i + 1, c == 0xf0 ? 0x90 : 0x80, c == 0xf4 ? 0x8f : 0xbf) && tail(i + 2) &&
               tail(i + 3)) {
      i += 4;
    } else {
      return i;
    }
  }
  return std::string_view::npos;
}

void append_utf8(std::string& out, uint32_t code) {
  auto put = [&](uint32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3f));
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  }
}

}  // namespace

JsonError::JsonError(std::string error_reason, const std::string& what, size_t at, size_t at_line, size_t at_column)
    : EngineError("validation_error", std::move(error_reason), where(what, at_line, at_column)),
      offset(at),
      line(at_line),
      column(at_column) {}

class JsonParser {
 public:
  JsonParser(std::string_view text, const JsonOptions& options) : text_(text), options_(options) {}

  Json document() {
    if (text_.size() > options_.max_bytes) {
      error("json_size",
            "the document has " + std::to_string(text_.size()) + " bytes, more than " +
                std::to_string(options_.max_bytes),
            0);
    }
    if (size_t bad = find_malformed_utf8(text_); bad != std::string_view::npos) {
      error("json_utf8", "malformed UTF-8", bad);
    }
    skip_space();
    Json value = parse_value();
    skip_space();
    if (at_ != text_.size()) unexpected("the end of the document");
    return value;
  }

 private:
  // Past the end reads as NUL, which no rule accepts; a real NUL byte is refused the same way.
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_space() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c != ' ' && c != '\n' && c != '\r' && c != '\t') break;
      ++at_;
    }
  }

  [[noreturn]] void error(const char* reason, const std::string& what, size_t at) const {
    size_t line = 1, start = 0;
    for (size_t i = 0; i < at; ++i) {
      if (text_[i] == '\n') {
        ++line;
        start = i + 1;
      }
    }
    throw JsonError(reason, what, at, line, at - start + 1);
  }

  [[noreturn]] void unexpected(const std::string& wanted) const {
    std::string found = at_ < text_.size() ? quoted(text_.substr(at_, 1)) : std::string("the end of the document");
    error("json_syntax", "expected " + wanted + ", found " + found, at_);
  }

  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Json parse_value() {
    if (++values_ > options_.max_values) {
      error("json_values", "more than " + std::to_string(options_.max_values) + " values", at_);
    }
    switch (peek()) {
      case '{': return nested([&] { return parse_object(); });
      case '[': return nested([&] { return parse_array(); });
      case '"': return Json(parse_string());
      case 't':
        if (take("true")) return Json(true);
        break;
      case 'f':
        if (take("false")) return Json(false);
        break;
      case 'n':
        if (take("null")) return Json();
        break;
      case 'N':
        if (options_.python_literals && take("NaN")) {
          return Json(std::numeric_limits<double>::quiet_NaN());
        }
        break;
      case 'I':
        if (options_.python_literals && take("Infinity")) {
          return Json(std::numeric_limits<double>::infinity());
        }
        break;
      default:
        if (peek() == '-' || is_digit(peek())) return parse_number();
    }
    unexpected("a value");
  }

  template <class Parse>
  Json nested(Parse parse) {
    if (++depth_ > options_.max_depth) {
      error("json_depth", "nested deeper than " + std::to_string(options_.max_depth), at_);
    }
    Json value = parse();
    --depth_;
    return value;
  }

  Json parse_array() {
    Json::Array items;
    ++at_;
    skip_space();
    if (peek() == ']') {
      ++at_;
      return Json(std::move(items));
    }
    for (;;) {
      skip_space();
      items.push_back(parse_value());
      skip_space();
      if (peek() == ']') break;
      if (peek() != ',') unexpected("\",\" or \"]\"");
      ++at_;
    }
    ++at_;
    return Json(std::move(items));
  }

  Json parse_object() {
    auto object = std::make_unique<Json::Object>();
    std::vector<size_t> offsets;  // of the names, for the message about a duplicate
    ++at_;
    skip_space();
    if (peek() == '}') {
      ++at_;
      return Json(std::move(object));
    }
    for (;;) {
      skip_space();
      if (peek() != '"') unexpected("a name in quotes");
      offsets.push_back(at_);
      std::string name = parse_string();
      skip_space();
      if (peek() != ':') unexpected("\":\"");
      ++at_;
      skip_space();
      object->members_.push_back({std::move(name), parse_value()});
      skip_space();
      if (peek() == '}') break;
      if (peek() != ',') unexpected("\",\" or \"}\"");
      ++at_;
    }
    ++at_;
    sort_names(*object, offsets);
    return Json(std::move(object));
  }

  // Sorting finds duplicates and gives the lookup, and no chosen set of names can slow it down as
  // it could a hash table.
  void sort_names(Json::Object& object, const std::vector<size_t>& offsets) const {
    const auto& members = object.members_;
    auto& order = object.by_name_;
    order.resize(members.size());
    for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
      const int c = members[a].name.compare(members[b].name);
      return c != 0 ? c < 0 : a < b;
    });
    for (size_t i = 1; i < order.size(); ++i) {
      if (members[order[i - 1]].name == members[order[i]].name) {
        error("json_duplicate", "the name " + quoted(members[order[i]].name) + " is given twice", offsets[order[i]]);
      }
    }
  }

  uint32_t parse_hex4() {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      uint32_t digit;
      if (c >= '0' && c <= '9') {
        digit = c - '0';
      } else if (c >= 'a' && c <= 'f') {
        digit = c - 'a' + 10;
      } else if (c >= 'A' && c <= 'F') {
        digit = c - 'A' + 10;
      } else {
        unexpected("a hexadecimal digit");
      }
      code = code << 4 | digit;
    }
    return code;
  }

  void parse_escape(std::string& out) {
    const size_t start = at_++;
    const char c = peek();
    ++at_;
    switch (c) {
      case '"':
      case '\\':
      case '/': out += c; return;
      case 'b': out += '\b'; return;
      case 'f': out += '\f'; return;
      case 'n': out += '\n'; return;
      case 'r': out += '\r'; return;
      case 't': out += '\t'; return;
      case 'u': break;
      default: error("json_syntax", "unknown escape", start);
    }
    uint32_t code = parse_hex4();
    if (code >= 0xd800 && code <= 0xdbff && take("\\u")) {
      const uint32_t low = parse_hex4();
      if (low < 0xdc00 || low > 0xdfff) error("json_syntax", "half a surrogate pair", start);
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xd800 && code <= 0xdfff) {
      error("json_syntax", "half a surrogate pair", start);
    }
    append_utf8(out, code);
  }

  std::string parse_string() {
    const size_t open = at_++;
    std::string out;
    for (;;) {
      const size_t start = at_;
      while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' &&
             static_cast<unsigned char>(text_[at_]) >= 0x20) {
        ++at_;
      }
      out.append(text_, start, at_ - start);
      if (at_ == text_.size()) error("json_syntax", "a string without its closing quote", open);
      if (text_[at_] == '"') break;
      if (text_[at_] != '\\') error("json_syntax", "a control character in a string", at_);
      parse_escape(out);
    }
    ++at_;
    return out;
  }

  static bool is_digit(char c) { return c >= '0' && c <= '9'; }

  void take_digits() {
    if (!is_digit(peek())) unexpected("a digit");
    while (is_digit(peek())) ++at_;
  }

  Json parse_number() {
    const size_t start = at_;
    const bool negative = peek() == '-';
    if (negative) {
      ++at_;
      if (options_.python_literals && take("Infinity")) {
        return Json(-std::numeric_limits<double>::infinity());
      }
    }
    if (peek() == '0') {
      ++at_;
    } else {
      take_digits();
    }
    // Minus zero is no integer: an integer cannot hold it, and the reference readers refuse it as one.
    bool integral = text_.substr(start, at_ - start) != "-0";
    if (peek() == '.') {
      integral = false;
      ++at_;
      take_digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      integral = false;
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      take_digits();
    }
    const std::string_view digits = text_.substr(start, at_ - start);
    if (digits.size() > kMaxNumberBytes) {
      error("json_number", "a number of more than " + std::to_string(kMaxNumberBytes) + " characters", start);
    }
    if (integral) {
      if (auto exact = parse_integer(digits, negative)) return std::move(*exact);
      if (!options_.wide_integers_as_double) {
        error("json_number", "the integer " + quoted(digits, 40) + " does not fit 64 bits", start);
      }
    }
    const double value = to_double(std::string(digits));
    if (!std::isfinite(value)) {
      error("json_number", "the number " + quoted(digits, 40) + " is out of range", start);
    }
    return Json(value);
  }

  static std::optional<Json> parse_integer(std::string_view digits, bool negative) {
    uint64_t magnitude = 0;
    for (char c : digits.substr(negative ? 1 : 0)) {
      if (__builtin_mul_overflow(magnitude, uint64_t{10}, &magnitude)) return std::nullopt;
      if (__builtin_add_overflow(magnitude, static_cast<uint64_t>(c - '0'), &magnitude)) {
        return std::nullopt;
      }
    }
    constexpr uint64_t kMin = uint64_t{1} << 63;
    if (negative) {
      if (magnitude > kMin) return std::nullopt;
      return Json(static_cast<int64_t>(0 - magnitude));
    }
    if (magnitude < kMin) return Json(static_cast<int64_t>(magnitude));
    return Json(magnitude);
  }

  std::string_view text_;
  const JsonOptions& options_;
  size_t at_ = 0;
  size_t values_ = 0;
  int depth_ = 0;
};

Json Json::parse(std::string_view text, const JsonOptions& options) { return JsonParser(text, options).document(); }

const Json* Json::Object::find(std::string_view name) const {
  auto it = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                             [&](uint32_t i, std::string_view n) { return members_[i].name < n; });
  if (it == by_name_.end() || members_[*it].name != name) return nullptr;
  return &members_[*it].value;
}

double Json::as_double() const {
  if (kind() == Kind::Int) return static_cast<double>(std::get<int64_t>(value_));
  if (kind() == Kind::Uint) return static_cast<double>(std::get<uint64_t>(value_));
  return std::get<double>(value_);
}

bool Json::get(int64_t& out) const {
  if (kind() != Kind::Int) return false;
  out = std::get<int64_t>(value_);
  return true;
}

bool Json::get(uint64_t& out) const {
  if (kind() == Kind::Uint) {
    out = std::get<uint64_t>(value_);
    return true;
  }
  int64_t value;
  if (!get(value) || value < 0) return false;
  out = static_cast<uint64_t>(value);
  return true;
}

std::string Json::describe() const {
  switch (kind()) {
    case Kind::Null: return "null";
    case Kind::Bool: return as_bool() ? "true" : "false";
    case Kind::Int: return std::to_string(std::get<int64_t>(value_));
    case Kind::Uint: return std::to_string(std::get<uint64_t>(value_));
    case Kind::Double: {
      const double value = std::get<double>(value_);
      if (std::isnan(value)) return "NaN";
      if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
      std::ostringstream out;
      out.imbue(std::locale::classic());
      out.precision(10);
      out << value;
      return out.str();
    }
    case Kind::String: return quoted(as_string(), 60);
    case Kind::Array: return "a list";
    case Kind::Object: return "an object";
  }
  return "";
}

}  // namespace mlxk
