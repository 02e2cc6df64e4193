// Runs one program step by step on the CPU or on a Vulkan device: run_step cpu|gpu PROGRAM WEIGHTS STEPS OUTPUT [NAME=N
// ...]
//     run_step self_test QUANT [fp16] [fault]
//     run_step choose PROGRAM WEIGHTS DEVICE|describe ARITHMETIC [NAME=N ...]
//
// STEPS and OUTPUT are those of tests/kernels/run_program.cc. A step that is refused writes 0xffffffff and its
// sentence's length and text instead. NAME is threads, serialize, staged, skip_barrier or fp16 of
// gpu::StepOptions, or trace, the number of a step that ends the run and is written out (Step::trace). The last line of
// standard output is JSON: device, arithmetic, barriers, and what the FFNs read. metal=LIBRARY, of kernels, takes
// the place of Vulkan (metal_lender.h). Exit 1 and a sentence if nothing can run.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>

#include "../../runtime_delegates/gpu/choose.h"
#include "../../runtime_delegates/gpu/step.h"
#include "../kernels/step_file.h"
#include "metal_lender.h"

using namespace blockffn;

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i)
    if (std::strncmp(argv[i], "metal=", 6) == 0 && !metal_lender::lend(argv[i] + 6)) {
      std::fprintf(stderr, "%s\n", dlerror());
      return 1;
    }
  if (argc >= 3 && std::strcmp(argv[1], "self_test") == 0) {
    bool fault = false;
    auto arithmetic = gpu::Arithmetic::kFp32;
    for (int i = 3; i < argc; ++i) {
      fault = fault || std::strcmp(argv[i], "fault") == 0;
      if (std::strcmp(argv[i], "fp16") == 0) arithmetic = gpu::Arithmetic::kFp16;
    }
    const Status s = gpu::self_test(true, static_cast<Quant>(std::atoi(argv[2])), arithmetic, fault);
    std::printf("%s\n", s.ok() ? "passed" : s.message);
    return s.ok() ? 0 : 1;
  }
  if (argc < 6) {
    std::fprintf(stderr, "usage: run_step cpu|gpu PROGRAM WEIGHTS STEPS OUTPUT [NAME=N ...]\n");
    return 2;
  }
  const bool choose = std::strcmp(argv[1], "choose") == 0;
  gpu::StepOptions options;
  options.cpu_too = true;
  int trace = -1;
  for (int i = 6; i < argc; ++i) {
    const char* value = std::strchr(argv[i], '=');
    const std::string name = value == nullptr ? argv[i] : std::string(argv[i], static_cast<size_t>(value - argv[i]));
    const int n = value == nullptr ? 1 : std::atoi(value + 1);
    if (name == "threads") options.threads = static_cast<uint32_t>(n);
    if (name == "serialize") options.serialize = n != 0;
    if (name == "staged") options.faults.discrete = n != 0;
    if (name == "window") options.window = static_cast<uint64_t>(n);
    if (name == "shared_bytes") options.faults.shared_bytes = static_cast<uint32_t>(n);
    if (name == "memory_bytes") options.faults.memory_bytes = static_cast<uint64_t>(n);
    if (name == "no_half") options.faults.no_half = n != 0;
    if (name == "fp16") options.arithmetic = n != 0 ? gpu::Arithmetic::kFp16 : gpu::Arithmetic::kFp32;
    if (name == "lose_after") options.faults.lose_after = n;
    if (name == "trace") trace = n;
    if (name == "skip_barrier") options.skip_barrier = n;
  }
  const Bytes blob = read_file(argv[2]);
  Bytes weights = read_file(argv[3]);
  std::unique_ptr<Program> program;
  if (const Status s = Program::parse(blob.data(), blob.size(), find_segment, &weights, &program); !s.ok())
    return refused("parse", s);
  if (choose) {  // STEPS and OUTPUT: the wished device and arithmetic
    gpu::Device::plant(options.faults);
    std::string report;
    if (std::strcmp(argv[4], "describe") == 0) {
      std::printf("%s\n", gpu::describe_gpu(true, argv[5]).c_str());
      return 0;
    }
    const Status s = gpu::choose_device(argv[4], argv[5], {}, program.get(), &report);
    std::printf("%s\n", s.ok() ? report.c_str() : s.message);
    return s.ok() ? 0 : 1;
  }
  gpu::Step* step = nullptr;
  if (std::string(argv[1]) == "gpu") {
    std::unique_ptr<gpu::Step> made;
    if (const Status s = gpu::Step::create(*program, options, &made); !s.ok()) return refused("gpu", s);
    step = made.get();
    program->set_accelerator(std::move(made));
  }
  StepFile steps(read_file(argv[4]));
  std::ofstream output(argv[5], std::ios::binary);
  const auto put = [&](uint32_t n) { output.write(reinterpret_cast<const char*>(&n), sizeof n); };
  ReadStats stats;
  for (uint32_t count = steps.number(); count > 0; --count) {
    const int tokens = steps.bind(program.get());
    if (step != nullptr && trace >= 0 && trace-- == 0) {
      if (const Status s = step->trace(*program, tokens, argv[5]); !s.ok()) return refused("trace", s);
      break;
    }
    if (const Status s = program->run(tokens, {}, {}, &stats); !s.ok()) {
      put(0xffffffffu);
      put(static_cast<uint32_t>(std::strlen(s.message)));
      output << s.message;
      continue;
    }
    steps.write_outputs(*program, &output);
  }
  // A step that lost its device is gone.
  if (program->accelerator() == nullptr) step = nullptr;
  std::printf("{\"device\": \"%s\", \"arithmetic\": \"%s\", \"barriers\": %d, ",
              step == nullptr ? program->kernels().name : step->name(),
              step == nullptr ? "" : gpu::arithmetic_name(step->arithmetic()), step == nullptr ? 0 : step->barriers());
  std::printf("\"experts_read\": %lld, \"experts_total\": %lld}\n", static_cast<long long>(stats.experts_read),
              static_cast<long long>(stats.experts_total));
  return output.flush() ? 0 : 1;
}
