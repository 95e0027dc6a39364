// One regular file, opened once for reading and watched for change. Owns the descriptor. Knows
// bytes only: no format, and of a short read only that the file must have changed.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "error.h"

struct stat;

namespace mlxk {

class InputFile {
 public:
  // Follows links. validation_error with reason file_missing, not_a_file or file_unreadable.
  static InputFile open(const std::string& path);

  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  ~InputFile();

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // when opened

  // Exactly the bytes [begin, begin + size). Safe from several threads at once. Reason file_changed
  // when the file ends early, read_failed when the system says so; `dst` then holds garbage.
  void read(uint64_t begin, uint64_t size, void* dst) const;

  // Throws file_changed if the size or the time of the file moved since the open, or if the path now
  // leads to another file or to none.
  void verify_unchanged() const;

 private:
  struct Identity {
    uint64_t size, inode, device;
    int64_t seconds, nanoseconds;  // of the last modification

    bool operator==(const Identity&) const = default;
  };
  static Identity identity_of(const struct stat& status);

  InputFile() = default;

  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
  Identity identity_{};
};

}  // namespace mlxk
