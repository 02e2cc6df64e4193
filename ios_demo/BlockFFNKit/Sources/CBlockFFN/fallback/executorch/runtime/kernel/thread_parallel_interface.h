// Stands in where ExecuTorch's Apple package ships its thread pool without this header; the search path
// has this folder last. Declaration as in ExecuTorch 1.5.
#pragma once

#include <executorch/runtime/core/function_ref.h>

#include <cstdint>

namespace executorch::extension {

bool parallel_for(const int64_t begin, const int64_t end, const int64_t grain_size,
                  runtime::FunctionRef<void(int64_t, int64_t)> f);

}  // namespace executorch::extension
