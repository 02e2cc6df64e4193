// Drafters propose the tokens that one chunk verifies.
#pragma once

#include <cstdint>
#include <vector>

namespace blockffn::runner {

constexpr int kMaxRows = 64;  // of a chunk

// A row of the chunk: the last token of the context (row 0) or a proposal.
struct DraftNode {
  int32_t token = 0;
  int32_t parent = -1;         // an earlier row
  int32_t depth = 0;           // of row 0: 0
  float confidence = 1;        // estimate that the token follows its parent
  const double* q = nullptr;   // distribution that the token was drawn from, null if it was not drawn
  enum Source : uint8_t { kOther, kHead } source = kOther;  // whose confidence it is
};
using DraftTree = std::vector<DraftNode>;  // parents before children

// For each row, the product of the confidences down to it.
std::vector<double> plain_reached(const DraftTree& tree);
// For each row whether it is among the `most` that are reached most often.
std::vector<uint8_t> most_reached(const std::vector<double>& reached, int most);

class Drafter {
 public:
  virtual ~Drafter() = default;
  // Appends at most max_tokens proposals to the tree, which holds row 0; none deeper than max_depth.
  virtual void propose(const int32_t* context, int64_t n, int max_tokens, int max_depth, DraftTree* tree) = 0;
};

// Prompt look-up: where the end of the context (up to kMaxMatch tokens) occurred before, what followed
// there may follow here. Needs no model. Occurrences vote with 2^(matched tokens - 1), the most recent
// ones of the longest matches first; a token's confidence is its share of the votes, with two votes for
// "none of them". The tree grows where the product of confidences is largest. (Of matches up to 4, 8, 12 and 16 and votes to
// the base of 1.5 to 4, these gave most on 110 held-out texts of the shipped checkpoint at chunk times of AVX2: a long match is a
// loop, and only such a draft is sure enough to pay there.)
class NgramDrafter final : public Drafter {
 public:
  static constexpr int kMaxMatch = 16, kMaxOccurrences = 32;
  explicit NgramDrafter(int width) : width_(width) {}
  void propose(const int32_t* context, int64_t n, int max_tokens, int max_depth, DraftTree* tree) override;

 private:
  int width_;  // children of a node
};

}  // namespace blockffn::runner
