#include "cost_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace blockffn::runner {
namespace {

constexpr double kFade = 0.98;       // of an observation with every later one
constexpr double kPriorWeight = 2;   // observations that the drafter's own confidence counts for
constexpr double kFreeDraft = 0.01;  // of a token's time: a drafter this fast is asked always
constexpr int kLongestPause = 64;    // cycles

}  // namespace

CostModel::CostModel() = default;

void CostModel::calibrate(const double* ms, int known) {
  for (int i = 0; i < kKnots; ++i) {
    if (i < known)
      ms_[i] = std::max(ms[i], i > 0 ? ms_[i - 1] : 1e-6);  // noise must not make a longer chunk cheaper
    else
      ms_[i] = i < 2 ? 2 * ms_[i - 1] : ms_[i - 1] + 2 * (ms_[i - 1] - ms_[i - 2]);
  }
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
  for (int i = 0; i < kKnots; ++i) {
    const double distance = std::fabs(std::log2(tokens) - i);
    ms_[i] *= std::pow(ratio, 0.02 + 0.1 * std::max(0.0, 1 - distance));
  }
  for (int i = 1; i < kKnots; ++i) ms_[i] = std::max(ms_[i], ms_[i - 1]);
}

void CostModel::observe_token(float confidence, bool followed) {
  Bucket& b = buckets_[std::clamp(static_cast<int>(confidence * kBuckets), 0, kBuckets - 1)];
  b.tried = kFade * b.tried + 1;
  b.followed = kFade * b.followed + (followed ? 1 : 0);
}

double CostModel::acceptance(float confidence) const {
  const Bucket& b = buckets_[std::clamp(static_cast<int>(confidence * kBuckets), 0, kBuckets - 1)];
  return (b.followed + kPriorWeight * confidence) / (b.tried + kPriorWeight);
}

std::vector<uint8_t> CostModel::choose(const DraftTree& tree) const {
  const auto rows = static_cast<int>(tree.size());
  std::vector<double> reached(rows, 1);  // probability that a row is accepted
  for (int i = 1; i < rows; ++i) reached[i] = reached[tree[i].parent] * acceptance(tree[i].confidence);
  std::vector<int> order(rows);
  std::iota(order.begin(), order.end(), 0);
  // Stable, and no row is likelier than its parent: parents come first.
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return reached[a] > reached[b]; });
  double expected = 0, best_rate = kGain / chunk_ms(1);
  int best = 1;
  for (int count = 1; count <= rows; ++count) {
    expected += reached[order[count - 1]];
    if (const double rate = expected / chunk_ms(count); count > 1 && rate > best_rate) best_rate = rate, best = count;
  }
  std::vector<uint8_t> keep(rows, 0);
  for (int i = 0; i < best; ++i) keep[order[i]] = 1;
  return keep;
}

bool CostModel::should_draft() {
  if (pause_ == 0) return true;
  --pause_;
  return false;
}

void CostModel::observe_draft(double draft_ms, bool paid) {
  draft_ms_ = draft_ms_ == 0 ? draft_ms : 0.8 * draft_ms_ + 0.2 * draft_ms;
  if (paid) {
    next_pause_ = 1;
  } else if (draft_ms_ > kFreeDraft * chunk_ms(1)) {
    pause_ = next_pause_;
    next_pause_ = std::min(2 * next_pause_, kLongestPause);
  }
}

bool CostModel::drawn_pays(int tokens, double ms) {
  drawn_tokens_ = 0.9 * drawn_tokens_ + tokens;
  drawn_ms_ = 0.9 * drawn_ms_ + ms;
  return drawn_tokens_ * chunk_ms(1) > drawn_ms_;
}

}  // namespace blockffn::runner
