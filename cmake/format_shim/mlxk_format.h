// std::format for standard libraries without <format> (libstdc++ before 13), as far as mlx-c 0.7.0 needs it:
// plain `{}` fields, each written with operator<<. Force-included for mlx-c alone, and only when <format>
// is missing; goes when GCC 12 is no longer supported.

#pragma once

#include <sstream>
#include <string>
#include <string_view>

namespace std {

template <class... Values>
string format(string_view pattern, const Values&... values) {
  ostringstream out;
  [[maybe_unused]] auto put = [&](const auto& value) {
    const size_t field = pattern.find("{}");
    if (field == string_view::npos) return;
    out << pattern.substr(0, field) << value;
    pattern.remove_prefix(field + 2);
  };
  (put(values), ...);
  out << pattern;
  return out.str();
}

}  // namespace std
