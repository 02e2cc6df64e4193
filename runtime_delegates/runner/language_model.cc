#include "language_model.h"

#include <algorithm>
#include <string>

#include "clock.h"

namespace blockffn::runner {
namespace {

constexpr int kWindow = 4;  // times as many tokens as a head catches up with: a language model needs them more, once

}  // namespace

LanguageModelDraft::LanguageModelDraft(const blockffn_file& file, const Model& target) : model_(file) {
  const auto bad = [](const std::string& why) { throw Failure{BLOCKFFN_BAD_PROGRAM, "the draft model " + why}; };
  if (model_.vocab_size() != target.vocab_size())
    bad("has " + std::to_string(model_.vocab_size()) + " tokens, but the model " + std::to_string(target.vocab_size()) +
        "; use one that was trained with the model's own tokenizer");
  if (model_.tokenizer() != 0 && target.tokenizer() != 0 && model_.tokenizer() != target.tokenizer())
    bad("has another tokenizer than the model (their fingerprints differ); use one that was trained with the model's own");
  if (model_.max_context() < 2) bad("has a context of one token; export it with a larger --max-context");
}

const float* LanguageModelDraft::run(const int32_t* ids, int64_t count) {
  const float* last = nullptr;
  for (int64_t at = 0; at < count; at += kMaxRows) {
    Chunk chunk;
    make_linear(&chunk, ids + at, static_cast<int>(std::min<int64_t>(kMaxRows, count - at)));
    chunk.n_past = static_cast<int64_t>(cached_.size());
    for (int i = 0; i < chunk.tokens; ++i) chunk.positions[i] += chunk.n_past;
    std::fill(chunk.kv_src, chunk.kv_src + kMaxRows, -1);
    chunk.logits_start = chunk.tokens - 1;
    blockffn_stats unused;
    const double started = now_ms();
    try {
      const Model::Rows out = model_.step(chunk, &unused);
      last = out.logits + static_cast<int64_t>(chunk.tokens - 1) * model_.vocab_size();
    } catch (const Failure&) {
      cached_.clear();
      throw;
    }
    times_.observe(chunk.tokens, now_ms() - started);
    cached_.insert(cached_.end(), ids + at, ids + at + chunk.tokens);
  }
  return last;
}

// Leaves in the cache what it has in common with the context, so that the rest and `depth` more tokens fit.
void LanguageModelDraft::make_room(const int32_t* context, int64_t n, int depth, int window) {
  const auto common = [&]() -> int64_t {
    if (n - 1 <= base_) return 0;
    const auto end = cached_.begin() + std::min<int64_t>(static_cast<int64_t>(cached_.size()), n - 1 - base_);
    return std::mismatch(cached_.begin(), end, context + base_).first - cached_.begin();
  };
  int64_t same = common();
  if (same == 0) base_ = 0, same = common();  // another text
  const int64_t most = model_.max_context() - depth + 1, missing = n - base_ - same;
  const int64_t begin_with = window > 0 ? std::min<int64_t>(most, int64_t{kWindow} * window) : (most + 1) / 2;
  if (n - base_ > most || (window > 0 && missing > begin_with)) base_ = std::max<int64_t>(0, n - begin_with), same = 0;
  cached_.resize(static_cast<size_t>(same));
}

void LanguageModelDraft::propose(const int32_t* context, int64_t n, const Limits& limits, const CostModel* costs,
                                 double spent_ms, DraftTree* tree) {
  const int most_depth = static_cast<int>(std::min<int64_t>(limits.max_depth, model_.max_context() - 1));
  if (most_depth < 1) return;
  const double started = now_ms();
  make_room(context, n, most_depth, limits.window);
  const int64_t known = base_ + static_cast<int64_t>(cached_.size());
  const float* logits = run(context + known, n - known);
  int node = 0;
  for (int depth = 1;; ++depth) {
    node = add_children(logits, model_.vocab_size(), nullptr, limits.width, node, costs, tree);
    if (depth == most_depth || node < 0) return;
    const int32_t token = (*tree)[node].token;
    const auto& eos = model_.eos_ids();
    if (std::find(eos.begin(), eos.end(), token) != eos.end()) return;
    if (costs != nullptr && !costs->another_level(*tree, depth, costs->reached(*tree)[node], 1, spent_ms + now_ms() - started,
                                                  times_.expected(1)))
      return;
    logits = run(&token, 1);
  }
}

}  // namespace blockffn::runner
