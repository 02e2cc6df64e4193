// Drafts from a small language model with the target's tokenizer: any exported decoder. It has a cache of its own, in which
// accepted proposals stay, so that a cycle runs the last token and then one token for each level.
#pragma once

#include <cstdint>
#include <vector>

#include "draft_model.h"

namespace blockffn::runner {

class LanguageModelDraft final : public DraftModel {
 public:
  // Throws Failure(BLOCKFFN_BAD_PROGRAM) if its vocabulary or tokenizer is another one than the target's.
  LanguageModelDraft(const blockffn_file& file, const Model& target);

  // It needs no hidden states, and compares tokens to see what its cache is good for.
  int64_t known() const override { return 0; }
  void committed(const float*) override {}
  void rewind(int64_t) override {}
  void restart(int64_t) override {}

  // A chain of its likeliest tokens; with a width above 1 the next likeliest ones hang beside each as leaves, which cost
  // the drafter nothing. (Branches would need their rows side by side in its cache.)
  void propose(const int32_t* context, int64_t n, const Limits& limits, const CostModel* costs, double spent_ms,
               DraftTree* tree) override;

 private:
  // Appends tokens to the cache; logits of the last one.
  const float* run(const int32_t* ids, int64_t count);
  void make_room(const int32_t* context, int64_t n, int depth, int window);

  Model model_;
  int64_t base_ = 0;             // the cache begins with this token of the context
  std::vector<int32_t> cached_;  // tokens whose rows the cache holds
  CallTimes times_;
};

}  // namespace blockffn::runner
