// Drafts from an exported draft head (export/README.md): a small network on the target's last hidden states
// that grows a tree level by level, one call for each level, and computes nothing twice.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "draft_model.h"
#include "program_file.h"

namespace blockffn::runner {

class DraftHead final : public DraftModel {
 public:
  // Throws Failure(BLOCKFFN_BAD_PROGRAM) if the program is no draft head, or not one for this target.
  DraftHead(const blockffn_file& file, const Model& target);

  int64_t known() const override { return base_ + rows_ + pending(); }
  void committed(const float* hidden) override;
  void rewind(int64_t n) override;
  void restart(int64_t n) override;
  void propose(const int32_t* context, int64_t n, const Limits& limits, const CostModel* costs, double spent_ms,
               DraftTree* tree) override;

 private:
  struct Rows {
    int count;
    const int64_t *ids, *positions, *tree_mask;
    const float* hidden;
    int64_t n_past, logits_start, tree_rows;
  };
  struct Output {
    const float *logits, *hidden;  // [count, draft_vocab_], [count, hidden_size_]
  };
  int64_t pending() const { return static_cast<int64_t>(pending_.size()) / hidden_size_; }
  Output call(const Rows& rows);
  Output catch_up(const int32_t* context, int64_t n, int window);

  ProgramFile file_;
  std::unique_ptr<ProgramFile::Method> forward_;
  int64_t max_context_ = 0, hidden_size_ = 0, draft_vocab_ = 0;
  std::vector<int32_t> remap_;  // draft vocabulary -> token

  // Row t of the head is made of token t + 1 and of the hidden state of token t. Its cache holds the rows of
  // tokens base_ ... base_ + rows_ - 1, pending_ the hidden states of the known tokens behind them.
  int64_t base_ = 0, rows_ = 0;
  std::vector<float> pending_;
  CallTimes times_;
};

}  // namespace blockffn::runner
