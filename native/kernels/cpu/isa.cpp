// See isa.h.

#include "kernels/cpu/isa.h"

#include <cstdlib>
#include <string>
#include <string_view>

#include "error.h"

#if defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace mlxk::kernels {

// CMakeLists.txt compiles isa/ once for each of these.
#define MLXK_DECLARE(isa)          \
  namespace isa {                  \
  extern const Routines kRoutines; \
  }
#if defined(__aarch64__)
MLXK_DECLARE(neon)
MLXK_DECLARE(neon_dotprod)
MLXK_DECLARE(neon_bf16)
#else
MLXK_DECLARE(portable)
#endif
#if defined(__x86_64__)
MLXK_DECLARE(x86_64_v3)
MLXK_DECLARE(avx512)
MLXK_DECLARE(avx512_vnni)
MLXK_DECLARE(avx512_bf16)
#endif
#undef MLXK_DECLARE

namespace {

struct Candidate {
  const Routines* routines;
  bool (*supported)();
};

// `__builtin_cpu_supports` asks the system too, whether it saves the wide registers.
#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
         __builtin_cpu_supports("f16c");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
}
bool has_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
bool has_bf16() { return has_vnni() && __builtin_cpu_supports("avx512bf16"); }
#elif defined(__aarch64__) && defined(__APPLE__)
bool has(const char* feature) {
  const std::string name = "hw.optional.arm." + std::string(feature);
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name.c_str(), &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_dotprod() { return has("FEAT_DotProd"); }
bool has_bf16() { return has_dotprod() && has("FEAT_I8MM") && has("FEAT_BF16"); }
#elif defined(__aarch64__)
bool has_dotprod() { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }
bool has_bf16() {
  const unsigned long both = HWCAP2_I8MM | HWCAP2_BF16;
  return has_dotprod() && (getauxval(AT_HWCAP2) & both) == both;
}
#endif

// From the least to the best.
const Candidate kCandidates[] = {
#if defined(__aarch64__)
    {&neon::kRoutines, [] { return true; }}, {&neon_dotprod::kRoutines, has_dotprod},
    {&neon_bf16::kRoutines, has_bf16},
#else
    {&portable::kRoutines, [] { return true; }},
#endif
#if defined(__x86_64__)
    {&x86_64_v3::kRoutines, has_avx2},       {&avx512::kRoutines, has_avx512},
    {&avx512_vnni::kRoutines, has_vnni},     {&avx512_bf16::kRoutines, has_bf16},
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
