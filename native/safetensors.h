// Strict reader of one .safetensors file: the whole header is proved sound before any tensor byte
// is read, because the tensor library behind it accepts files that lie. Owns the open file. Knows
// names, types, shapes and bytes; no tensor library and no architecture.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "error.h"
#include "input_file.h"

namespace mlxk {

// The types of the format that MLX can hold. The F8 kinds arrive as bytes.
enum class Dtype { Bool, U8, I8, U16, I16, U32, I32, U64, I64, F16, BF16, F32, F8_E4M3, F8_E8M0 };

size_t dtype_size(Dtype dtype);       // bytes per element
const char* dtype_name(Dtype dtype);  // as the format spells it: "BF16"
bool parse_dtype(std::string_view name, Dtype& out);

struct TensorEntry {
  std::string name;
  Dtype dtype;
  std::vector<int64_t> shape;  // at most 8 dimensions, each 0 to 2^31 - 1
  uint64_t begin, end;         // absolute file offsets

  uint64_t bytes() const { return end - begin; }
};

inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference reader's limit
inline constexpr size_t kMaxTensors = 200'000;
inline constexpr size_t kMaxTensorNameBytes = 512;
inline constexpr size_t kMaxRank = 8;

// Checks a header (without its eight length bytes) against the size of the whole file, which is at
// least as long as the two together. `label` opens each message. Entries come back sorted by start.
// Pure, so that it can be fuzzed.
std::vector<TensorEntry> parse_safetensors_header(std::string_view header, uint64_t file_size,
                                                  const std::string& label);

// Throws lfs_pointer or html_page when these are the first bytes of such a file; 64 are enough.
void refuse_impostor(std::string_view first_bytes, const std::string& label);

class SafetensorsFile {
 public:
  // validation_error with reason: file_missing, not_a_file, file_unreadable, read_failed,
  // lfs_pointer, html_page, header_length, header_utf8, header_json, header_duplicate,
  // header_depth, too_many_tensors, tensor_name, dtype_unsupported, shape_invalid, size_overflow,
  // size_mismatch, offsets_overlap, offsets_gap, offsets_range, trailing_bytes. Links are followed.
  static SafetensorsFile open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  uint64_t size() const { return file_.size(); }
  const std::vector<TensorEntry>& tensors() const { return tensors_; }  // sorted by start

  // Safe from several threads at once. A file cut meanwhile gives reason file_changed, a disk error
  // read_failed; `dst` then holds garbage.
  void read(const TensorEntry& tensor, void* dst) const { read_range(tensor.begin, tensor.end, dst); }
  void read_range(uint64_t begin, uint64_t end, void* dst) const { file_.read(begin, end - begin, dst); }

  // Call after the last read: throws file_changed if the file's size or time moved, or if the path
  // now leads to another file or to none.
  void verify_unchanged() const { file_.verify_unchanged(); }

 private:
  explicit SafetensorsFile(InputFile file) : file_(std::move(file)) {}

  InputFile file_;
  std::vector<TensorEntry> tensors_;
};

}  // namespace mlxk
