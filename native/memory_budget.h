// How much memory this process may hope for, as the machine and its container tell it. MLX's own
// limit is only advice (it was seen to allocate far past it), so the core budgets with these.

#pragma once

#include <cstdint>
#include <string>

namespace mlxk {

// The lesser of physical memory and the control group's limit (v1 or v2, any level of the tree).
uint64_t machine_memory_bytes();

// Resident memory of this process; 0 where the system does not tell.
uint64_t rss_bytes();

// The tightest limit of the control groups listed in `membership` (/proc/self/cgroup) under the
// mount `root` (/sys/fs/cgroup); UINT64_MAX when none. Split off so that it can be tested.
uint64_t cgroup_limit_bytes(const std::string& membership, const std::string& root);

}  // namespace mlxk
