// Builds .safetensors bytes for tests, sound or not: the header is whatever text it is given.

#pragma once

#include <cstdint>
#include <string>

namespace mlxk::test {

inline std::string little_endian(uint64_t value) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

inline std::string safetensors(const std::string& header, const std::string& data) {
  return little_endian(header.size()) + header + data;
}

inline std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                         const std::string& begin, const std::string& end) {
  return '"' + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" + begin + ',' +
         end + "]}";
}

inline std::string entry(const std::string& name, const std::string& dtype, const std::string& shape, uint64_t begin,
                         uint64_t end) {
  return entry(name, dtype, shape, std::to_string(begin), std::to_string(end));
}

}  // namespace mlxk::test
