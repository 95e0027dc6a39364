// See isa.h.

#include "kernels/cpu/isa.h"

#include <cstdlib>
#include <string>
#include <string_view>

#include "error.h"

#if defined(__linux__) && defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace mlxk::kernels {

// CMakeLists.txt compiles isa/ once for each of these.
#define MLXK_DECLARE(isa)          \
  namespace isa {                  \
  extern const Routines kRoutines; \
  }
MLXK_DECLARE(portable)
#if defined(__x86_64__)
MLXK_DECLARE(x86_64_v3)
MLXK_DECLARE(avx512)
MLXK_DECLARE(avx512_vnni)
#endif
#undef MLXK_DECLARE

namespace {

struct Candidate {
  const Routines* routines;
  bool (*supported)();
};

// From the least to the best. `__builtin_cpu_supports` asks the system too, whether it saves the wide registers.
const Candidate kCandidates[] = {
    {&portable::kRoutines, [] { return true; }},
#if defined(__x86_64__)
    {&x86_64_v3::kRoutines,
     [] {
       return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
              __builtin_cpu_supports("f16c");
     }},
    {&avx512::kRoutines,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
     }},
    {&avx512_vnni::kRoutines,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
     }},
#endif
};

const Routines& choose() {
  const char* wanted = std::getenv("MLXK_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') {
    const Routines* best = nullptr;
    for (const Candidate& candidate : kCandidates) {
      if (candidate.supported()) best = candidate.routines;
    }
    return *best;
  }
  std::string known;
  for (const Candidate& candidate : kCandidates) {
    if (std::string_view(candidate.routines->name) == wanted) {
      if (candidate.supported()) return *candidate.routines;
      invalid("cpu_isa_unsupported", "MLXK_CPU_ISA: this processor has no " + std::string(wanted));
    }
    known += (known.empty() ? "" : ", ") + std::string(candidate.routines->name);
  }
  invalid("cpu_isa_invalid", "MLXK_CPU_ISA must be one of " + known + "; got " + quoted(wanted));
}

}  // namespace

const Routines& routines() {
  static const Routines& chosen = choose();
  return chosen;
}

}  // namespace mlxk::kernels
