// The one place that knows which kernels exist and which the processor runs.
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "contract.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
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
// What the processor has and the operating system saves the registers of, from CPUID and XGETBV:
// __builtin_cpu_supports needs a function of the compiler's library, which Android's lacks.
struct X86 {
  unsigned leaf1_ecx = 0, leaf7_ebx = 0, leaf7_ecx = 0, leaf7_1_eax = 0, saved = 0;
  X86() {
    unsigned a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d)) leaf1_ecx = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
      leaf7_ebx = b, leaf7_ecx = c;
      if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) leaf7_1_eax = a;
    }
    if (leaf1_ecx >> 27 & 1) __asm__("xgetbv" : "=a"(saved), "=d"(d) : "c"(0));  // OSXSAVE
  }
};
const X86& x86() {
  static const X86 features;
  return features;
}
bool all(unsigned bits, std::initializer_list<int> wanted) {
  for (const int bit : wanted)
    if (!(bits >> bit & 1)) return false;
  return true;
}
bool has_avx2() {  // SSE and AVX state; FMA, AVX, F16C; AVX2
  return all(x86().saved, {1, 2}) && all(x86().leaf1_ecx, {12, 28, 29}) && all(x86().leaf7_ebx, {5});
}
bool has_avx_vnni() { return has_avx2() && all(x86().leaf7_1_eax, {4}); }
bool has_avx512_vnni() {  // opmask and ZMM state; F, DQ, BW, VL; VNNI
  return has_avx2() && all(x86().saved, {5, 6, 7}) && all(x86().leaf7_ebx, {16, 17, 30, 31}) &&
         all(x86().leaf7_ecx, {11});
}
#endif

#if defined(__aarch64__)
#if defined(__linux__)
// Bits of the kernel's interface (arch/arm64/include/uapi/asm/hwcap.h); older headers lack some of the names.
bool has_dotprod() { return (getauxval(AT_HWCAP) >> 20 & 1) != 0; }                 // HWCAP_ASIMDDP
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
    {&kAvxVnniKernels, has_avx_vnni},
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
