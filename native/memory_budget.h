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

// Gives freed memory back to the system. glibc keeps what lies between blocks in use, and what one thread freed it does
// not lend to another: after a model is gone, that can be most of what it took. Milliseconds for some hundred
// megabytes.
void return_freed_memory();

// The tightest limit of the control groups listed in `membership` (/proc/self/cgroup) under the
// mount `root` (/sys/fs/cgroup); UINT64_MAX when none. Split off so that it can be tested.
uint64_t cgroup_limit_bytes(const std::string& membership, const std::string& root);

}  // namespace mlxk
