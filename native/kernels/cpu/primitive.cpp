// See primitive.h.

#include "kernels/cpu/primitive.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string_view>

#include "error.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

bool wanted() {
  static const bool answer = [] {
    const char* text = std::getenv("MLXK_KERNELS");
    if (text == nullptr || *text == '\0' || std::string_view(text) == "on") return true;
    if (std::string_view(text) == "off") return false;
    invalid("kernels_invalid", "MLXK_KERNELS must be on or off, got " + quoted(text));
  }();
  return answer;
}

}  // namespace

bool wanted_on(const void* stream) { return stream_of(stream).device == mlx::core::Device::cpu && wanted(); }

std::string cpu_isa() { return wanted() ? routines().name : "off"; }
int cpu_threads() { return threads(); }
void set_cpu_threads(int count) { set_threads(count); }

uint8_t* Scratch::bytes(int64_t count) {
  constexpr size_t kLine = 64;
  const size_t wanted_size = (static_cast<size_t>(count) + kLine - 1) / kLine * kLine;
  if (wanted_size > size_) {
    std::free(memory_);
    size_ = 0;
    memory_ = std::aligned_alloc(kLine, wanted_size);
    if (memory_ == nullptr) throw std::bad_alloc();
    size_ = wanted_size;
  }
  return static_cast<uint8_t*>(memory_);
}

const uint8_t* Rows::read(size_t row, std::vector<uint8_t>& buffer) const {
  const uint8_t* from = data_ + offset(row) * item_;
  if (strides_.back() == 1 || width == 1) return from;
  buffer.resize(static_cast<size_t>(width * item_));
  const int64_t step = strides_.back() * item_;
  for (int64_t i = 0; i < width; ++i) {
    std::memcpy(buffer.data() + i * item_, from + i * step, static_cast<size_t>(item_));
  }
  return buffer.data();
}

void Rows::widen(Type type, size_t row, float* to, std::vector<uint8_t>& buffer) const {
  routines().widen(type, read(row, buffer), to, width);
}

const uint8_t* Packed::read(std::vector<uint8_t>& buffer) const {
  std::vector<uint8_t> row_buffer;
  if (contiguous_) return rows_.read(0, row_buffer);
  buffer.resize(bytes_);
  const size_t row_bytes = bytes_ / rows_.count;
  for (size_t row = 0; row < rows_.count; ++row) {
    std::memcpy(buffer.data() + row * row_bytes, rows_.read(row, row_buffer), row_bytes);
  }
  return buffer.data();
}

}  // namespace mlxk::kernels
