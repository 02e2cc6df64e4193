// Drafts from an exported draft head (export/README.md): a small network on the target's last hidden states
// that grows a tree level by level, one call for each level, and computes nothing twice.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cost_model.h"
#include "drafter.h"
#include "model.h"
#include "program_file.h"

namespace blockffn::runner {

class DraftHead {
 public:
  // Throws Failure(BLOCKFFN_BAD_PROGRAM) if the program is no draft head, or not one for this target.
  DraftHead(const blockffn_file& file, const Model& target);

  // Tokens whose hidden states it knows, counted from the beginning of the context.
  int64_t known() const { return base_ + rows_ + pending(); }
  // The target's hidden state of the next token.
  void committed(const float* hidden);
  // Only the first n tokens stay, and the one behind them is the same as before.
  void rewind(int64_t n);
  // The head's own context begins anew behind n tokens.
  void restart(int64_t n);

  struct Limits {
    int max_depth;  // of a node; as many calls at most
    int width;      // children of a node, and nodes of a level that get children
    int window;     // of more than so many tokens to catch up with, only the last ones; 0: no limit
  };
  // Adds proposals to a tree that holds row 0, and perhaps proposals of others; context[n] as for a Drafter,
  // of which n - 1 tokens are known. With `costs` it goes on only while another level promises more tokens
  // per millisecond, where this cycle has taken spent_ms before; without, to the limits.
  void propose(const int32_t* context, int64_t n, const Limits& limits, const CostModel* costs, double spent_ms,
               DraftTree* tree);

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
  void add_children(const float* logits, int width, int node, const CostModel* costs, DraftTree* tree);
  double expected_ms(int rows) const;

  ProgramFile file_;
  std::unique_ptr<ProgramFile::Method> forward_;
  int64_t max_context_ = 0, hidden_size_ = 0, draft_vocab_ = 0;
  std::vector<int32_t> remap_;  // draft vocabulary -> token

  // Row t of the head is made of token t + 1 and of the hidden state of token t. Its cache holds the rows of
  // tokens base_ ... base_ + rows_ - 1, pending_ the hidden states of the known tokens behind them.
  int64_t base_ = 0, rows_ = 0;
  std::vector<float> pending_;
  double call_ms_[7] = {};  // of 1, 2, 4 ... 64 rows; 0: not seen yet
};

}  // namespace blockffn::runner
