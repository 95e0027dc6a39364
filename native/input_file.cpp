#include "input_file.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace mlxk {
namespace {

// One call moves at most this much: macOS refuses more than 2^31 - 1 bytes, Linux shortens.
constexpr uint64_t kMaxReadBytes = 256 << 20;

// strerror shares a buffer between threads; this does not.
std::string system_message(int error) { return std::generic_category().message(error); }

}  // namespace

InputFile::Identity InputFile::identity_of(const struct stat& status) {
#ifdef __APPLE__
  const timespec& modified = status.st_mtimespec;
#else
  const timespec& modified = status.st_mtim;
#endif
  return {static_cast<uint64_t>(status.st_size), static_cast<uint64_t>(status.st_ino),
          static_cast<uint64_t>(status.st_dev), modified.tv_sec, modified.tv_nsec};
}

InputFile InputFile::open(const std::string& path) {
  InputFile file;
  file.path_ = path;
  // Without O_NONBLOCK a named pipe in the file's place would hold the caller for ever.
  do {
    file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  } while (file.fd_ < 0 && errno == EINTR);
  if (file.fd_ < 0) {
    const int error = errno;
    const bool missing = error == ENOENT || error == ENOTDIR;
    // Sockets and devices without a driver fail here already.
    const char* reason = missing ? "file_missing" : error == ENXIO ? "not_a_file" : "file_unreadable";
    invalid(reason, path + ": cannot be opened: " + system_message(error));
  }
  struct stat status;
  if (fstat(file.fd_, &status) != 0) {
    invalid("file_unreadable", path + ": cannot be examined: " + system_message(errno));
  }
  if (!S_ISREG(status.st_mode)) {
    invalid("not_a_file", path + (S_ISDIR(status.st_mode) ? ": is a folder" : ": is not a regular file"));
  }
  file.identity_ = identity_of(status);
  file.size_ = file.identity_.size;
  return file;
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      identity_(other.identity_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  std::swap(identity_, other.identity_);
  return *this;
}

InputFile::~InputFile() {
  if (fd_ >= 0) ::close(fd_);
}

void InputFile::read(uint64_t begin, uint64_t size, void* dst) const {
  auto* out = static_cast<char*>(dst);
  uint64_t done = 0;
  while (done < size) {
    const auto wanted = static_cast<size_t>(std::min(size - done, kMaxReadBytes));
    const ssize_t got = pread(fd_, out + done, wanted, static_cast<off_t>(begin + done));
    if (got > 0) {
      done += static_cast<uint64_t>(got);
    } else if (got == 0) {
      invalid("file_changed", path_ + ": ends at byte " + std::to_string(begin + done) + "; it changed while loading");
    } else if (errno != EINTR) {
      const int error = errno;
      invalid("read_failed",
              path_ + ": cannot read at byte " + std::to_string(begin + done) + ": " + system_message(error));
    }
  }
}

void InputFile::verify_unchanged() const {
  // The open handle keeps the inode from being given to another file, so that what the path leads to
  // is the file of the handle if all of this agrees.
  struct stat named;
  const bool same = stat(path_.c_str(), &named) == 0 && identity_of(named) == identity_;
  if (!same) invalid("file_changed", path_ + ": changed while loading");
}

}  // namespace mlxk
