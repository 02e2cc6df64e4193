#include "head.h"

#include <algorithm>

#include "clock.h"

namespace blockffn::runner {
namespace {

constexpr int64_t kDraftVersion = 1;  // of the draft programs that this runner runs

}  // namespace

DraftHead::DraftHead(const blockffn_file& file, const Model& target) : file_(file, "draft head") {
  if (!file_.has("forward") || !file_.has("get_blockffn_draft_version"))
    file_.bad("not a draft head; name a .pte written by export/to_executorch.py HEAD --target CKPT");
  if (const int64_t version = file_.constant("get_blockffn_draft_version"); version != kDraftVersion)
    file_.bad("draft version " + std::to_string(version) + ", this runner runs version " + std::to_string(kDraftVersion) +
              "; export the head again");
  const int64_t vocab = file_.constant("get_vocab_size");
  hidden_size_ = file_.constant("get_hidden_size");
  draft_vocab_ = file_.constant("get_draft_vocab_size");
  max_context_ = file_.constant("get_max_context_len");
  if (vocab != target.vocab_size() || hidden_size_ != target.hidden_size())
    file_.bad("a head for a model of " + std::to_string(vocab) + " tokens and hidden size " + std::to_string(hidden_size_) +
              ", but this one has " + std::to_string(target.vocab_size()) + " and " + std::to_string(target.hidden_size()) +
              "; name the head that was trained for it");
  if (target.fingerprint() == 0)
    file_.bad("the model does not say which heads fit it; export the model again");
  if (file_.constant("get_target_fingerprint") != target.fingerprint())
    file_.bad("this head was trained for another model of the same size (their fingerprints differ); name its own head");
  const auto remap = file_.constants("get_token_id_remap");
  if (file_.constant("get_max_seq_len") != kMaxRows || max_context_ < kMaxRows || draft_vocab_ < 1 ||
      static_cast<int64_t>(remap.size()) != draft_vocab_ ||
      !std::all_of(remap.begin(), remap.end(), [&](int64_t id) { return id >= 0 && id < vocab; }))
    file_.bad("its metadata are damaged; export it again");
  remap_.assign(remap.begin(), remap.end());
  forward_ = file_.load("forward");
  if (forward_->inputs() != 8 || forward_->outputs() != 2) file_.bad("forward has other inputs or outputs; export it again");
  const auto logits = forward_->output_sizes(0), hidden = forward_->output_sizes(1);
  if (logits.size() != 3 || hidden.size() != 3 || logits[2] != draft_vocab_ || hidden[2] != hidden_size_)
    file_.bad("forward's outputs do not match its metadata; export it again");
}

void DraftHead::committed(const float* hidden) { pending_.insert(pending_.end(), hidden, hidden + hidden_size_); }

void DraftHead::rewind(int64_t n) {
  if (n < base_) return restart(n);
  const int64_t keep = std::max<int64_t>(0, n - base_ - rows_);
  pending_.resize(static_cast<size_t>(std::min(keep, pending()) * hidden_size_));
  rows_ = std::min(rows_, n - base_);
}

void DraftHead::restart(int64_t n) {
  base_ = n;
  rows_ = 0;
  pending_.clear();
}

DraftHead::Output DraftHead::call(const Rows& rows) {
  const auto T = static_cast<int32_t>(rows.count);
  int64_t kv_src[kMaxRows];
  std::fill(std::begin(kv_src), std::end(kv_src), -1);
  const ProgramFile::Tensor inputs[] = {{rows.ids, {1, T}, 2, false},
                                        {rows.hidden, {1, T, static_cast<int32_t>(hidden_size_)}, 3, true},
                                        {rows.positions, {T}, 1, false},
                                        {&rows.n_past, {1}, 1, false},
                                        {rows.tree_mask, {T}, 1, false},
                                        {kv_src, {kMaxRows}, 1, false},
                                        {&rows.logits_start, {1}, 1, false},
                                        {&rows.tree_rows, {1}, 1, false}};
  const double started = now_ms();
  blockffn_stats unused;
  forward_->run(inputs, 8, &unused);
  times_.observe(T, now_ms() - started);
  return {forward_->output(0, int64_t{T} * draft_vocab_), forward_->output(1, int64_t{T} * hidden_size_)};
}

// Rows of the tokens that have become known: output of the last one, null if there is none.
DraftHead::Output DraftHead::catch_up(const int32_t* context, int64_t n, int window) {
  int64_t most = max_context_ - kMaxRows;
  if (window > 0) most = std::min<int64_t>(most, window);
  const int64_t end = base_ + rows_ + pending();
  if (end != n - 1 || pending() == 0) return {nullptr, nullptr};
  if (pending() > most || rows_ + pending() > max_context_ - kMaxRows) {  // begin anew
    const int64_t kept = std::max<int64_t>(1, std::min(pending(), most));
    pending_.erase(pending_.begin(), pending_.end() - kept * hidden_size_);
    base_ = end - kept;
    rows_ = 0;
  }
  Output out{};
  int count = 0;
  for (int64_t done = 0; done < pending(); done += count) {
    count = static_cast<int>(std::min<int64_t>(kMaxRows, pending() - done));
    int64_t ids[kMaxRows], positions[kMaxRows], tree_mask[kMaxRows];
    for (int i = 0; i < count; ++i) {
      const int64_t t = base_ + rows_ + i;
      ids[i] = context[t + 1];
      positions[i] = t;
      tree_mask[i] = static_cast<int64_t>(~uint64_t{0} >> (63 - i));
    }
    const bool last = done + count == pending();
    out = call({count, ids, positions, tree_mask, pending_.data() + done * hidden_size_, rows_, last ? count - 1 : count, 0});
    rows_ += count;
  }
  pending_.clear();
  return {out.logits + static_cast<int64_t>(count - 1) * draft_vocab_, out.hidden + static_cast<int64_t>(count - 1) * hidden_size_};
}

void DraftHead::propose(const int32_t* context, int64_t n, const Limits& limits, const CostModel* costs, double spent_ms,
                        DraftTree* tree) {
  const double started = now_ms();
  const Output root = catch_up(context, n, limits.window);
  if (root.logits == nullptr || limits.max_depth < 1) return;
  struct Expanded {
    int64_t mask = 0;
    std::vector<float> hidden;
  };
  std::vector<Expanded> expanded(1);  // by node; empty: no row of the head
  expanded[0].hidden.assign(root.hidden, root.hidden + hidden_size_);
  add_children(root.logits, draft_vocab_, remap_.data(), limits.width, 0, costs, tree);
  int tree_rows = 0;
  for (int depth = 1; depth < limits.max_depth; ++depth) {
    std::vector<int> level;
    for (int i = 1; i < static_cast<int>(tree->size()); ++i) {
      const auto parent = static_cast<size_t>((*tree)[i].parent);
      if ((*tree)[i].depth == depth && parent < expanded.size() && !expanded[parent].hidden.empty()) level.push_back(i);
    }
    const std::vector<double> reached = costs != nullptr ? costs->reached(*tree) : plain_reached(*tree);
    std::stable_sort(level.begin(), level.end(), [&](int a, int b) { return reached[a] > reached[b]; });
    const int64_t room = std::min<int64_t>(kMaxRows, max_context_ - rows_) - tree_rows;
    const auto count = static_cast<int>(std::min<int64_t>({static_cast<int64_t>(level.size()), limits.width, room}));
    if (count < 1) break;
    level.resize(count);
    double promise = 0;
    for (const int i : level) promise += reached[i];
    if (costs != nullptr &&
        !costs->another_level(*tree, depth, promise, count, spent_ms + now_ms() - started, times_.expected(count)))
      break;
    int64_t ids[kMaxRows], positions[kMaxRows], tree_mask[kMaxRows];
    std::vector<float> hidden;
    for (int i = 0; i < count; ++i) {
      const DraftNode& node = (*tree)[level[i]];
      const Expanded& parent = expanded[node.parent];
      ids[i] = node.token;
      positions[i] = n - 1 + depth - 1;
      tree_mask[i] = static_cast<int64_t>(static_cast<uint64_t>(parent.mask) | uint64_t{1} << (tree_rows + i));
      hidden.insert(hidden.end(), parent.hidden.begin(), parent.hidden.end());
    }
    const Output out = call({count, ids, positions, tree_mask, hidden.data(), rows_ + tree_rows, 0, tree_rows});
    tree_rows += count;
    expanded.resize(tree->size());
    for (int i = 0; i < count; ++i) {
      const float* h = out.hidden + i * hidden_size_;
      expanded[level[i]] = {tree_mask[i], {h, h + hidden_size_}};
      add_children(out.logits + i * draft_vocab_, draft_vocab_, remap_.data(), limits.width, level[i], costs, tree);
    }
  }
}

}  // namespace blockffn::runner
