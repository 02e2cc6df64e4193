// Which device a program runs on, and whether its GPU can be trusted.
#pragma once

#include <string>

#include "../program/program.h"
#include "device.h"

namespace blockffn::gpu {

// A small program of every operator in one precision, run 20 times on the device: a prefill, a tree, a kept branch, a
// token. Every output must lie within 1e-4 of its row's root mean square of what the CPU computes in float32 from the
// same weights, a hundred times what rounding makes and a hundredth of what one wrong weight does; in float16 within
// 4e-2, twice what its rounding makes there and half of what the least of the planted wrong weights does; and all runs
// must give the same bits. plant_fault damages one weight of the GPU's copy, for tests of the test.
Status self_test(bool cpu_too, Quant quant, Arithmetic arithmetic, bool plant_fault = false);

// The same, asked once per process, driver, set of shaders and arithmetic: the verdict is kept (cache_files.h), unless
// there is no place for it.
Status trusted(bool cpu_too, Quant quant, Arithmetic arithmetic);

// The GPU that `auto` would take (cpu_too: `gpu`) and what it would multiply in, or "none: " and why.
std::string describe_gpu(bool cpu_too, const char* wanted_arithmetic);

// Sets the accelerator of a program that was just loaded. wanted: "cpu", "gpu" or "auto" (null: "cpu").
// gpu   a Vulkan device, software drivers too; auto a hardware one, where an estimate of 256 tokens of prompt and 192
// of answer (four chunks of 64, 64 steps of one token, 16 chunks of 8) is shorter there, by times measured here and
// now. A program has one device: the caches are in its memory. *report says which, and why it is the CPU where a GPU
// was asked for. wanted_arithmetic: "fp32" (null: this) or "fp16", which a GPU without it, or that fails the self-test
// in it, does in float32; *report then says so. Fails only if a wish is none of these.
Status choose_device(const char* wanted, const char* wanted_arithmetic, const Parallel& parallel, Program* program,
                     std::string* report);

}  // namespace blockffn::gpu
