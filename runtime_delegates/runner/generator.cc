#include "generator.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>

#include "clock.h"

namespace blockffn::runner {
namespace {

// Tokens that the head catches up with at once in mode auto; while it does not pay: fewer.
constexpr int kHeadWindow = 64, kDoubtfulWindow = 16;
constexpr int kAnotherText = 16;  // new tokens of a prompt that make it one, for the accounts of what drafting costs

}  // namespace

int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
  return usage.ru_maxrss;
#else
  return int64_t{usage.ru_maxrss} * 1024;
#endif
}

void Generator::reset() {
  context_.clear();
  kept_.clear();
  chunk_start_ = 0;
  costs_ = CostModel();
  if (head_ != nullptr) head_->restart(0);
}

void Generator::check(const int32_t* prompt, int64_t n, const blockffn_runner_options& o) const {
  const auto bad = [](const std::string& message) { throw Failure{BLOCKFFN_BAD_ARGUMENT, message}; };
  if (prompt == nullptr || n < 1) bad("nothing to read: the prompt has no tokens");
  for (int64_t i = 0; i < n; ++i)
    if (prompt[i] < 0 || prompt[i] >= model_.vocab_size())
      bad("token ids must be 0 to " + std::to_string(model_.vocab_size() - 1) + "; is this the model's own tokenizer?");
  if (o.max_tokens < 1) bad("max_tokens must be at least 1");
  if (o.mode < BLOCKFFN_PLAIN || o.mode > BLOCKFFN_AUTO) bad("mode must be plain (0), spec (1) or auto (2)");
  if (o.draft_tokens < 1 || o.draft_tokens >= kMaxRows) bad("draft_tokens must be 1 to 63");
  if (o.draft_width < 1) bad("draft_width must be at least 1, which is a chain");
  if (o.draft_depth < 1) bad("draft_depth must be at least 1");
  if (o.drafter < BLOCKFFN_DRAFT_BEST || o.drafter > BLOCKFFN_DRAFT_HEAD) bad("drafter must be best (0), ngram (1) or head (2)");
  if (o.drafter == BLOCKFFN_DRAFT_HEAD && o.mode != BLOCKFFN_PLAIN && head_ == nullptr)
    bad("no draft head is loaded; call blockffn_runner_load_draft first, or choose another drafter");
  if (o.experts < BLOCKFFN_EXPERTS_ACTIVE || o.experts > BLOCKFFN_EXPERTS_ALL) bad("experts must be active (0) or all (1)");
  if (!(o.temperature >= 0 && std::isfinite(o.temperature))) bad("temperature must be 0 (greedy) or more");
  if (o.top_k < 0) bad("top_k must be 0 (off) or more");
  if (!(o.top_p > 0 && o.top_p <= 1)) bad("top_p must be more than 0, up to 1 (off)");
  if (!(o.repetition_penalty > 0 && std::isfinite(o.repetition_penalty)))
    bad("repetition_penalty must be more than 0; 1 is off");
  if (n > model_.max_context())
    throw Failure{BLOCKFFN_CONTEXT_FULL, "the prompt has " + std::to_string(n) + " tokens, the program's max_context is " +
                                             std::to_string(model_.max_context()) +
                                             ": shorten the prompt, or export with a larger --max-context"};
}

void Generator::rewind(int64_t n) {
  if (n >= chunk_start_) {
    kept_.resize(n - chunk_start_);
  } else {
    kept_.clear();
    chunk_start_ = n;
  }
  context_.resize(n);
}

Model::Rows Generator::run_chunk(Chunk* chunk) {
  chunk->n_past = static_cast<int64_t>(context_.size());
  for (int i = 0; i < chunk->tokens; ++i) chunk->positions[i] += chunk->n_past;
  std::fill(chunk->kv_src, chunk->kv_src + kMaxRows, -1);
  // Rows that are in their place need no move.
  if (!kept_.empty() && kept_.back() != static_cast<int>(kept_.size()) - 1)
    std::copy(kept_.begin(), kept_.end(), chunk->kv_src);
  Model::Rows out;
  try {
    out = model_.step(*chunk, &last_read_);
  } catch (const Failure&) {
    rewind(std::min<int64_t>(chunk_start_, chunk->n_past));  // what lies behind may be lost
    if (head_ != nullptr) head_->restart(static_cast<int64_t>(context_.size()));
    throw;
  }
  chunk_start_ = chunk->n_past;
  kept_.clear();
  return out;
}

void Generator::keep(const Run& run, const Chunk& chunk, const Model::Rows& out, const int* rows, int count) {
  for (int i = 0; i < count; ++i) {
    kept_.push_back(rows[i]);
    context_.push_back(static_cast<int32_t>(chunk.ids[rows[i]]));
    if (run.head != nullptr) run.head->committed(out.hidden + rows[i] * model_.hidden_size());
  }
}

bool Generator::cancelled() {
  if (!cancel_.load(std::memory_order_relaxed)) return false;
  stats_.stopped_by = BLOCKFFN_STOP_CANCELLED;
  return true;
}

// Logits of the last token; nullptr if cancelled.
const float* Generator::prefill(const Run& run, const int32_t* ids, int64_t n) {
  int every_row[kMaxRows];
  for (int i = 0; i < kMaxRows; ++i) every_row[i] = i;
  const float* last = nullptr;
  for (int64_t at = 0; at < n; at += kMaxRows) {
    if (cancelled()) return nullptr;
    Chunk chunk;
    make_linear(&chunk, ids + at, static_cast<int>(std::min<int64_t>(kMaxRows, n - at)));
    chunk.logits_start = chunk.tokens - 1;
    const Model::Rows out = run_chunk(&chunk);
    last = out.logits + static_cast<int64_t>(chunk.tokens - 1) * model_.vocab_size();
    keep(run, chunk, out, every_row, chunk.tokens);
    stats_.prefill_experts_read += last_read_.experts_read;
    stats_.prefill_experts_total += last_read_.experts_total;
  }
  return last;
}

// Times chunks of 1, 2, 4 ... 64 tokens behind the context, which stays as it is. The text's own last
// tokens make the unions typical. Large chunks are left out once a quarter of a second has gone by.
void Generator::calibrate() {
  double ms[CostModel::kKnots];
  const double started = now_ms();
  const std::vector<int32_t> end(text_.end() - std::min<int64_t>(kMaxRows, static_cast<int64_t>(text_.size())), text_.end());
  int known = 0;
  for (; known < CostModel::kKnots; ++known) {
    const int tokens = 1 << known;
    if (model_.max_context() - static_cast<int64_t>(context_.size()) < tokens) break;
    if (known > 1 && now_ms() - started > 250) break;
    ms[known] = HUGE_VAL;
    for (int round = 0; round < (tokens <= 8 ? 3 : 1); ++round) {
      if (cancel_.load(std::memory_order_relaxed)) return;
      int32_t ids[kMaxRows];
      for (int i = 0; i < tokens; ++i) ids[i] = end[i % end.size()];
      Chunk chunk;
      make_linear(&chunk, ids, tokens);
      const double before = now_ms();
      run_chunk(&chunk);
      ms[known] = std::min(ms[known], now_ms() - before);
    }
  }
  if (known > 0) costs_.calibrate(ms, known);
  stats_.calibrate_ms = now_ms() - started;
}

bool Generator::emit(Run* run, int32_t token) {
  const auto& eos = model_.eos_ids();
  if (std::find(eos.begin(), eos.end(), token) != eos.end()) {
    stats_.stopped_by = BLOCKFFN_STOP_END_OF_TEXT;
    return false;
  }
  text_.push_back(token);
  run->sampler.saw(token);
  stats_.generated_tokens += 1;
  if (run->on_token != nullptr && run->on_token(run->user, token) != 0)
    stats_.stopped_by = BLOCKFFN_STOP_CALLBACK;
  else if (stats_.generated_tokens == run->options.max_tokens)
    stats_.stopped_by = BLOCKFFN_STOP_MAX_TOKENS;
  return true;
}

void Generator::check_tree(const DraftTree& tree, int max_tokens, int max_depth) const {
  const auto bad = [](const std::string& message) { throw Failure{BLOCKFFN_FAILED, "the drafter " + message}; };
  const auto rows = static_cast<int>(tree.size());
  if (rows - 1 > max_tokens) bad("proposed more tokens than it may");
  for (int i = 1; i < rows; ++i) {
    const DraftNode& node = tree[i];
    if (node.token < 0 || node.token >= model_.vocab_size())
      bad("proposed token " + std::to_string(node.token) + ", but the program has " + std::to_string(model_.vocab_size()) +
          " tokens; use a draft model with the same tokenizer");
    if (node.parent < 0 || node.parent >= i) bad("listed a token before its parent");
    if (node.depth > max_depth) bad("proposed a longer branch than it may");
    if (!(node.confidence >= 0 && node.confidence <= 1)) bad("gave a confidence outside 0 to 1");
  }
}

Generator::Draft Generator::draft(Run* run) {
  const double started = now_ms();
  Draft draft;
  DraftTree& tree = draft.tree;
  tree.resize(1);
  tree[0].token = text_.back();
  draft.chosen = {1};
  const blockffn_runner_options& o = run->options;
  const int64_t room = model_.max_context() - static_cast<int64_t>(context_.size()) - 1;
  const int64_t budget = o.max_tokens - stats_.generated_tokens - 1;
  const int max_tokens = static_cast<int>(std::min<int64_t>(o.draft_tokens, room));
  const int max_depth = static_cast<int>(std::min<int64_t>(budget, max_tokens));
  const bool automatic = o.mode == BLOCKFFN_AUTO;
  if (o.mode == BLOCKFFN_PLAIN || max_depth < 1 || (automatic && !costs_.calibrated())) return draft;

  const auto n = static_cast<int64_t>(text_.size());
  double rate = automatic ? 1 / costs_.chunk_ms(1) : 0;  // of what is chosen so far
  const auto choose = [&] {
    auto choice = costs_.choose(tree, max_tokens + 1, now_ms() - started);
    draft.chosen = std::move(choice.keep);
    return choice.rate;
  };
  if (run->drafter != nullptr && (!automatic || costs_.other.should_ask(rate))) {
    run->drafter->propose(text_.data(), n, max_tokens, max_depth, &tree);
    check_tree(tree, max_tokens, max_depth);
    draft.drawn = std::any_of(tree.begin(), tree.end(), [](const DraftNode& node) { return node.q != nullptr; });
    if (automatic && !draft.drawn) {
      rate = choose();
      costs_.other.observe(rate);
    }
    draft.spent_ms[DraftNode::kOther] = now_ms() - started;
  }
  if (run->head != nullptr && (!automatic || costs_.head.should_ask(rate))) {
    const int window = !automatic ? 0 : costs_.head.doubtful() ? kDoubtfulWindow : kHeadWindow;
    const double before = now_ms();
    run->head->propose(text_.data(), n, {std::min(max_depth, o.draft_depth), o.draft_width, window},
                       automatic ? &costs_ : nullptr, before - started, &tree);
    if (automatic) costs_.head.observe(choose());
    draft.spent_ms[DraftNode::kHead] = now_ms() - before;
  }
  // Leaving out tokens because of what was drawn would change the distribution.
  if (draft.drawn)
    draft.chosen.assign(tree.size(), 1);
  else if (!automatic)
    draft.chosen = most_reached(plain_reached(tree), max_tokens + 1);
  draft.chosen.resize(tree.size(), 0);
  return draft;
}

int Generator::walk(Run* run, const DraftTree& tree, const std::vector<int>& row_of, const float* logits,
                    int path[kMaxRows]) {
  const auto rows = static_cast<int>(tree.size());
  std::vector<Candidate> candidates;
  int length = 0, node = 0;
  path[length++] = 0;
  while (true) {
    candidates.clear();
    for (int i = node + 1; i < rows; ++i)
      if (tree[i].parent == node && row_of[i] >= 0) candidates.push_back({tree[i].token, tree[i].q});
    const int32_t token = run->sampler.choose(logits + static_cast<int64_t>(row_of[node]) * model_.vocab_size(),
                                              candidates.data(), static_cast<int>(candidates.size()));
    int next = -1;
    bool asked_head = false, head_followed = false;
    for (int i = node + 1; i < rows; ++i) {
      if (tree[i].parent != node) continue;
      const bool followed = tree[i].token == token;
      costs_.observe_token(tree[i].source, tree[i].confidence, followed);
      asked_head |= tree[i].source == DraftNode::kHead;
      head_followed |= followed;
      if (followed && next < 0 && row_of[i] >= 0) next = i;
    }
    if (asked_head) costs_.observe_level(std::min(tree[node].depth, kMaxRows - 1), head_followed);
    if (!emit(run, token) || next < 0) return length;
    path[length++] = row_of[next];
    if (stopped()) return length;
    node = next;
  }
}

void Generator::show(const DraftTree& tree, const std::vector<int>& row_of, const int* path, int length) const {
  std::vector<int32_t> tokens, parents;
  std::vector<float> confidence;
  std::vector<uint8_t> flags;
  for (size_t i = 0; i < tree.size(); ++i) {
    tokens.push_back(tree[i].token);
    parents.push_back(tree[i].parent);
    confidence.push_back(tree[i].confidence);
    const bool accepted = row_of[i] >= 0 && std::find(path, path + length, row_of[i]) != path + length;
    flags.push_back(static_cast<uint8_t>((row_of[i] >= 0 ? 1 : 0) + (accepted ? 2 : 0)));
  }
  on_cycle_(observer_, static_cast<int32_t>(tree.size()), tokens.data(), parents.data(), confidence.data(), flags.data());
}

void Generator::cycle(Run* run) {
  const double started = now_ms();
  const auto [tree, chosen, drawn, spent_ms] = draft(run);
  Chunk chunk;
  chunk.tokens = 0;
  std::vector<int> row_of(tree.size(), -1);
  for (size_t i = 0; i < tree.size(); ++i) {
    if (chosen[i] == 0) continue;
    const int row = row_of[i] = chunk.tokens++;
    chunk.ids[row] = tree[i].token;
    chunk.positions[row] = tree[i].depth;
    chunk.tree_mask[row] = static_cast<int64_t>((uint64_t{1} << row) | (i == 0 ? 0 : static_cast<uint64_t>(
                                                                            chunk.tree_mask[row_of[tree[i].parent]])));
  }
  const double drafted = now_ms();
  const Model::Rows out = run_chunk(&chunk);
  const double verified = now_ms();

  const int64_t before = stats_.generated_tokens;
  int path[kMaxRows];
  const int length = walk(run, tree, row_of, out.logits, path);
  keep(*run, chunk, out, path, length);
  if (on_cycle_ != nullptr) show(tree, row_of, path, length);

  const auto emitted = static_cast<int>(stats_.generated_tokens - before);
  costs_.observe_chunk(chunk.tokens, verified - drafted);
  if (chunk.tokens == 1 && tree.size() > 1) costs_.declined();
  if (run->options.mode == BLOCKFFN_AUTO && costs_.calibrated()) {
    const double plain_ms = costs_.chunk_ms(1);
    bool verified_any[2] = {};
    for (size_t i = 1; i < tree.size(); ++i) verified_any[tree[i].source] |= row_of[i] >= 0;
    const auto lost = [&](DraftNode::Source source) {
      return verified_any[source] ? costs_.chunk_ms(chunk.tokens) / plain_ms - emitted : 0;
    };
    costs_.other.settle(spent_ms[DraftNode::kOther] / plain_ms, lost(DraftNode::kOther));
    costs_.head.settle(spent_ms[DraftNode::kHead] / plain_ms, lost(DraftNode::kHead));
  }
  stats_.cycles += 1;
  stats_.drafted_tokens += chunk.tokens - 1;
  stats_.accepted_tokens += length - 1;
  stats_.emitted_histogram[emitted] += 1;
  stats_.chunks[chunk.tokens] += 1;
  stats_.experts_read[chunk.tokens] += last_read_.experts_read;
  stats_.experts_total[chunk.tokens] += last_read_.experts_total;
  stats_.draft_ms += drafted - started;
  stats_.verify_ms += verified - drafted;
}

void Generator::generate(const int32_t* prompt, int64_t n, const blockffn_runner_options& options,
                         blockffn_token_fn on_token, void* user) {
  cancel_.store(false, std::memory_order_relaxed);
  stats_ = {};
  check(prompt, n, options);
  const double started = now_ms();
  if (const bool all = options.experts == BLOCKFFN_EXPERTS_ALL; all != model_.all_experts()) {
    model_.set_all_experts(all);
    costs_ = CostModel();  // the times were others
  }
  SamplingOptions sampling{options.temperature, options.top_p, options.repetition_penalty, options.top_k, options.seed};
  NgramDrafter ngram(options.draft_width);
  Run run{options, on_token, user, Sampler(sampling, model_.vocab_size()), custom_drafter_.get(), nullptr};
  if (custom_drafter_ == nullptr && options.drafter != BLOCKFFN_DRAFT_HEAD) run.drafter = &ngram;
  if (custom_drafter_ == nullptr && options.drafter != BLOCKFFN_DRAFT_NGRAM && options.mode != BLOCKFFN_PLAIN) run.head = head_.get();
  text_.assign(prompt, prompt + n);
  for (const int32_t token : text_) run.sampler.saw(token);

  // The last token always runs, because its logits are needed.
  int64_t common = std::mismatch(context_.begin(), context_.end(), prompt, prompt + n - 1).first - context_.begin();
  if (run.head != nullptr) {
    // The head has used up the hidden state of the last common token, whose successor may be another now.
    common = std::max<int64_t>(0, common - 1);
    if (run.head->known() == static_cast<int64_t>(context_.size()))
      run.head->rewind(common);
    else
      run.head->restart(common);
  } else if (head_ != nullptr) {
    head_->restart(0);  // it does not see this run
  }
  rewind(common);
  if (n - common > kAnotherText) {
    costs_.other.forgive();
    costs_.head.forgive();
  }
  stats_.prompt_tokens = n;
  stats_.reused_tokens = common;
  const float* logits = prefill(run, prompt + common, n - common);
  stats_.prefill_ms = now_ms() - started;
  if (logits != nullptr) {
    emit(&run, run.sampler.choose(logits));
    stats_.ttft_ms = now_ms() - started;
    if (!stopped() && options.mode == BLOCKFFN_AUTO && !costs_.calibrated()) calibrate();
    const double decoding = now_ms();
    while (!stopped() && !cancelled()) {
      if (static_cast<int64_t>(context_.size()) == model_.max_context())
        stats_.stopped_by = BLOCKFFN_STOP_CONTEXT_FULL;
      else
        cycle(&run);
    }
    stats_.decode_ms = now_ms() - decoding;
    stats_.other_ms = stats_.decode_ms - stats_.draft_ms - stats_.verify_ms;
  }
  if (costs_.calibrated())
    for (int tokens = 1; tokens <= kMaxRows; ++tokens) stats_.chunk_ms[tokens] = costs_.chunk_ms(tokens);
  stats_.peak_rss_bytes = peak_rss_bytes();
}

}  // namespace blockffn::runner
