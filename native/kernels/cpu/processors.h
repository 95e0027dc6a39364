// How many threads this process may usefully run: cores it is allowed on, less what its container forbids.

#pragma once

#include <string>

namespace mlxk::kernels {

// Physical cores among the processors this process may run on, at most the cgroup's quota (rounded down, at least 1).
int usable_cores();

// Processors that a cgroup v2 `cpu.max` text ("150000 100000", "max 100000") grants, 0 where it sets no limit.
double quota_of(const std::string& cpu_max);

}  // namespace mlxk::kernels
