// Files of a program, its weights and its steps, for drivers that run one step by step.
//
// STEPS is what tests/fuzz/test_fuzz.py's packed_steps writes. An output is written behind its number of floats (u32).
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>
#include <vector>

#include "../../runtime_delegates/program/program.h"

namespace blockffn {

using Bytes = std::vector<uint8_t>;

inline Bytes read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

// For Program::parse; context is the Bytes of the one segment.
inline Status find_segment(void* context, const char*, const uint8_t** data, size_t* bytes) {
  const auto* weights = static_cast<const Bytes*>(context);
  *data = weights->data();
  *bytes = weights->size();
  return kStatusOk;
}

inline int refused(const char* what, const Status& status) {
  std::fprintf(stderr, "%s: %s\n", what, status.message);
  return 1;
}

class StepFile {
 public:
  explicit StepFile(Bytes bytes) : bytes_(std::move(bytes)) {}

  uint32_t number() {
    uint32_t n;
    std::memcpy(&n, bytes_.data() + at_, sizeof n);
    at_ += sizeof n;
    return n;
  }
  // Reads the next step and binds the program to its inputs and to room for its outputs; the number of tokens.
  int bind(Program* program) {
    const int tokens = static_cast<int>(number());
    buffers_.clear();
    for (uint32_t inputs = number(), i = 0; i < inputs; ++i) {
      const uint32_t bytes = number();
      buffers_.emplace_back(bytes_.data() + at_, bytes_.data() + at_ + bytes);
      at_ += bytes;
    }
    for (int i = 0; i < program->output_count(); ++i)
      buffers_.emplace_back(program->output(i).elements(tokens) * sizeof(float));
    for (int i = 0; i < program->input_count(); ++i) program->bind_input(i, buffers_[i].data());
    for (int i = 0; i < program->output_count(); ++i)
      program->bind_output(i, buffers_[program->input_count() + i].data());
    return tokens;
  }
  void write_outputs(const Program& program, std::ofstream* output) const {
    for (int i = 0; i < program.output_count(); ++i) {
      const Bytes& out = buffers_[program.input_count() + i];
      const auto floats = static_cast<uint32_t>(out.size() / sizeof(float));
      output->write(reinterpret_cast<const char*>(&floats), sizeof floats);
      output->write(reinterpret_cast<const char*>(out.data()), static_cast<std::streamsize>(out.size()));
    }
  }

 private:
  Bytes bytes_;
  size_t at_ = 0;
  std::vector<Bytes> buffers_;
};

}  // namespace blockffn
