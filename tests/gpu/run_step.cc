// Runs one program step by step on the CPU or on a Vulkan device: run_step cpu|gpu PROGRAM WEIGHTS STEPS OUTPUT [NAME=N
// ...]
//
// STEPS and OUTPUT are those of tests/kernels/run_program.cc. A step that is refused writes 0xffffffff and its
// sentence's length and text instead. NAME is threads, serialize, fused, staged, direct or skip_barrier of
// gpu::StepOptions. The last line of standard output is JSON: device, barriers, and what the FFNs read. Exit 1 and a
// sentence if nothing can run.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "../../runtime_delegates/gpu/choose.h"
#include "../../runtime_delegates/gpu/step.h"

using namespace blockffn;
using Bytes = std::vector<uint8_t>;

namespace {

Bytes read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

Status find_segment(void* context, const char*, const uint8_t** data, size_t* bytes) {
  const auto* weights = static_cast<const Bytes*>(context);
  *data = weights->data();
  *bytes = weights->size();
  return kStatusOk;
}

int refused(const char* what, const Status& status) {
  std::fprintf(stderr, "%s: %s\n", what, status.message);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc >= 3 && std::strcmp(argv[1], "self_test") == 0) {
    const Status s = gpu::self_test(true, static_cast<Quant>(std::atoi(argv[2])), argc > 3);
    std::printf("%s\n", s.ok() ? "passed" : s.message);
    return s.ok() ? 0 : 1;
  }
  if (argc < 6) {
    std::fprintf(stderr, "usage: run_step cpu|gpu PROGRAM WEIGHTS STEPS OUTPUT [NAME=N ...]\n");
    return 2;
  }
  gpu::StepOptions options;
  options.cpu_too = true;
  for (int i = 6; i < argc; ++i) {
    const char* value = std::strchr(argv[i], '=');
    const std::string name = value == nullptr ? argv[i] : std::string(argv[i], static_cast<size_t>(value - argv[i]));
    const int n = value == nullptr ? 1 : std::atoi(value + 1);
    if (name == "threads") options.threads = static_cast<uint32_t>(n);
    if (name == "serialize") options.serialize = n != 0;
    if (name == "fused") options.fused = n != 0;
    if (name == "staged") options.faults.discrete = n != 0;
    if (name == "window") options.window = static_cast<uint64_t>(n);
    if (name == "shared_bytes") options.faults.shared_bytes = static_cast<uint32_t>(n);
    if (name == "memory_bytes") options.faults.memory_bytes = static_cast<uint64_t>(n);
    if (name == "lose_after") options.faults.lose_after = n;
    if (name == "direct") options.direct = n != 0;
    if (name == "skip_barrier") options.skip_barrier = n;
  }
  const Bytes blob = read_file(argv[2]), steps = read_file(argv[4]);
  Bytes weights = read_file(argv[3]);
  std::unique_ptr<Program> program;
  if (const Status s = Program::parse(blob.data(), blob.size(), find_segment, &weights, &program); !s.ok())
    return refused("parse", s);
  gpu::Step* step = nullptr;
  if (std::string(argv[1]) == "gpu") {
    std::unique_ptr<gpu::Step> made;
    if (const Status s = gpu::Step::create(*program, options, &made); !s.ok()) return refused("gpu", s);
    step = made.get();
    program->set_accelerator(std::move(made));
  }
  std::ofstream output(argv[5], std::ios::binary);
  const auto put = [&](uint32_t n) { output.write(reinterpret_cast<const char*>(&n), sizeof n); };
  const uint8_t* at = steps.data();
  const auto number = [&] {
    uint32_t n;
    std::memcpy(&n, at, sizeof n);
    at += sizeof n;
    return n;
  };
  ReadStats stats;
  for (uint32_t count = number(); count > 0; --count) {
    const int tokens = static_cast<int>(number());
    std::vector<Bytes> buffers;
    for (uint32_t inputs = number(), i = 0; i < inputs; ++i) {
      const uint32_t bytes = number();
      buffers.emplace_back(at, at + bytes);
      at += bytes;
    }
    for (int i = 0; i < program->output_count(); ++i)
      buffers.emplace_back(program->output(i).elements(tokens) * sizeof(float));
    for (int i = 0; i < program->input_count(); ++i) program->bind_input(i, buffers[i].data());
    for (int i = 0; i < program->output_count(); ++i)
      program->bind_output(i, buffers[program->input_count() + i].data());
    if (const Status s = program->run(tokens, {}, {}, &stats); !s.ok()) {
      put(0xffffffffu);
      put(static_cast<uint32_t>(std::strlen(s.message)));
      output << s.message;
      continue;
    }
    for (int i = 0; i < program->output_count(); ++i) {
      const Bytes& out = buffers[program->input_count() + i];
      put(static_cast<uint32_t>(out.size() / sizeof(float)));
      output.write(reinterpret_cast<const char*>(out.data()), static_cast<std::streamsize>(out.size()));
    }
  }
  // A step that lost its device is gone.
  if (program->accelerator() == nullptr) step = nullptr;
  std::printf("{\"device\": \"%s\", \"barriers\": %d, \"experts_read\": %lld, \"experts_total\": %lld}\n",
              step == nullptr ? program->kernels().name : step->name(), step == nullptr ? 0 : step->barriers(),
              static_cast<long long>(stats.experts_read), static_cast<long long>(stats.experts_total));
  return output.flush() ? 0 : 1;
}
