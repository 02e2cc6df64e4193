// An exported program, loaded through ExecuTorch's Program and Method: one step is one chunk.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../executorch/blockffn.h"
#include "blockffn_runner.h"
#include "drafter.h"

namespace blockffn::runner {

// Thrown inside the runner only; the C interface turns it into a code and a sentence.
struct Failure {
  blockffn_runner_code code;
  std::string message;
};

struct Chunk {
  int tokens = 0;
  int64_t n_past = 0;
  int64_t ids[kMaxRows], positions[kMaxRows], tree_mask[kMaxRows], kv_src[kMaxRows];
  int64_t logits_start = 0;
};

class Model {
 public:
  // Maps the file. Throws Failure.
  explicit Model(const std::string& path);
  ~Model();

  int64_t max_context() const { return max_context_; }
  int32_t vocab_size() const { return vocab_size_; }
  int64_t hidden_size() const { return hidden_size_; }
  int32_t bos_id() const { return bos_id_; }  // -1: none
  const std::vector<int32_t>& eos_ids() const { return eos_ids_; }

  // Runs one chunk; logits of row i, from logits_start on, are at the result + i * vocab_size, until the
  // next step. Throws Failure; the rows from n_past - (rows kept) on are then lost.
  const float* step(Chunk* chunk, blockffn_stats* read);

 private:
  struct Loaded;
  std::vector<int64_t> constant(const char* name);
  std::unique_ptr<Loaded> load_method(const char* name);
  [[noreturn]] void bad_program(const std::string& why) const;

  std::string path_;
  struct File;
  std::unique_ptr<File> file_;
  std::unique_ptr<Loaded> forward_;
  int64_t max_context_ = 0, hidden_size_ = 0;
  int32_t vocab_size_ = 0, bos_id_ = -1;
  std::vector<int32_t> eos_ids_;
};

}  // namespace blockffn::runner
