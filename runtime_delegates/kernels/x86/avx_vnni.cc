// AVX-VNNI micro-kernels (Intel Alder Lake, AMD Zen 5 and later): the loops of avx2.cc, compiled for the instruction
// that multiplies and adds four bytes at once. dot_step.h holds all that differs.
#define BLOCKFFN_AVX_VNNI
#include "avx2.cc"  // NOLINT
