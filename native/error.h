// The one exception type of the core and the few words needed to raise it.
// `code` is a name of the public error taxonomy, `reason` the finer cause in snake_case; the
// message names the thing and the value. Knows nothing above it: no files, no tensors, no N-API.

#pragma once

#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace mlxk {

struct EngineError : std::runtime_error {
  std::string code, reason;

  EngineError(std::string error_code, std::string error_reason, const std::string& message)
      : std::runtime_error(message), code(std::move(error_code)), reason(std::move(error_reason)) {}
};

[[noreturn]] inline void fail(std::string code, std::string reason, const std::string& message) {
  throw EngineError(std::move(code), std::move(reason), message);
}

[[noreturn]] inline void invalid(std::string reason, const std::string& message) {
  throw EngineError("validation_error", std::move(reason), message);
}

// Call inside a catch block: what was thrown, as the one type that leaves the core.
inline EngineError current_error() {
  try {
    throw;
  } catch (const EngineError& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return {"insufficient_memory", "allocation_failed", "no memory left"};
  } catch (const std::exception& error) {
    return {"internal_error", "unexpected", error.what()};
  } catch (...) {
    return {"internal_error", "unexpected", "an exception of unknown type"};
  }
}

// Text from a file, made safe to print: quoted, everything outside printable ASCII as \xNN, cut at
// `limit` bytes. A tensor or field name is chosen by whoever made the file.
inline std::string quoted(std::string_view text, size_t limit = 120) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (size_t i = 0; i < text.size() && i < limit; ++i) {
    auto c = static_cast<unsigned char>(text[i]);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c < 0x20 || c > 0x7e) {
      out += "\\x";
      out += kHex[c >> 4];
      out += kHex[c & 15];
    } else {
      out += static_cast<char>(c);
    }
  }
  if (text.size() > limit) out += "...";
  return out + '"';
}

}  // namespace mlxk
