#include "model.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace blockffn::runner {
namespace {

constexpr int64_t kFormatVersion = 1;  // of the programs that this runner runs
constexpr int64_t kMaxVocab = 1 << 24;

}  // namespace

void make_linear(Chunk* chunk, const int32_t* ids, int tokens) {
  chunk->tokens = tokens;
  for (int i = 0; i < tokens; ++i) {
    chunk->ids[i] = ids[i];
    chunk->positions[i] = i;
    chunk->tree_mask[i] = static_cast<int64_t>(~uint64_t{0} >> (63 - i));
  }
}

Model::Model(const blockffn_file& file) : file_(std::make_unique<ProgramFile>(file, "program")) {
  if (!file_->has("forward") || !file_->has("get_blockffn_format_version"))
    file_->bad("not exported by export/to_executorch.py (it lacks our metadata); export the checkpoint with that command");
  if (const int64_t version = file_->constant("get_blockffn_format_version"); version != kFormatVersion)
    file_->bad("format version " + std::to_string(version) + ", this runner runs version " + std::to_string(kFormatVersion) +
              "; export the checkpoint again");
  max_context_ = file_->constant("get_max_context_len");
  const int64_t vocab = file_->constant("get_vocab_size"), bos = file_->constant("get_bos_id");
  if (file_->constant("get_max_seq_len") != kMaxRows || max_context_ < 1 || vocab < 1 || vocab > kMaxVocab || bos >= vocab)
    file_->bad("its metadata are damaged; export it again");
  vocab_size_ = static_cast<int32_t>(vocab);
  bos_id_ = bos < 0 ? -1 : static_cast<int32_t>(bos);
  for (const int64_t id : file_->constants("get_eos_ids"))
    if (id >= 0 && id < vocab) eos_ids_.push_back(static_cast<int32_t>(id));
  if (file_->has("get_tokenizer_fingerprint")) tokenizer_ = file_->constant("get_tokenizer_fingerprint");
  if (file_->has("get_model_fingerprint")) fingerprint_ = file_->constant("get_model_fingerprint");
  forward_ = file_->load("forward");
  if (forward_->inputs() != 6 || forward_->outputs() != 2) file_->bad("forward has other inputs or outputs; export it again");
  const auto logits = forward_->output_sizes(0), hidden = forward_->output_sizes(1);
  if (logits.size() != 3 || hidden.size() != 3 || logits[2] != vocab)
    file_->bad("forward's outputs do not match its metadata; export it again");
  hidden_size_ = hidden[2];
}

Model::Model(const blockffn_steps& steps) : step_(steps.step), user_(steps.user) {
  const auto bad = [](const char* why) { throw Failure{BLOCKFFN_BAD_ARGUMENT, why}; };
  if (step_ == nullptr) bad("no step function was given");
  if (steps.max_context < 1 || steps.hidden_size < 1) bad("max_context and hidden_size must be at least 1");
  if (steps.vocab_size < 1 || steps.vocab_size > kMaxVocab) bad("vocab_size must be 1 to 2^24");
  if (steps.bos_id >= steps.vocab_size) bad("bos_id must be less than vocab_size");
  max_context_ = steps.max_context;
  hidden_size_ = steps.hidden_size;
  fingerprint_ = steps.fingerprint;
  tokenizer_ = steps.tokenizer_fingerprint;
  vocab_size_ = static_cast<int32_t>(steps.vocab_size);
  bos_id_ = std::max(steps.bos_id, -1);
  for (const int32_t id : steps.eos_ids)
    if (id >= 0 && id < vocab_size_) eos_ids_.push_back(id);
}

Model::Rows Model::step(const Chunk& chunk, blockffn_stats* read) {
  const auto tokens = static_cast<int32_t>(chunk.tokens);
  if (step_ != nullptr) {
    Rows out{};
    int64_t experts[2] = {};
    *read = {};
    if (step_(user_, tokens, chunk.ids, chunk.positions, chunk.n_past, chunk.tree_mask, chunk.kv_src, chunk.logits_start,
              all_experts_, &out.logits, &out.hidden, experts) != 0)
      throw Failure{BLOCKFFN_FAILED, "the step function failed"};
    if (out.logits == nullptr || out.hidden == nullptr) throw Failure{BLOCKFFN_FAILED, "the step function gave no outputs"};
    // A program looks after its own.
    if (!std::all_of(out.logits + chunk.logits_start * vocab_size_, out.logits + int64_t{tokens} * vocab_size_,
                     [](float x) { return std::isfinite(x); }))
      throw Failure{BLOCKFFN_FAILED, "the step function gave logits that are not finite"};
    read->experts_read = experts[0];
    read->experts_total = experts[1];
    return out;
  }
  const ProgramFile::Tensor inputs[] = {
      {chunk.ids, {1, tokens}, 2, false},    {chunk.positions, {tokens}, 1, false}, {&chunk.n_past, {1}, 1, false},
      {chunk.tree_mask, {tokens}, 1, false}, {chunk.kv_src, {kMaxRows}, 1, false},  {&chunk.logits_start, {1}, 1, false}};
  struct Switch {  // of this thread, which may run other programs too
    explicit Switch(bool all) { blockffn_all_experts(all); }
    ~Switch() { blockffn_all_experts(0); }
  } experts(all_experts_);
  forward_->run(inputs, 6, read);
  return {forward_->output(0, int64_t{tokens} * vocab_size_), forward_->output(1, tokens * hidden_size_)};
}

}  // namespace blockffn::runner
