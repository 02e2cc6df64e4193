// The one place that knows which kernels exist and which the processor runs.
#include <cstdlib>
#include <cstring>

#include "contract.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace blockffn {
namespace {

struct Variant {
  const Kernels* kernels;
  bool (*supported)();
};

#if defined(__x86_64__)
// The builtin also asks whether the operating system saves the registers.
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool has_avx512_vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

#if defined(__aarch64__)
#if defined(__linux__)
// Bits of the kernel's interface (arch/arm64/include/uapi/asm/hwcap.h); older headers lack some of the names.
bool has_dotprod() { return (getauxval(AT_HWCAP) >> 20 & 1) != 0; }                  // HWCAP_ASIMDDP
bool has_i8mm() { return has_dotprod() && (getauxval(AT_HWCAP2) >> 13 & 1) != 0; }  // HWCAP2_I8MM
#elif defined(__APPLE__)
bool has_feature(const char* name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_dotprod() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
bool has_i8mm() { return has_dotprod() && has_feature("hw.optional.arm.FEAT_I8MM"); }
#else
bool has_dotprod() { return false; }
bool has_i8mm() { return false; }
#endif
#endif

// The best first; the last one runs everywhere.
const Variant kVariants[] = {
#if defined(__x86_64__)
    {&kAvx512VnniKernels, has_avx512_vnni},
    {&kAvx2Kernels, has_avx2},
#elif defined(__aarch64__)
    {&kI8mmKernels, has_i8mm},
    {&kDotprodKernels, has_dotprod},
    {&kNeonKernels, [] { return true; }},
#endif
    {&kPortableKernels, [] { return true; }},
};
constexpr int kVariantCount = sizeof kVariants / sizeof kVariants[0];

}  // namespace

const Kernels* kernels_variant(int i, bool* supported) {
  if (i < 0 || i >= kVariantCount) return nullptr;
  *supported = kVariants[i].supported();
  return kVariants[i].kernels;
}

Status select_kernels(const Kernels** out) {
  const char* forced = std::getenv("BLOCKFFN_KERNELS");
  const bool any = forced == nullptr || *forced == '\0';
  for (const Variant& v : kVariants) {
    if (!any && std::strcmp(forced, v.kernels->name) != 0) continue;
    if (v.supported()) {
      *out = v.kernels;
      return kStatusOk;
    }
    if (!any) return {Status::kInvalidArgument, "BLOCKFFN_KERNELS names kernels that this processor cannot run"};
  }
  return {Status::kInvalidArgument,
          "BLOCKFFN_KERNELS names no kernels of this library; unset it, or see runtime_delegates.doctor"};
}

}  // namespace blockffn
