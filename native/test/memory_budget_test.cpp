// Memory limits read from a control group tree made for the case.

#include "../memory_budget.h"

#include <cstdint>

#include "check.h"

using namespace mlxk;
using namespace mlxk::test;

namespace {

struct Tree : TempFolder {
  void limit(const std::string& group, const std::string& file, const std::string& value) const {
    std::filesystem::create_directories(path + group);
    write(group + '/' + file, value + '\n');
  }
};

}  // namespace

TEST("takes the tightest version 2 limit on the way to the root") {
  Tree tree;
  tree.limit("/a/b", "memory.max", "max");
  tree.limit("/a", "memory.max", "1000");
  CHECK_EQ(cgroup_limit_bytes("0::/a/b\n", tree.path), 1000u);
  tree.limit("/a/b", "memory.max", "900");
  CHECK_EQ(cgroup_limit_bytes("0::/a/b\n", tree.path), 900u);
  CHECK_EQ(cgroup_limit_bytes("0::/a\n", tree.path), 1000u);
  tree.limit("", "memory.max", "50");
  CHECK_EQ(cgroup_limit_bytes("0::/a/b\n", tree.path), 50u);
}

TEST("uses the mount's root where the named group is not to be seen") {
  Tree tree;
  tree.limit("", "memory.max", "777");
  CHECK_EQ(cgroup_limit_bytes("0::/docker/abc\n", tree.path), 777u);
  CHECK_EQ(cgroup_limit_bytes("0::/../x\n", tree.path), 777u);
}

TEST("takes a version 1 limit of the memory controller only") {
  Tree tree;
  tree.limit("/memory/job", "memory.limit_in_bytes", "4096");
  tree.limit("/cpu/job", "memory.limit_in_bytes", "1");
  CHECK_EQ(cgroup_limit_bytes("5:cpu,cpuacct:/job\n4:hugetlb,memory:/job\n", tree.path), 4096u);
  CHECK_EQ(cgroup_limit_bytes("5:cpu,cpuacct:/job\n", tree.path), UINT64_MAX);
  CHECK_EQ(cgroup_limit_bytes("3:name=memory:/job\n", tree.path), UINT64_MAX);
}

TEST("has no limit where none is told") {
  Tree tree;
  CHECK_EQ(cgroup_limit_bytes("", tree.path), UINT64_MAX);
  CHECK_EQ(cgroup_limit_bytes("nonsense\n:\n0::\n", tree.path), UINT64_MAX);
  tree.limit("/g", "memory.max", "many");
  CHECK_EQ(cgroup_limit_bytes("0::/g\n", tree.path), UINT64_MAX);
}

TEST("knows this machine and this process") {
  const uint64_t machine = machine_memory_bytes();
  CHECK(machine > (uint64_t{64} << 20) && machine < (uint64_t{1} << 60));
  const uint64_t before = rss_bytes();
  CHECK(before > 0 && before < machine);
  std::vector<char> block(64 << 20, 1);
  CHECK(block[block.size() / 2] == 1);
  CHECK(rss_bytes() > before + (32 << 20));
}
