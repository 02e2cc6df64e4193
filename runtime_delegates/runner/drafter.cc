#include "drafter.h"

#include <algorithm>
#include <numeric>

namespace blockffn::runner {
namespace {

struct Occurrence {
  int64_t next;   // position in the context of the first token after the match
  double weight;  // votes
};

// A proposal that may enter the tree.
struct Open {
  double probability;  // of the path down to it
  int32_t token, parent;
  float confidence;
  std::vector<Occurrence> occurrences;
};

// Occurrences of the end of the context, longest match first, most recent first among equals.
std::vector<Occurrence> find(const int32_t* context, int64_t n) {
  std::vector<Occurrence> by_length[NgramDrafter::kMaxMatch + 1];
  const int32_t last = context[n - 1];
  for (int64_t i = n - 2; i >= 0; --i) {
    if (context[i] != last) continue;
    int64_t length = 1;
    while (length < NgramDrafter::kMaxMatch && length <= i && context[i - length] == context[n - 1 - length]) ++length;
    auto& found = by_length[length];
    if (found.size() < NgramDrafter::kMaxOccurrences) found.push_back({i + 1, static_cast<double>(1 << (length - 1))});
    if (by_length[NgramDrafter::kMaxMatch].size() == NgramDrafter::kMaxOccurrences) break;
  }
  std::vector<Occurrence> all;
  for (int length = NgramDrafter::kMaxMatch; length > 0; --length)
    for (const Occurrence& o : by_length[length])
      if (all.size() < NgramDrafter::kMaxOccurrences) all.push_back(o);
  return all;
}

}  // namespace

std::vector<double> plain_reached(const DraftTree& tree) {
  std::vector<double> reached(tree.size(), 1);
  for (size_t i = 1; i < tree.size(); ++i) reached[i] = reached[tree[i].parent] * tree[i].confidence;
  return reached;
}

std::vector<uint8_t> most_reached(const std::vector<double>& reached, int most) {
  std::vector<int> order(reached.size());
  std::iota(order.begin(), order.end(), 0);
  // Stable, and no row is likelier than its parent: parents come first.
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return reached[a] > reached[b]; });
  std::vector<uint8_t> keep(reached.size(), 0);
  for (int i = 0; i < std::min<int>(most, static_cast<int>(order.size())); ++i) keep[order[i]] = 1;
  return keep;
}

void NgramDrafter::propose(const int32_t* context, int64_t n, int max_tokens, int max_depth, DraftTree* tree) {
  if (n < 2 || max_tokens < 1 || max_depth < 1) return;
  std::vector<Open> open;
  const auto less = [](const Open& a, const Open& b) { return a.probability < b.probability; };
  // Opens the continuations of a row. An occurrence that reaches the end of the context goes on in the
  // draft itself, so that a loop of any period is followed.
  const auto expand = [&](int32_t row, double probability, const std::vector<Occurrence>& occurrences) {
    const int depth = (*tree)[row].depth;
    if (depth == max_depth) return;
    std::vector<int32_t> path(depth + 1);
    for (int32_t at = row; at >= 0; at = (*tree)[at].parent) path[(*tree)[at].depth] = (*tree)[at].token;
    std::vector<Open> children;
    double total = 2;
    for (const Occurrence& o : occurrences) {
      const int64_t at = o.next + depth;
      const int32_t token = at < n ? context[at] : path[at - n + 1];
      auto child = std::find_if(children.begin(), children.end(), [&](const Open& c) { return c.token == token; });
      if (child == children.end()) child = children.insert(children.end(), Open{0, token, row, 0, {}});
      child->probability += o.weight;
      child->occurrences.push_back(o);
      total += o.weight;
    }
    std::stable_sort(children.begin(), children.end(), [&](const Open& a, const Open& b) { return less(b, a); });
    if (static_cast<int>(children.size()) > width_) children.resize(width_);
    for (Open& child : children) {
      child.confidence = static_cast<float>(child.probability / total);
      child.probability *= probability / total;
      open.push_back(std::move(child));
      std::push_heap(open.begin(), open.end(), less);
    }
  };
  expand(0, 1, find(context, n));
  for (int count = 0; count < max_tokens && !open.empty(); ++count) {
    std::pop_heap(open.begin(), open.end(), less);
    const Open best = std::move(open.back());
    open.pop_back();
    const auto row = static_cast<int32_t>(tree->size());
    tree->push_back({best.token, best.parent, (*tree)[best.parent].depth + 1, best.confidence, nullptr, DraftNode::kOther});
    expand(row, best.probability, best.occurrences);
  }
}

}  // namespace blockffn::runner
