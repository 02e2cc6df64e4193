// Drafts from a recurrent head (training/recurrent.py, export/to_draft.py): a small state that starts from the target's last
// hidden state and takes in one drafted token after the other, scored over the tokens that often follow the last one. It is
// computed here, in integers, so that one drafted token costs microseconds; there is nothing to compute for tokens that nobody
// drafts from, and no cache.
#pragma once

#include <cstdint>
#include <vector>

#include "draft_model.h"
#include "mapped_file.h"

namespace blockffn::runner {

class RecurrentDraft final : public DraftModel {
 public:
  // Whether a file begins as such a head does.
  static bool is_one(const MappedFile& file);
  // Throws Failure(BLOCKFFN_BAD_PROGRAM) if the file is damaged, or is for another target.
  RecurrentDraft(const blockffn_file& file, const Model& target);

  int64_t known() const override { return known_; }
  void committed(const float* hidden) override;
  void rewind(int64_t n) override;
  void restart(int64_t n) override;
  void propose(const int32_t* context, int64_t n, const Limits& limits, const CostModel* costs, double spent_ms,
               DraftTree* tree) override;

 private:
  struct Rows {  // a matrix: integers, and what each row's are times
    const int8_t* data;
    const float* scales;
    int64_t rows, cols;
  };
  Rows take_rows(size_t* at, int64_t rows, int64_t cols) const;
  const void* take(size_t* at, size_t bytes) const;
  // y[rows] = times * w x
  void multiply(const Rows& w, const float* x, float times, float* y);
  void advance(const float* state, int32_t token, float* next);
  void add_successors(const float* state, int32_t token, int width, int node, const CostModel* costs, DraftTree* tree);

  MappedFile file_;
  int64_t hidden_ = 0, state_ = 0, inner_ = 0, vocab_ = 0;
  float eps_ = 0;
  Rows hidden_in_{}, cell_in_{}, cell_out_{}, none_{}, token_in_{}, token_out_{};
  const uint32_t* starts_ = nullptr;      // [V + 1] into successors_
  const int32_t* successors_ = nullptr;   // [N]

  int64_t known_ = 0;
  bool valid_ = false;         // last_ is the hidden state of token known_ - 1
  std::vector<float> last_;    // [D]
  std::vector<int16_t> small_;  // a vector as integers
  std::vector<int32_t> sums_;
  std::vector<float> inner_values_, scores_;
};

}  // namespace blockffn::runner
