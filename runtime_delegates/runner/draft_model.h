// What the two kinds of draft models share: a small program that drafts for the target and keeps a context of its own.
#pragma once

#include <cstdint>
#include <memory>

#include "cost_model.h"
#include "drafter.h"
#include "model.h"

namespace blockffn::runner {

class DraftModel {
 public:
  virtual ~DraftModel() = default;

  // Tokens whose hidden states it knows, counted from the beginning of the context.
  virtual int64_t known() const = 0;
  // The target's hidden state of the next token.
  virtual void committed(const float* hidden) = 0;
  // Only the first n tokens stay, and the one behind them is the same as before.
  virtual void rewind(int64_t n) = 0;
  // What it knows of the context begins anew behind n tokens.
  virtual void restart(int64_t n) = 0;

  struct Limits {
    int max_depth;  // of a node; as many calls at most
    int width;      // children of a node, and nodes of a level that get children
    int window;     // of more than so many tokens to catch up with, only the last ones; 0: no limit
  };
  // Adds proposals to a tree that holds row 0, and perhaps proposals of others; context[n] as for a Drafter,
  // of which n - 1 tokens are known. With `costs` it goes on only while another level promises more tokens
  // per millisecond, where this cycle has taken spent_ms before; without, to the limits.
  virtual void propose(const int32_t* context, int64_t n, const Limits& limits, const CostModel* costs, double spent_ms,
                       DraftTree* tree) = 0;
};

// A draft head or a language model, whichever the program is. Throws Failure(BLOCKFFN_BAD_PROGRAM) if it is neither,
// or does not fit the target.
std::unique_ptr<DraftModel> load_draft_model(const blockffn_file& file, const Model& target);

// Milliseconds of a draft model's calls, by rows.
class CallTimes {
 public:
  void observe(int rows, double ms);
  double expected(int rows) const;  // of the nearest size seen; 0 before the first call

 private:
  double ms_[7] = {};  // of 1, 2, 4 ... 64 rows; 0: not seen yet
};

// Gives a node its `width` likeliest children by logits[count] about tokens `remap` (nullptr: the index itself). A child
// that another drafter has proposed keeps the better of the two confidences. Returns the likeliest child's row.
int add_children(const float* logits, int64_t count, const int32_t* remap, int width, int node, const CostModel* costs,
                 DraftTree* tree);

}  // namespace blockffn::runner
