// Generation over one context: prefill, then cycles of draft -> one chunk verification -> accept. The
// accepted rows are compacted by the next chunk (kv_src).
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "blockffn_runner.h"
#include "cost_model.h"
#include "drafter.h"
#include "draft_model.h"
#include "model.h"
#include "sampling.h"

namespace blockffn::runner {

class Generator {
 public:
  template <class Source>  // of which a Model is made
  explicit Generator(const Source& source) : model_(source) {}

  const Model& model() const { return model_; }
  const blockffn_runner_stats& stats() const { return stats_; }
  // nullptr: the built-in drafters.
  void set_drafter(std::unique_ptr<Drafter> drafter) { custom_drafter_ = std::move(drafter); }
  void set_observer(blockffn_cycle_fn on_cycle, void* user) { on_cycle_ = on_cycle, observer_ = user; }
  void set_head(std::unique_ptr<DraftModel> head) { head_ = std::move(head); }
  bool has_head() const { return head_ != nullptr; }
  // Throws Failure; the context then holds what was known to be good.
  void generate(const int32_t* prompt, int64_t n, const blockffn_runner_options& options, blockffn_token_fn on_token,
                void* user);
  // The run that on_token ended was ended for this reason.
  void ended_by(blockffn_stop reason) { stats_.stopped_by = reason; }
  void cancel() { cancel_.store(true, std::memory_order_relaxed); }
  void reset();

 private:
  // What lives as long as one call of generate().
  struct Run {
    const blockffn_runner_options& options;
    blockffn_token_fn on_token;
    void* user;
    Sampler sampler;
    Drafter* drafter;  // nullptr: none but the head
    DraftModel* head;  // nullptr: none
  };

  void check(const int32_t* prompt, int64_t n, const blockffn_runner_options& options) const;
  // Keeps the first n tokens of the context.
  void rewind(int64_t n);
  // Runs the chunk (tokens, ids, positions relative to the context's end, tree_mask) behind the context;
  // then no row of it is kept, until keep().
  Model::Rows run_chunk(Chunk* chunk);
  // Rows of the last chunk stay; the head learns their hidden states.
  void keep(const Run& run, const Chunk& chunk, const Model::Rows& out, const int* rows, int count);
  const float* prefill(const Run& run, const int32_t* ids, int64_t n);
  void calibrate();
  void cycle(Run* run);
  struct Draft {
    DraftTree tree;               // row 0, then proposals
    std::vector<uint8_t> chosen;  // which rows to verify; row 0 always
    bool drawn = false;           // it holds tokens that were drawn from a distribution
    double spent_ms[2] = {};      // by source; 0: not asked
  };
  Draft draft(Run* run);
  void check_tree(const DraftTree& tree, int max_tokens, int max_depth) const;
  // Follows the tree, row i of which is row_of[i] of the chunk or not in it, while its tokens are what the
  // sampler chooses; rows to keep -> path, number -> result.
  int walk(Run* run, const DraftTree& tree, const std::vector<int>& row_of, const float* logits, int path[kMaxRows]);
  // Tells the observer of a cycle; path[length] are the accepted rows of the chunk.
  void show(const DraftTree& tree, const std::vector<int>& row_of, const int* path, int length) const;
  // A new token: false for one that ends the text, which does not count.
  bool emit(Run* run, int32_t token);
  bool stopped() const { return stats_.stopped_by != BLOCKFFN_STOP_NONE; }
  bool cancelled();

  Model model_;
  std::unique_ptr<Drafter> custom_drafter_;
  std::unique_ptr<DraftModel> head_;
  blockffn_cycle_fn on_cycle_ = nullptr;
  void* observer_ = nullptr;
  CostModel costs_;
  std::atomic<bool> cancel_{false};

  std::vector<int32_t> context_;  // tokens whose cache rows are kept
  int64_t chunk_start_ = 0;       // rows from here on belong to the last chunk,
  std::vector<int> kept_;         // of which these are kept, ascending: context_ is chunk_start_ + kept_
  std::vector<int32_t> text_;     // prompt and new tokens; the last one has no row before its cycle
  blockffn_stats last_read_{};
  blockffn_runner_stats stats_{};
};

// Peak resident memory of this process in bytes, mapped files included.
int64_t peak_rss_bytes();

}  // namespace blockffn::runner
