#include "recurrent.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../executorch/blockffn.h"
#include "clock.h"

namespace blockffn::runner {
namespace {

// The file, little-endian: this header, then at multiples of 64 bytes hidden_in [R, D], cell_in [2 M, R], cell_out [R, M],
// none [1, R], token_in [V, 2 M], token_out [V, R], each as float scales[rows] and then, at a multiple of 64 again, its
// integers; then uint32 starts[V + 1] and int32 successors[N]. export/draft_file.py writes it.
struct Header {
  char magic[8];
  uint64_t target_fingerprint;
  uint32_t vocab, hidden, state, inner;
  uint64_t pairs;
  float eps;          // of the norm of the hidden state
  uint32_t checksum;  // CRC-32 of what follows the header
  uint8_t reserved[16];
};
static_assert(sizeof(Header) == 64, "the file's layout");
constexpr char kMagic[8] = {'B', 'F', 'D', 'R', 'A', 'F', 'T', '1'};
constexpr uint32_t kMaxSize = 1 << 16, kMaxVocab = 1 << 24, kMaxState = 4096;
constexpr int kLevels = 2047;  // of a vector's integers: a sum of 4096 products with 8-bit weights fits into 32 bits
constexpr float kUnitEps = 1e-6f;

// out[i] = row number (which == nullptr ? i : which[i]) of w, times x. One text for every instruction set: compilers turn it
// into the widening products that each has.
[[gnu::always_inline]] inline void products(const int8_t* w, int64_t cols, const int32_t* which, int64_t count, const int16_t* x,
                                            int32_t* out) {
  for (int64_t r = 0; r < count; ++r) {
    const int8_t* row = w + (which == nullptr ? r : which[r]) * cols;
    int32_t sum = 0;
    for (int64_t i = 0; i < cols; ++i) sum += static_cast<int16_t>(row[i]) * static_cast<int32_t>(x[i]);
    out[r] = sum;
  }
}

using Products = void (*)(const int8_t*, int64_t, const int32_t*, int64_t, const int16_t*, int32_t*);
void products_plain(const int8_t* w, int64_t cols, const int32_t* which, int64_t count, const int16_t* x, int32_t* out) {
  products(w, cols, which, count, x, out);
}
#if defined(__x86_64__)
__attribute__((target("avx2"))) void products_avx2(const int8_t* w, int64_t cols, const int32_t* which, int64_t count,
                                                   const int16_t* x, int32_t* out) {
  products(w, cols, which, count, x, out);
}
#endif

Products choose_products() {
#if defined(__x86_64__)
  // As the kernels see it: __builtin_cpu_supports needs a function of the compiler's library, which Android's lacks.
  const char* name;
  for (int i = 0, runs; (runs = blockffn_variant(i, &name)) >= 0; ++i)
    if (runs == 1 && std::strcmp(name, "avx2") == 0) return products_avx2;
#endif
  return products_plain;
}
const Products kProducts = choose_products();

// x as integers of kLevels at most; what they are times. Non-finite values give nonsense, never a crash.
float to_integers(const float* x, int64_t n, int16_t* out) {
  float largest = 1e-20f;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float inverse = kLevels / largest;
  for (int64_t i = 0; i < n; ++i) {
    const float scaled = x[i] * inverse + (x[i] < 0 ? -0.5f : 0.5f);
    out[i] = static_cast<int16_t>(std::fabs(scaled) < kLevels + 1 ? scaled : 0);  // NaN: 0
  }
  return largest / kLevels;
}

// What to multiply x by, so that it has a mean square of 1 (and eps).
float unit(const float* x, int64_t n, float eps) {
  float square = 0;
  for (int64_t i = 0; i < n; ++i) square += x[i] * x[i];
  return 1 / std::sqrt(square / static_cast<float>(n) + eps);
}

inline float silu(float x) {
  const float e = fast_exp(-std::fabs(x));
  return x * (x >= 0 ? 1 : e) / (1 + e);
}

}  // namespace

bool RecurrentDraft::is_one(const MappedFile& file) {
  return file.size() >= sizeof kMagic && std::memcmp(file.data(), kMagic, sizeof kMagic) == 0;
}

const void* RecurrentDraft::take(size_t* at, size_t bytes) const {
  const size_t start = (*at + 63) / 64 * 64;
  if (start > file_.size() || bytes > file_.size() - start)
    throw Failure{BLOCKFFN_BAD_PROGRAM, file_.name() + ": truncated; copy or export it again"};
  *at = start + bytes;
  return file_.data() + start;
}

RecurrentDraft::Rows RecurrentDraft::take_rows(size_t* at, int64_t rows, int64_t cols) const {
  const auto* scales = static_cast<const float*>(take(at, static_cast<size_t>(rows) * sizeof(float)));
  return {static_cast<const int8_t*>(take(at, static_cast<size_t>(rows * cols))), scales, rows, cols};
}

RecurrentDraft::RecurrentDraft(const blockffn_file& file, const Model& target) : file_(file, "draft head") {
  const auto bad = [&](const std::string& why) { throw Failure{BLOCKFFN_BAD_PROGRAM, file_.name() + ": " + why}; };
  if (!is_one(file_) || file_.size() < sizeof(Header)) bad("not a recurrent draft head; name a file written by export/to_draft.py");
  if (reinterpret_cast<uintptr_t>(file_.data()) % alignof(uint64_t) != 0)
    bad("it starts at a byte of its container that is no multiple of 64; store it uncompressed and aligned there");
  Header header;
  std::memcpy(&header, file_.data(), sizeof header);
  if (crc32(file_.data() + sizeof header, file_.size() - sizeof header) != header.checksum)
    bad("damaged, its checksum differs; copy or export it again");
  if (header.vocab < 1 || header.vocab > kMaxVocab || header.hidden < 1 || header.hidden > kMaxState || header.state < 1 ||
      header.state > kMaxState || header.inner < 1 || header.inner > kMaxState || header.pairs > UINT32_MAX || !(header.eps >= 0))
    bad("its sizes are damaged; export it again");
  vocab_ = header.vocab, hidden_ = header.hidden, state_ = header.state, inner_ = header.inner, eps_ = header.eps;
  if (vocab_ != target.vocab_size() || hidden_ != target.hidden_size())
    bad("a head for a model of " + std::to_string(vocab_) + " tokens and hidden size " + std::to_string(hidden_) +
        ", but this one has " + std::to_string(target.vocab_size()) + " and " + std::to_string(target.hidden_size()) +
        "; name the head that was trained for it");
  if (target.fingerprint() == 0) bad("the model does not say which heads fit it; export the model again");
  if (static_cast<int64_t>(header.target_fingerprint) != target.fingerprint())
    bad("this head was trained for another model of the same size (their fingerprints differ); name its own head");
  size_t at = sizeof header;
  hidden_in_ = take_rows(&at, state_, hidden_);
  cell_in_ = take_rows(&at, 2 * inner_, state_);
  cell_out_ = take_rows(&at, state_, inner_);
  none_ = take_rows(&at, 1, state_);
  token_in_ = take_rows(&at, vocab_, 2 * inner_);
  token_out_ = take_rows(&at, vocab_, state_);
  starts_ = static_cast<const uint32_t*>(take(&at, static_cast<size_t>(vocab_ + 1) * sizeof(uint32_t)));
  successors_ = static_cast<const int32_t*>(take(&at, static_cast<size_t>(header.pairs) * sizeof(int32_t)));
  if (!std::is_sorted(starts_, starts_ + vocab_ + 1) || starts_[0] != 0 || starts_[vocab_] != header.pairs ||
      !std::all_of(successors_, successors_ + header.pairs, [&](int32_t token) { return token >= 0 && token < vocab_; }))
    bad("its successors are damaged; export it again");
  last_.resize(hidden_);
  small_.resize(std::max({hidden_, state_, inner_}));
  inner_values_.resize(2 * inner_);
  uint32_t most = 1;
  for (int64_t i = 0; i < vocab_; ++i) most = std::max(most, starts_[i + 1] - starts_[i]);
  scores_.resize(most);
  sums_.resize(std::max<int64_t>({state_, 2 * inner_, most}));
}

void RecurrentDraft::committed(const float* hidden) {
  std::copy(hidden, hidden + hidden_, last_.begin());
  valid_ = true;
  ++known_;
}

void RecurrentDraft::rewind(int64_t n) {
  if (n < known_) restart(n);
}

void RecurrentDraft::restart(int64_t n) {
  known_ = n;
  valid_ = false;
}

void RecurrentDraft::multiply(const Rows& w, const float* x, float times, float* y) {
  times *= to_integers(x, w.cols, small_.data());
  kProducts(w.data, w.cols, nullptr, w.rows, small_.data(), sums_.data());
  for (int64_t i = 0; i < w.rows; ++i) y[i] = static_cast<float>(sums_[i]) * (w.scales[i] * times);
}

void RecurrentDraft::advance(const float* state, int32_t token, float* next) {
  float* gate = inner_values_.data();
  float* up = gate + inner_;
  multiply(cell_in_, state, unit(state, state_, kUnitEps), gate);
  const int8_t* added = token_in_.data + token * token_in_.cols;
  const float scale = token_in_.scales[token];
  for (int64_t i = 0; i < 2 * inner_; ++i) gate[i] += static_cast<float>(added[i]) * scale;
  for (int64_t i = 0; i < inner_; ++i) gate[i] = silu(gate[i]) * up[i];
  multiply(cell_out_, gate, 1, next);
  for (int64_t i = 0; i < state_; ++i) next[i] += state[i];
}

void RecurrentDraft::add_successors(const float* state, int32_t token, int width, int node, const CostModel* costs,
                                    DraftTree* tree) {
  const uint32_t begin = starts_[token], count = starts_[token + 1] - begin;
  if (count == 0) return;
  const float times = to_integers(state, state_, small_.data()) * unit(state, state_, kUnitEps);
  const int32_t* successors = successors_ + begin;
  kProducts(token_out_.data, state_, successors, count, small_.data(), sums_.data());
  for (uint32_t i = 0; i < count; ++i) scores_[i] = static_cast<float>(sums_[i]) * (token_out_.scales[successors[i]] * times);
  kProducts(none_.data, state_, nullptr, 1, small_.data(), sums_.data());
  const float none = static_cast<float>(sums_[0]) * (none_.scales[0] * times);
  if (!std::isfinite(none) || !std::all_of(scores_.begin(), scores_.begin() + count, [](float x) { return std::isfinite(x); })) return;
  add_children(scores_.data(), count, none, successors, width, node, costs, tree);
}

void RecurrentDraft::propose(const int32_t* context, int64_t n, const Limits& limits, const CostModel* costs, double,
                             DraftTree* tree) {
  if (!valid_ || known_ != n - 1 || limits.max_depth < 1 || context[n - 1] < 0 || context[n - 1] >= vocab_) return;
  // s_0, then row by row of the tree; empty: not computed.
  std::vector<float> start(state_);
  multiply(hidden_in_, last_.data(), unit(last_.data(), hidden_, eps_), start.data());
  std::vector<std::vector<float>> states(1, std::vector<float>(state_));
  advance(start.data(), context[n - 1], states[0].data());
  add_successors(states[0].data(), context[n - 1], limits.width, 0, costs, tree);
  // A token's children are worth their time only if the token itself is reached often enough to be verified.
  int computed = 1;  // states; more than a chunk has rows are of no use
  const double worth = costs != nullptr ? costs->least_reached() : 0;
  for (int depth = 1; depth < limits.max_depth; ++depth) {
    const std::vector<double> reached = costs != nullptr ? costs->reached(*tree) : plain_reached(*tree);
    std::vector<int> level;
    for (int i = 1; i < static_cast<int>(tree->size()); ++i) {
      const auto parent = static_cast<size_t>((*tree)[i].parent);
      if ((*tree)[i].depth == depth && parent < states.size() && !states[parent].empty() && reached[i] > worth) level.push_back(i);
    }
    std::stable_sort(level.begin(), level.end(), [&](int a, int b) { return reached[a] > reached[b]; });
    level.resize(static_cast<size_t>(std::min({static_cast<int>(level.size()), limits.width, kMaxRows - computed})));
    if (level.empty()) break;
    computed += static_cast<int>(level.size());
    states.resize(tree->size());
    for (const int node : level) {
      const DraftNode from = (*tree)[node];
      states[node].resize(state_);
      advance(states[from.parent].data(), from.token, states[node].data());
      add_successors(states[node].data(), from.token, limits.width, node, costs, tree);
    }
  }
}

}  // namespace blockffn::runner
