// See safetensors_writer.h.

#include "safetensors_writer.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <map>
#include <system_error>
#include <unistd.h>
#include <unordered_map>
#include <utility>

namespace mlxk {
namespace {

constexpr uint64_t kMaxWriteBytes = 256 << 20;  // macOS refuses more than 2^31 - 1 bytes at once

[[noreturn]] void refuse(const std::string& path, int error) {
  const bool full = error == ENOSPC || error == EDQUOT;
  fail("internal_error", full ? "disk_full" : "write_failed",
       path + ": cannot be written: " + std::generic_category().message(error));
}

std::string json_string(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

uint64_t byte_count(const TensorPlan& tensor) {
  uint64_t bytes = dtype_size(tensor.dtype);
  for (const int64_t dim : tensor.shape) {
    if (dim < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(dim), &bytes)) {
      invalid("size_overflow", "tensor " + quoted(tensor.name) + " has a shape beyond 2^64 bytes");
    }
  }
  return bytes;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::string path, const std::vector<TensorPlan>& tensors)
    : path_(std::move(path)) {
  // MLX keeps the tensors in this container, filled in the same order, and lays their data out as it iterates: so the
  // files agree byte for byte where both are built with the same standard library. Its header is sorted by name.
  std::unordered_map<std::string, size_t> layout;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!layout.emplace(tensors[i].name, i).second) {
      invalid("tensor_duplicate", path_ + ": tensor " + quoted(tensors[i].name) + " is planned twice");
    }
  }
  uint64_t end = 0;
  places_.resize(tensors.size());
  std::map<std::string, std::string> entries{{"__metadata__", R"({"format":"mlx"})"}};
  for (const auto& [name, position] : layout) {
    const TensorPlan& tensor = tensors[position];
    Place& place = places_[position];
    place = {end, byte_count(tensor)};
    if (__builtin_add_overflow(end, place.bytes, &end)) {
      invalid("size_overflow", path_ + ": its tensors exceed 2^64 bytes");
    }
    std::string shape;
    for (const int64_t dim : tensor.shape) shape += (shape.empty() ? "" : ",") + std::to_string(dim);
    entries[name] = "{\"data_offsets\":[" + std::to_string(place.begin) + ',' + std::to_string(end) + "],\"dtype\":\"" +
                    dtype_name(tensor.dtype) + "\",\"shape\":[" + shape + "]}";
  }
  std::string head(8, '\0');
  for (const auto& [name, entry] : entries) head += (head.size() > 8 ? "," : "{") + json_string(name) + ':' + entry;
  head += '}';
  const uint64_t length = head.size() - 8;
  for (size_t i = 0; i < 8; ++i) head[i] = static_cast<char>(length >> (8 * i) & 0xff);
  for (Place& place : places_) place.begin += head.size();

  do {
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd_ < 0 && errno == EINTR);
  if (fd_ < 0) refuse(path_, errno);
  try {
    put(0, head.data(), head.size());
    if (ftruncate(fd_, static_cast<off_t>(head.size() + end)) != 0) refuse(path_, errno);
  } catch (...) {
    ::close(std::exchange(fd_, -1));
    throw;
  }
}

SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), places_(std::move(other.places_)) {}

SafetensorsWriter::~SafetensorsWriter() {
  if (fd_ >= 0) ::close(fd_);
}

void SafetensorsWriter::write(size_t tensor, uint64_t at, std::span<const std::byte> data) {
  const Place& place = places_.at(tensor);
  if (at > place.bytes || data.size() > place.bytes - at) {
    fail("internal_error", "write_outside", path_ + ": a tensor's bytes would run past its place");
  }
  put(place.begin + at, data.data(), data.size());
}

void SafetensorsWriter::put(uint64_t at, const void* data, uint64_t size) const {
  const auto* from = static_cast<const char*>(data);
  uint64_t done = 0;
  while (done < size) {
    const auto wanted = static_cast<size_t>(std::min(size - done, kMaxWriteBytes));
    const ssize_t wrote = pwrite(fd_, from + done, wanted, static_cast<off_t>(at + done));
    if (wrote > 0) {
      done += static_cast<uint64_t>(wrote);
    } else if (wrote == 0) {
      refuse(path_, ENOSPC);
    } else if (errno != EINTR) {
      refuse(path_, errno);
    }
  }
}

void SafetensorsWriter::finish() {
  if (fsync(fd_) != 0 && errno != EINVAL) refuse(path_, errno);
  if (::close(std::exchange(fd_, -1)) != 0) refuse(path_, errno);
}

}  // namespace mlxk
