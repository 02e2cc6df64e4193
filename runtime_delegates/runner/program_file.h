// An ExecuTorch program in a mapped file, through Program and Method alone (Module is not in every
// build of ExecuTorch that phones have, and needs instructions that old ones lack).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../executorch/blockffn.h"
#include "failure.h"

namespace blockffn::runner {

class ProgramFile {
 public:
  // Throws Failure(BLOCKFFN_BAD_PROGRAM), as everything here that finds the file damaged. `what` names
  // the program in sentences if it has no path.
  ProgramFile(const blockffn_file& file, const char* what);
  ~ProgramFile();

  // An input, contiguous.
  struct Tensor {
    const void* data;
    int32_t sizes[3];
    int rank;
    bool is_float;  // float32, else int64
  };
  // A loaded method with the memory that it runs in. Not beyond the life of its ProgramFile.
  class Method {
   public:
    ~Method();
    int inputs() const;
    int outputs() const;
    // Sizes of a float32 output as exported, the largest where a size varies; empty if it is another type.
    std::vector<int64_t> output_sizes(int i) const;
    // Runs it. Throws Failure(BLOCKFFN_FAILED). `read` receives what our delegate read.
    void run(const Tensor* inputs, int count, blockffn_stats* read);
    // A float32 output of `count` elements; valid until the next run. Throws Failure(BLOCKFFN_FAILED).
    const float* output(int i, int64_t count) const;

   private:
    friend class ProgramFile;
    struct State;
    std::unique_ptr<State> state_;
  };

  std::unique_ptr<Method> load(const char* name);
  bool has(const char* name) const;
  // The integers, flattened, that a metadata method returns.
  std::vector<int64_t> constants(const char* name);
  int64_t constant(const char* name);  // exactly one
  [[noreturn]] void bad(const std::string& why) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace blockffn::runner
