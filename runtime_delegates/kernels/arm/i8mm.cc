#if defined(__aarch64__)

#include "arm.h"

namespace blockffn {

const Kernels kI8mmKernels = {"i8mm", arm::tiles_fp32, arm::tiles_int8_dotprod, arm::tiles_int4_dotprod,
                                 arm::quantize_row, arm::dot, arm::axpy, arm::scale, arm::silu};

}  // namespace blockffn
#endif
