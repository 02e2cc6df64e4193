// Decides how much of a draft is worth verifying on this machine, in tokens per second.
//
// Time: measured for chunks of 1, 2, 4 ... 64 tokens, interpolated between, and corrected by every chunk that runs: a longer
// context or a busier machine moves all sizes alike, and a chunk of several tokens its own size a little more. Twice the
// tokens take no more than twice as long. Sizes that did not run for long although there were drafts are taken to be a little
// faster than they were, so that a wrong time, by which nothing is ever verified, does not stay.
// Acceptance: how often tokens of about the same confidence followed their parent so far.
#pragma once

#include <array>
#include <vector>

#include "drafter.h"

namespace blockffn::runner {

// Whether a drafter is worth asking in the next cycle. It keeps accounts, in plain tokens: a cycle that took longer than its
// tokens would have taken one by one is a debt, one that took less pays it. While in debt it is not asked, and every cycle
// pays a small part of a token. So on text where drafts fail, what they cost stays near that part of the time.
class Patience {
 public:
  // alternative: what can be had without it, in expected tokens per ms of a cycle.
  bool should_ask(double alternative) const { return debt_ <= 0 && (doubtful() || rate_ == 0 || rate_ > 0.9 * alternative); }
  // The drafter was asked, and this rate is expected with it.
  void observe(double rate) { rate_ = rate_ == 0 ? rate : 0.8 * rate_ + 0.2 * rate; }
  // At the end of a cycle: tokens' time that asking it cost (0: it was not asked), and that verifying its proposals cost, less
  // the tokens gained.
  void settle(double asked, double verified);
  // Another text: it may be asked again, but has no credit.
  void forgive() { debt_ = std::min(debt_, 0.0); }
  bool doubtful() const { return debt_ > -1; }

 private:
  static constexpr double kCredit = 4;    // tokens: what good times leave at most, and what it may cost at first
  static constexpr double kMostDebt = 2;  // what failed drafts leave at most: texts change
  double debt_ = -kCredit, rate_ = 0, usual_ = 0;
};

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
  void observe_token(DraftNode::Source source, float confidence, bool followed);
  double acceptance(DraftNode::Source source, float confidence) const;
  // For each row of a tree, the probability that it is accepted.
  std::vector<double> reached(const DraftTree& tree) const;

  // What to verify of a tree that took spent_ms to draft.
  struct Choice {
    std::vector<uint8_t> keep;  // row 0 always
    double rate;                // expected tokens per ms of the cycle
  };
  // A cycle had proposals, and verified none.
  void declined() { ++unchecked_; }
  // Maximises the rate, at most max_rows; keeps only row 0 unless the gain over it is worth it.
  Choice choose(const DraftTree& tree, int max_rows, double spent_ms) const;

  // Whether a tree gains by another level: by a call of the draft head that takes level_ms and gives
  // children to `rows` nodes of this depth, of which `promise` are expected to be accepted.
  bool another_level(const DraftTree& tree, int depth, double promise, int rows, double spent_ms, double level_ms) const;
  // An accepted node with children from the head was or was not followed by one of them.
  void observe_level(int depth, bool followed);

  Patience other, head;  // with the two kinds of drafters

 private:
  static constexpr int kBuckets = 16;
  static constexpr double kGain = 1.02;  // least speed-up for which a draft is verified

  void bound();
  // Of a chunk, as choose() sees it.
  double hoped_ms(int tokens) const;

  std::array<double, kKnots> ms_{};
  int unchecked_ = 0;  // cycles with proposals since a chunk of several tokens ran
  struct Bucket {
    double tried = 0, followed = 0;  // older observations fade
  };
  std::array<std::array<Bucket, kBuckets>, 2> buckets_;  // by source
  std::array<Bucket, kMaxRows> levels_;                  // by depth
};

}  // namespace blockffn::runner
