// Writer of one .safetensors file whose tensors are known before their bytes: the header goes out first, the data in
// any order after it. Byte for byte what MLX's own writer makes of the same tensors. Owns the open file. Knows names,
// types, shapes and bytes; no tensor library.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "safetensors.h"

namespace mlxk {

struct TensorPlan {
  std::string name;
  Dtype dtype;
  std::vector<int64_t> shape;
};

class SafetensorsWriter {
 public:
  // Creates the file, which must not exist, and writes its header. Throws validation_error / tensor_duplicate or
  // size_overflow for the plan; internal_error / write_failed or disk_full for the disk.
  SafetensorsWriter(std::string path, const std::vector<TensorPlan>& tensors);
  SafetensorsWriter(SafetensorsWriter&& other) noexcept;
  SafetensorsWriter& operator=(SafetensorsWriter&&) = delete;
  ~SafetensorsWriter();

  // Bytes of the tensor at this position of the plan.
  uint64_t bytes(size_t tensor) const { return places_[tensor].bytes; }
  // Writes `data` at byte `at` of a tensor. What lies outside the tensor is an internal_error.
  void write(size_t tensor, uint64_t at, std::span<const std::byte> data);
  // Call after the last write: brings the bytes to the disk.
  void finish();

 private:
  struct Place {
    uint64_t begin, bytes;  // of the file
  };
  void put(uint64_t at, const void* data, uint64_t size) const;

  std::string path_;
  int fd_ = -1;
  std::vector<Place> places_;
};

}  // namespace mlxk
