// Loading a model folder while the disk misbehaves: this program's own `pread` stands before the
// system's and can fail, shorten or interrupt any call.

#include <dlfcn.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "../checkpoint.h"
#include "check.h"
#include "safetensors_file.h"

using namespace mlxk;
using namespace mlxk::test;

namespace {

struct Disk {
  int calls = 0;
  int fail_at = 0;  // the call that fails, counted from 1; 0 for none
  int error = EIO;
  size_t longest = SIZE_MAX;  // bytes that one call may give
  bool interrupt = false;     // every second call
} disk;

}  // namespace

extern "C" ssize_t pread(int fd, void* dst, size_t size, off_t offset) {
  using Read = ssize_t (*)(int, void*, size_t, off_t);
  static const auto system_read = reinterpret_cast<Read>(dlsym(RTLD_NEXT, "pread"));
  ++disk.calls;
  if (disk.calls == disk.fail_at) {
    errno = disk.error;
    return disk.error ? -1 : 0;
  }
  if (disk.interrupt && disk.calls % 2 == 0) {
    errno = EINTR;
    return -1;
  }
  return system_read(fd, dst, size < disk.longest ? size : disk.longest, offset);
}

namespace {

struct Folder : TempFolder {
  Folder() {
    write("config.json", R"({"model_type":"llama"})");
    write("model-1.safetensors", safetensors('{' + entry("a", "U8", "7", 0, 7) + '}', "seven b"));
    write("model-2.safetensors", safetensors('{' + entry("b", "U8", "4", 0, 4) + '}', "four"));
    write("model.safetensors.index.json", R"({"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}})");
  }

  std::string load() const {
    const Checkpoint checkpoint = Checkpoint::open(path);
    std::string all;
    for (const Checkpoint::Tensor& tensor : checkpoint.tensors()) {
      std::string bytes(tensor.entry.bytes(), '\0');
      checkpoint.read(tensor, bytes.data());
      all += bytes;
    }
    checkpoint.verify_unchanged();
    return all;
  }
};

int next_descriptor() {
  const int fd = dup(0);
  close(fd);
  return fd;
}

}  // namespace

TEST("loads the same bytes through short and interrupted reads") {
  Folder folder;
  for (size_t longest : {size_t{1}, size_t{3}, size_t{64}}) {
    for (bool interrupt : {false, true}) {
      disk = {};
      disk.longest = longest;
      disk.interrupt = interrupt;
      CHECK_EQ(folder.load(), "seven bfour");
    }
  }
  CHECK(disk.calls > 10);
}

TEST("reports the failure of each read in turn, keeps nothing open, and then loads") {
  Folder folder;
  const int descriptor = next_descriptor();
  // 0 stands for a file that ends early.
  for (const auto& [error, reason] : {std::pair{EIO, "read_failed"}, {0, "file_changed"}}) {
    int fail_at = 1;
    for (;; ++fail_at) {
      disk = {};
      disk.fail_at = fail_at;
      disk.error = error;
      try {
        CHECK_EQ(folder.load(), "seven bfour");
        CHECK(disk.calls < fail_at);
        break;
      } catch (const EngineError& found) {
        CHECK_EQ(found.code, "validation_error");
        CHECK_EQ(found.reason, reason);
        CHECK(std::strstr(found.what(), folder.path.c_str()) != nullptr);
      }
      CHECK_EQ(next_descriptor(), descriptor);
    }
    CHECK_EQ(fail_at, 9);  // config, index, and of each shard its start, header and tensor: 8 reads
  }
}
