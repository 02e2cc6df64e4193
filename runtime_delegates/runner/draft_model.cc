#include "draft_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "head.h"
#include "language_model.h"

namespace blockffn::runner {
namespace {

constexpr int kMaxWidth = 16;

// e^x for x <= 0, to about 1 part in 10^4: the head's own confidence, over a whole vocabulary.
inline float fast_exp(float x) {
  const float y = std::max(x, -80.0f) * 1.44269504f;
  const auto whole = static_cast<int32_t>(y - 1);               // rounds up, so that what is left is in (0, 1]
  const float g = 0.5f * (y - static_cast<float>(whole));       // 2^(2g) is the square of 2^g
  const float p = 1 + g * (0.69314718f + g * (0.24022651f + g * (0.05550411f + g * 0.00961813f)));
  const int32_t bits = (whole + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return p * p * scale;
}

// The sum of e^(x - largest).
float exp_sum(const float* x, int64_t n, float largest) {
  float lanes[16] = {};  // so that the compiler may use vectors
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int k = 0; k < 16; ++k) lanes[k] += fast_exp(x[i + k] - largest);
  float sum = std::accumulate(std::begin(lanes), std::end(lanes), 0.0f);
  for (; i < n; ++i) sum += fast_exp(x[i] - largest);
  return sum;
}

int size_class(int rows) {
  int i = 0;
  while ((1 << i) < rows) ++i;
  return i;
}

}  // namespace

void CallTimes::observe(int rows, double ms) {
  double& seen = ms_[size_class(rows)];
  seen = seen == 0 ? ms : seen + 0.2 * (std::min(ms, 2 * seen) - seen);
}

double CallTimes::expected(int rows) const {
  const int size = size_class(rows);
  for (int distance = 0; distance < 7; ++distance)
    for (const int i : {size - distance, size + distance})
      if (i >= 0 && i < 7 && ms_[i] > 0) return ms_[i];
  return 0;
}

int add_children(const float* logits, int64_t count, const int32_t* remap, int width, int node, const CostModel* costs,
                 DraftTree* tree) {
  // The largest logits, best first.
  int best[kMaxWidth], found = 0, first = -1;
  width = std::min<int64_t>({width, kMaxWidth, count});
  float least = -HUGE_VALF;
  for (int64_t w = 0; w < count; ++w) {
    if (!(logits[w] > least) && found == width) continue;
    int at = found < width ? found++ : width - 1;
    for (; at > 0 && logits[w] > logits[best[at - 1]]; --at) best[at] = best[at - 1];
    best[at] = static_cast<int>(w);
    if (found == width) least = logits[best[width - 1]];
  }
  const float largest = logits[best[0]];
  const float total = exp_sum(logits, count, largest);
  const auto parent = static_cast<int32_t>(node);
  for (int i = 0; i < found; ++i) {
    const float confidence = std::min(1.0f, fast_exp(logits[best[i]] - largest) / total);
    const int32_t token = remap == nullptr ? best[i] : remap[best[i]];
    const auto same = std::find_if(tree->begin(), tree->end(),
                                   [&](const DraftNode& other) { return other.parent == parent && other.token == token; });
    if (i == 0) first = static_cast<int>(same - tree->begin());
    if (same == tree->end()) {
      tree->push_back({token, parent, (*tree)[node].depth + 1, confidence, nullptr, DraftNode::kHead});
    } else if (costs == nullptr ? confidence > same->confidence
                                : costs->acceptance(DraftNode::kHead, confidence) > costs->acceptance(same->source, same->confidence)) {
      same->confidence = confidence;
      same->source = DraftNode::kHead;
    }
  }
  return first;
}

std::unique_ptr<DraftModel> load_draft_model(const blockffn_file& file, const Model& target) {
  bool head = false;
  {
    ProgramFile program(file, "draft");
    head = program.has("get_blockffn_draft_version");
    if (!head && !program.has("get_blockffn_format_version"))
      program.bad("neither a draft head nor a language model; name a .pte written by export/to_executorch.py");
  }
  if (head) return std::make_unique<DraftHead>(file, target);
  return std::make_unique<LanguageModelDraft>(file, target);
}

}  // namespace blockffn::runner
