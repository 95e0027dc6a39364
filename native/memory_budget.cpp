#include "memory_budget.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <unistd.h>
#ifdef __APPLE__
#include <mach/mach.h>
#include <sys/sysctl.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace mlxk {
namespace {

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

uint64_t physical_bytes() {
#ifdef __APPLE__
  uint64_t bytes = 0;
  size_t size = sizeof bytes;
  return sysctlbyname("hw.memsize", &bytes, &size, nullptr, 0) == 0 ? bytes : kNoLimit;
#else
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGE_SIZE);
  if (pages <= 0 || page <= 0) return kNoLimit;
  return static_cast<uint64_t>(pages) * static_cast<uint64_t>(page);
#endif
}

// "max" (v2) does not parse; v1 says "no limit" with a number near 2^63, harmless in a minimum.
uint64_t limit_in(const std::string& path) {
  std::ifstream file(path);
  uint64_t bytes;
  return file >> bytes ? bytes : kNoLimit;
}

// A parent's limit binds its children, so every level counts. Inside a container the path may be
// the host's and not exist here; the mount's own root is then the level that matters.
uint64_t tightest(const std::string& mount, std::string group, const char* file) {
  uint64_t limit = limit_in(mount + '/' + file);
  while (group.size() > 1) {
    limit = std::min(limit, limit_in(mount + group + '/' + file));
    group.resize(group.rfind('/'));
  }
  return limit;
}

bool names_memory(const std::string& controllers) {
  std::istringstream in(controllers);
  for (std::string name; std::getline(in, name, ',');) {
    if (name == "memory") return true;
  }
  return false;
}

}  // namespace

uint64_t cgroup_limit_bytes(const std::string& membership, const std::string& root) {
  uint64_t limit = kNoLimit;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {
    // hierarchy:controllers:/path
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    if (group.empty() || group[0] != '/') continue;
    // Seen from inside a namespace, a group outside it begins with "/..": only the root is visible.
    if (group.starts_with("/..")) group = "/";
    if (controllers.empty()) {
      limit = std::min(limit, tightest(root, group, "memory.max"));
    } else if (names_memory(controllers)) {
      limit = std::min(limit, tightest(root + "/memory", group, "memory.limit_in_bytes"));
    }
  }
  return limit;
}

uint64_t machine_memory_bytes() {
#ifdef __APPLE__
  return physical_bytes();
#else
  std::ifstream file("/proc/self/cgroup");
  std::ostringstream membership;
  membership << file.rdbuf();
  return std::min(physical_bytes(), cgroup_limit_bytes(membership.str(), "/sys/fs/cgroup"));
#endif
}

uint64_t rss_bytes() {
#ifdef __APPLE__
  mach_task_basic_info info;
  mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
  auto* out = reinterpret_cast<task_info_t>(&info);
  if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, out, &count) != KERN_SUCCESS) return 0;
  return info.resident_size;
#else
  std::ifstream file("/proc/self/statm");
  uint64_t total, resident;
  if (!(file >> total >> resident)) return 0;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE));
#endif
}

void return_freed_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace mlxk
