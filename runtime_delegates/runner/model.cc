#include "model.h"

namespace blockffn::runner {
namespace {

constexpr int64_t kFormatVersion = 1;  // of the programs that this runner runs
constexpr int64_t kMaxVocab = 1 << 24;

}  // namespace

Model::Model(const blockffn_file& file) : file_(file, "program") {
  if (!file_.has("forward") || !file_.has("get_blockffn_format_version"))
    file_.bad("not exported by export/to_executorch.py (it lacks our metadata); export the checkpoint with that command");
  if (const int64_t version = file_.constant("get_blockffn_format_version"); version != kFormatVersion)
    file_.bad("format version " + std::to_string(version) + ", this runner runs version " + std::to_string(kFormatVersion) +
              "; export the checkpoint again");
  max_context_ = file_.constant("get_max_context_len");
  const int64_t vocab = file_.constant("get_vocab_size"), bos = file_.constant("get_bos_id");
  if (file_.constant("get_max_seq_len") != kMaxRows || max_context_ < 1 || vocab < 1 || vocab > kMaxVocab || bos >= vocab)
    file_.bad("its metadata are damaged; export it again");
  vocab_size_ = static_cast<int32_t>(vocab);
  bos_id_ = bos < 0 ? -1 : static_cast<int32_t>(bos);
  for (const int64_t id : file_.constants("get_eos_ids"))
    if (id >= 0 && id < vocab) eos_ids_.push_back(static_cast<int32_t>(id));
  if (file_.has("get_model_fingerprint")) fingerprint_ = file_.constant("get_model_fingerprint");
  forward_ = file_.load("forward");
  if (forward_->inputs() != 6 || forward_->outputs() != 2) file_.bad("forward has other inputs or outputs; export it again");
  const auto logits = forward_->output_sizes(0), hidden = forward_->output_sizes(1);
  if (logits.size() != 3 || hidden.size() != 3 || logits[2] != vocab)
    file_.bad("forward's outputs do not match its metadata; export it again");
  hidden_size_ = hidden[2];
}

Model::Rows Model::step(const Chunk& chunk, blockffn_stats* read) {
  const auto tokens = static_cast<int32_t>(chunk.tokens);
  const ProgramFile::Tensor inputs[] = {
      {chunk.ids, {1, tokens}, 2, false},    {chunk.positions, {tokens}, 1, false}, {&chunk.n_past, {1}, 1, false},
      {chunk.tree_mask, {tokens}, 1, false}, {chunk.kv_src, {kMaxRows}, 1, false},  {&chunk.logits_start, {1}, 1, false}};
  forward_->run(inputs, 6, read);
  return {forward_->output(0, int64_t{tokens} * vocab_size_), forward_->output(1, tokens * hidden_size_)};
}

}  // namespace blockffn::runner
