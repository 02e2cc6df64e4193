// Runs one program step by step: run_program PROGRAM WEIGHTS STEPS OUTPUT
//
// STEPS is what tests/fuzz/test_fuzz.py's packed_steps writes. OUTPUT receives every output of every step, each
// behind its number of floats (u32). Prints the name of the kernels; exit 1 and a sentence on standard error if something is refused.
#include <cstdio>
#include <fstream>
#include <memory>

#include "step_file.h"

using namespace blockffn;

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: run_program PROGRAM WEIGHTS STEPS OUTPUT\n");
    return 2;
  }
  const Bytes blob = read_file(argv[1]);
  Bytes weights = read_file(argv[2]);
  StepFile steps(read_file(argv[3]));
  std::unique_ptr<Program> program;
  if (const Status s = Program::parse(blob.data(), blob.size(), find_segment, &weights, &program); !s.ok())
    return refused("parse", s);
  std::ofstream output(argv[4], std::ios::binary);
  for (uint32_t count = steps.number(); count > 0; --count) {
    const int tokens = steps.bind(program.get());
    ReadStats stats;
    if (const Status s = program->run(tokens, {}, {}, &stats); !s.ok()) return refused("run", s);
    steps.write_outputs(*program, &output);
  }
  std::puts(program->kernels().name);
  return output.flush() ? 0 : 1;
}
