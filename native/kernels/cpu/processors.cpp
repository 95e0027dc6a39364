// See processors.h.

#include "kernels/cpu/processors.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace mlxk::kernels {
namespace {

std::string first_line(const std::string& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

#ifdef __linux__
// Two processors with the same siblings are two threads of one core.
int physical_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 0;
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    const std::string siblings = first_line(folder + "thread_siblings_list");
    cores.insert(siblings.empty() ? "cpu" + std::to_string(cpu) : siblings);
  }
  return static_cast<int>(cores.size());
}

// The least quota of this process's cgroup and those above it, in processors; 0 for none.
double quota() {
  double least = 0;
  const auto consider = [&](double granted) {
    if (granted > 0) least = least > 0 ? std::min(least, granted) : granted;
  };
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.rfind("0::", 0) != 0) continue;  // version 2
    std::string path = line.substr(3);
    while (true) {
      consider(quota_of(first_line("/sys/fs/cgroup" + (path == "/" ? "" : path) + "/cpu.max")));
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/'));
    }
  }
  // Version 1, as a container sees its own group.
  const std::string used = first_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  const std::string period = first_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (!used.empty() && !period.empty()) consider(quota_of(used + ' ' + period));
  return least;
}
#endif

}  // namespace

double quota_of(const std::string& cpu_max) {
  std::istringstream text(cpu_max);
  double used = 0, period = 0;
  if (!(text >> used >> period) || used <= 0 || period <= 0) return 0;
  return used / period;
}

int usable_cores() {
  int cores = 0;
  double granted = 0;
#ifdef __linux__
  cores = physical_cores();
  granted = quota();
#endif
  if (cores == 0) cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (granted > 0) cores = std::min(cores, std::max(1, static_cast<int>(std::floor(granted))));
  return cores;
}

}  // namespace mlxk::kernels
