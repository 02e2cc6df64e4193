// A decoder, exported for ExecuTorch or run by another runtime: one step is one chunk.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "blockffn_runner.h"
#include "drafter.h"
#include "program_file.h"

namespace blockffn::runner {

struct Chunk {
  int tokens = 0;
  int64_t n_past = 0;
  int64_t ids[kMaxRows], positions[kMaxRows], tree_mask[kMaxRows], kv_src[kMaxRows];
  int64_t logits_start = 0;
};

// One token after the other, positions from 0.
void make_linear(Chunk* chunk, const int32_t* ids, int tokens);

class Model {
 public:
  // Throws Failure.
  explicit Model(const blockffn_file& file);
  explicit Model(const blockffn_steps& steps);

  int64_t max_context() const { return max_context_; }
  int32_t vocab_size() const { return vocab_size_; }
  int64_t hidden_size() const { return hidden_size_; }
  int32_t bos_id() const { return bos_id_; }  // -1: none
  const std::vector<int32_t>& eos_ids() const { return eos_ids_; }
  int64_t tokenizer() const { return tokenizer_; }  // fingerprint of its tokenizer's file; 0: unknown
  int64_t fingerprint() const { return fingerprint_; }  // what draft heads for it name; 0: unknown

  bool is_program() const { return file_ != nullptr; }
  // Whether steps read and compute all experts, active or not.
  void set_all_experts(bool all) { all_experts_ = all; }
  bool all_experts() const { return all_experts_; }

  // Valid until the next step.
  struct Rows {
    const float* logits;  // [T, vocab_size], from row logits_start on
    const float* hidden;  // [T, hidden_size], after the final norm
  };
  // Runs one chunk. Throws Failure; the rows from n_past - (rows kept) on are then lost.
  Rows step(const Chunk& chunk, blockffn_stats* read);

 private:
  std::unique_ptr<ProgramFile> file_;             // nullptr: another runtime's steps
  std::unique_ptr<ProgramFile::Method> forward_;  // destroyed before the file that it points into
  blockffn_step_fn step_ = nullptr;
  void* user_ = nullptr;
  int64_t max_context_ = 0, hidden_size_ = 0, fingerprint_ = 0, tokenizer_ = 0;
  int32_t vocab_size_ = 0, bos_id_ = -1;
  bool all_experts_ = false;
  std::vector<int32_t> eos_ids_;
};

}  // namespace blockffn::runner
