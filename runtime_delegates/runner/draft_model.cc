#include "draft_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "head.h"
#include "language_model.h"
#include "mapped_file.h"
#include "recurrent.h"

namespace blockffn::runner {
namespace {

constexpr int kMaxWidth = 16;

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

int add_children(const float* logits, int64_t count, float none, const int32_t* remap, int width, int node, const CostModel* costs,
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
  const float largest = std::max(logits[best[0]], none);
  const float total = exp_sum(logits, count, largest) + fast_exp(none - largest);
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
  if (RecurrentDraft::is_one(MappedFile(file, "draft"))) return std::make_unique<RecurrentDraft>(file, target);
  {
    ProgramFile program(file, "draft");
    head = program.has("get_blockffn_draft_version");
    if (!head && !program.has("get_blockffn_format_version"))
      program.bad("neither a draft head nor a language model; name a file written by export/to_executorch.py or export/to_draft.py");
  }
  if (head) return std::make_unique<DraftHead>(file, target);
  return std::make_unique<LanguageModelDraft>(file, target);
}

}  // namespace blockffn::runner
