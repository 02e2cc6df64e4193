#include "cost_model.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace blockffn::runner {
namespace {

constexpr double kFade = 0.98;       // of an observation with every later one
constexpr double kPriorWeight = 2;   // observations that the drafter's own confidence counts for
constexpr double kTax = 0.015;       // of a token's time: what each drafter may cost in the long run
constexpr double kPriorLevel = 0.6;  // chance that one of a node's children follows it
constexpr int kUnchecked = 24;       // cycles after which times are hoped to be better,
constexpr double kHope = 0.8;        // what a further token takes then, of what it took

// Finer where confidence is small: most of a tree's nodes are there.
int bucket_of(float confidence) {
  constexpr int kBuckets = 16;
  return std::clamp(static_cast<int>(std::sqrt(confidence) * kBuckets), 0, kBuckets - 1);
}

}  // namespace

CostModel::CostModel() = default;

void CostModel::calibrate(const double* ms, int known) {
  for (int i = 0; i < kKnots; ++i) {
    if (i < known)
      ms_[i] = std::max(ms[i], 1e-6);
    else
      ms_[i] = i < 2 ? 2 * ms_[i - 1] : ms_[i - 1] + 2 * (ms_[i - 1] - ms_[i - 2]);
  }
  bound();
}

// Noise must not make a longer chunk cheaper, nor more than twice as dear.
void CostModel::bound() {
  for (int i = 1; i < kKnots; ++i) ms_[i] = std::clamp(ms_[i], ms_[i - 1], 2 * ms_[i - 1]);
}

double CostModel::hoped_ms(int tokens) const {
  return ms_[0] + (unchecked_ < kUnchecked ? 1 : kHope) * (chunk_ms(tokens) - ms_[0]);
}

double CostModel::chunk_ms(int tokens) const {
  int i = 0;
  while (i + 2 < kKnots && (2 << i) < tokens) ++i;
  const double at = static_cast<double>(tokens - (1 << i)) / (1 << i);
  return ms_[i] + at * (ms_[i + 1] - ms_[i]);
}

void CostModel::observe_chunk(int tokens, double ms) {
  if (!calibrated() || !(ms > 0)) return;
  const double ratio = std::clamp(ms / chunk_ms(tokens), 0.5, 2.0);
  const double pace = ratio > 1 ? 0.5 : 1;  // what interrupts a chunk makes it slower, never faster
  for (int i = 0; i < kKnots; ++i) {
    const double near = tokens > 1 ? std::max(0.0, 1 - std::fabs(std::log2(tokens) - i)) : 0;
    ms_[i] *= std::pow(ratio, pace * (0.08 + 0.12 * near));
  }
  bound();
  if (tokens > 1) unchecked_ = 0;
}

void CostModel::observe_token(DraftNode::Source source, float confidence, bool followed) {
  Bucket& b = buckets_[source][bucket_of(confidence)];
  b.tried = kFade * b.tried + 1;
  b.followed = kFade * b.followed + (followed ? 1 : 0);
}

double CostModel::acceptance(DraftNode::Source source, float confidence) const {
  const Bucket& b = buckets_[source][bucket_of(confidence)];
  return (b.followed + kPriorWeight * confidence) / (b.tried + kPriorWeight);
}

std::vector<double> CostModel::reached(const DraftTree& tree) const {
  std::vector<double> reached(tree.size(), 1);
  for (size_t i = 1; i < tree.size(); ++i)
    reached[i] = reached[tree[i].parent] * acceptance(tree[i].source, tree[i].confidence);
  return reached;
}

CostModel::Choice CostModel::choose(const DraftTree& tree, int max_rows, double spent_ms) const {
  auto reached = this->reached(tree);
  std::vector<double> ordered = reached;
  std::sort(ordered.begin(), ordered.end(), std::greater<double>());
  const int rows = std::min(static_cast<int>(tree.size()), max_rows);
  const double alone = 1 / (spent_ms + chunk_ms(1));
  double expected = 0, best_rate = kGain * alone;
  int best = 1;
  for (int count = 1; count <= rows; ++count) {
    expected += ordered[count - 1];
    if (const double rate = expected / (spent_ms + hoped_ms(count)); count > 1 && rate > best_rate) best_rate = rate, best = count;
  }
  return {most_reached(reached, best), best == 1 ? alone : best_rate};
}

bool CostModel::another_level(const DraftTree& tree, int depth, double promise, int rows, double spent_ms,
                              double level_ms) const {
  const Choice now = choose(tree, kMaxRows, spent_ms);
  const auto reached = this->reached(tree);
  double expected = 0;
  int verified = 0;
  for (size_t i = 0; i < tree.size(); ++i)
    if (now.keep[i] != 0) expected += reached[i], ++verified;
  const Bucket& b = levels_[depth];
  const double goes_on = (b.followed + kPriorWeight * kPriorLevel) / (b.tried + kPriorWeight);
  const double after = (expected + promise * goes_on) /
                       (spent_ms + level_ms + chunk_ms(std::min(kMaxRows, verified + (rows + 1) / 2)));
  return after > now.rate;
}

void CostModel::observe_level(int depth, bool followed) {
  Bucket& b = levels_[depth];
  b.tried = kFade * b.tried + 1;
  b.followed = kFade * b.followed + (followed ? 1 : 0);
}

void Patience::settle(double asked, double verified) {
  if (asked > 0) {  // a call that was interrupted took its usual time
    if (usual_ > 0) asked = std::min(asked, 2 * usual_);
    usual_ = usual_ > 0 ? 0.8 * usual_ + 0.2 * asked : asked;
  }
  if (verified < 0 || debt_ < kMostDebt) debt_ = verified < 0 ? debt_ + verified : std::min(debt_ + verified, kMostDebt);
  debt_ = std::max(debt_ + asked - kTax, -kCredit);
}

}  // namespace blockffn::runner
