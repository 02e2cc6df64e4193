// Runs one program step by step: run_program PROGRAM WEIGHTS STEPS OUTPUT
//
// STEPS is what tests/fuzz/test_fuzz.py's packed_steps writes. OUTPUT receives every output of every step, each
// behind its number of floats (u32). Prints the name of the kernels; exit 1 and a sentence on standard error if something is refused.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

#include "../../runtime_delegates/program/program.h"

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
  if (argc != 5) {
    std::fprintf(stderr, "usage: run_program PROGRAM WEIGHTS STEPS OUTPUT\n");
    return 2;
  }
  const Bytes blob = read_file(argv[1]), steps = read_file(argv[3]);
  Bytes weights = read_file(argv[2]);
  std::unique_ptr<Program> program;
  if (const Status s = Program::parse(blob.data(), blob.size(), find_segment, &weights, &program); !s.ok())
    return refused("parse", s);
  std::ofstream output(argv[4], std::ios::binary);
  const uint8_t* at = steps.data();
  const auto number = [&] {
    uint32_t n;
    std::memcpy(&n, at, sizeof n);
    at += sizeof n;
    return n;
  };
  for (uint32_t step = number(); step > 0; --step) {
    const int tokens = static_cast<int>(number());
    std::vector<Bytes> buffers;
    for (uint32_t inputs = number(), i = 0; i < inputs; ++i) {
      const uint32_t bytes = number();
      buffers.emplace_back(at, at + bytes);
      at += bytes;
    }
    for (int i = 0; i < program->output_count(); ++i) buffers.emplace_back(program->output(i).elements(tokens) * sizeof(float));
    for (int i = 0; i < program->input_count(); ++i) program->bind_input(i, buffers[i].data());
    for (int i = 0; i < program->output_count(); ++i)
      program->bind_output(i, buffers[program->input_count() + i].data());
    ReadStats stats;
    if (const Status s = program->run(tokens, {}, {}, &stats); !s.ok()) return refused("run", s);
    for (int i = 0; i < program->output_count(); ++i) {
      const Bytes& out = buffers[program->input_count() + i];
      const auto floats = static_cast<uint32_t>(out.size() / sizeof(float));
      output.write(reinterpret_cast<const char*>(&floats), sizeof floats);
      output.write(reinterpret_cast<const char*>(out.data()), static_cast<std::streamsize>(out.size()));
    }
  }
  std::puts(program->kernels().name);
  return output.flush() ? 0 : 1;
}
