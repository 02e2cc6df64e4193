// Decides how much of a draft is worth verifying on this machine, in tokens per second.
//
// Time: measured for chunks of 1, 2, 4 ... 64 tokens, interpolated between, and corrected by every chunk
// that runs (a longer context or a busier machine moves all sizes a little, the size itself more).
// Acceptance: how often tokens of about the same confidence followed their parent so far.
#pragma once

#include <array>
#include <vector>

#include "drafter.h"

namespace blockffn::runner {

class CostModel {
 public:
  static constexpr int kKnots = 7;  // chunks of 1 << i tokens

  CostModel();
  bool calibrated() const { return ms_[0] > 0; }
  // Times of the first `known` sizes; the larger ones go on as the last two say, or in proportion to T.
  void calibrate(const double* ms, int known);
  double chunk_ms(int tokens) const;
  void observe_chunk(int tokens, double ms);

  // One proposal whose parent was accepted did or did not follow it.
  void observe_token(float confidence, bool followed);
  double acceptance(float confidence) const;

  // For each row of a tree, whether to verify it; row 0 always. Maximises expected tokens per
  // millisecond, and keeps only row 0 unless the gain over plain decoding is worth it.
  std::vector<uint8_t> choose(const DraftTree& tree) const;

  // Whether to ask the drafter in this cycle. After a cycle in which drafting did not pay, a drafter
  // that takes time is asked ever less often.
  bool should_draft();
  void observe_draft(double draft_ms, bool paid);
  // Drawn trees are verified whole, so whether they pay is seen afterwards: tokens of a cycle in ms.
  bool drawn_pays(int tokens, double ms);

 private:
  static constexpr int kBuckets = 16;
  static constexpr double kGain = 1.02;  // least speed-up for which a draft is verified

  std::array<double, kKnots> ms_{};
  struct Bucket {
    double tried = 0, followed = 0;  // older observations fade
  };
  std::array<Bucket, kBuckets> buckets_;
  double draft_ms_ = 0, drawn_tokens_ = 0, drawn_ms_ = 0;
  int pause_ = 0, next_pause_ = 1;
};

}  // namespace blockffn::runner
