// Whether the operators of a program fit their values, and where its activations and caches lie.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "../kernels/scratch.h"
#include "program.h"

namespace blockffn {
namespace {

constexpr Status corrupt(const char* message) { return {Status::kCorrupt, message}; }

}  // namespace

// Everything about an operator that does not depend on the data of a run.
Status Program::check_op(const Op& op, size_t* scratch) const {
  const Status bad = corrupt("an operator does not fit its values");
  const Status too_wide = corrupt("a head is too wide for an int8 cache; export with --kv fp32");
  const auto counts = [&](size_t args, size_t outs, size_t attrs) {
    return op.args.size() == args && op.outs.size() == outs && op.attrs.size() == attrs;
  };
  const auto has = [&](size_t i) { return op.args[i] >= 0; };
  // A float activation of T rows with `cols` values each.
  const auto rows_of = [&](int32_t id, size_t cols, bool output) {
    if (id < 0) return false;
    const Value& v = values_[id];
    const bool kind = v.kind == Kind::kTemporary || v.kind == Kind::kOutput || (!output && v.kind == Kind::kInput);
    return kind && v.dtype == DType::kFloat && v.dynamic && v.row_elements == cols;
  };
  const auto weight = [&](size_t i, DType dtype) {
    return has(i) && arg(op, i).kind == Kind::kWeight && arg(op, i).dtype == dtype;
  };
  const auto floats = [&](size_t i, size_t n) {
    return weight(i, DType::kFloat) && arg(op, i).rank == 1 && arg(op, i).row_elements == n;
  };
  const auto ints = [&](size_t i, bool dynamic, size_t n) {
    return has(i) && arg(op, i).kind == Kind::kInput && arg(op, i).dtype == DType::kInt64 &&
           arg(op, i).dynamic == dynamic && arg(op, i).row_elements == n;
  };
  const auto state = [&](size_t i, size_t cols) {
    return has(i) && arg(op, i).kind == Kind::kState && arg(op, i).dtype == DType::kFloat &&
           arg(op, i).row_elements == cols * static_cast<size_t>(arg(op, i).dims[0]);
  };
  const auto chunk = [&](size_t i) {
    return ints(i, true, 1) && ints(i + 1, false, 1) && ints(i + 2, true, 1) && ints(i + 3, false, kMaxTokens);
  };
  const auto float_attr = [&](size_t i) {
    return std::abs(op.attrs[i].f) <= std::numeric_limits<float>::max();
  };  // not NaN either
  const auto size_attr = [&](size_t i) { return op.attrs[i].i >= 1 && op.attrs[i].i <= kMaxDim; };

  switch (op.code) {
    case Opcode::kEmbedding: {  // ids, table -> y; scale
      if (!counts(2, 1, 1) || !float_attr(0) || !ints(0, true, 1) || !weight(1, DType::kMatrix)) return bad;
      const Matrix& table = arg(op, 1).matrix;
      return table.groups == 1 && rows_of(op.outs[0], table.cols, true) ? kStatusOk : bad;
    }
    case Opcode::kRmsNorm: {  // x, weight -> y; eps
      if (!counts(2, 1, 1) || !float_attr(0) || !has(1) || !floats(1, arg(op, 1).row_elements)) return bad;
      const size_t n = arg(op, 1).row_elements;
      return rows_of(op.args[0], n, false) && rows_of(op.outs[0], n, true) ? kStatusOk : bad;
    }
    case Opcode::kLinear:    // x, weight, bias or none -> y; scale
    case Opcode::kLogits: {  // x, weight, first row -> y; scale
      if (!counts(3, 1, 1) || !float_attr(0) || !weight(1, DType::kMatrix)) return bad;
      const Matrix& w = arg(op, 1).matrix;
      const size_t in = static_cast<size_t>(w.groups) * w.cols, out = static_cast<size_t>(w.groups) * w.rows;
      const bool third = op.code == Opcode::kLogits ? ints(2, false, 1) : !has(2) || floats(2, out);
      *scratch = linear_scratch(w, kMaxTokens);
      return third && rows_of(op.args[0], in, false) && rows_of(op.outs[0], out, true) ? kStatusOk : bad;
    }
    case Opcode::kSiluMul:
    case Opcode::kAdd: {  // a, b -> y
      if (!counts(2, 1, 0)) return bad;
      const size_t n = values_[op.outs[0]].row_elements;
      return rows_of(op.args[0], n, false) && rows_of(op.args[1], n, false) && rows_of(op.outs[0], n, true) ? kStatusOk
                                                                                                            : bad;
    }
    case Opcode::kChunkSparseFfn: {  // x, ffn -> y
      if (!counts(2, 1, 0) || !weight(1, DType::kFfn)) return bad;
      const Ffn& w = arg(op, 1).ffn;
      *scratch = ffn_scratch(w, kMaxTokens);
      return rows_of(op.args[0], w.hidden, false) && rows_of(op.outs[0], w.hidden, true) ? kStatusOk : bad;
    }
    case Opcode::kMlaAttention: {
      // q, kv, kv_norm, absorb_k, expand_v, inv_freq, cache, positions, n_past, tree_mask, kv_src -> y; heads, nope,
      // eps and, where the cache is int8, its bits
      if (!(counts(11, 1, 3) || (counts(11, 1, 4) && op.attrs[3].i == 8)) || !has(2) || !floats(2, arg(op, 2).row_elements) || !weight(3, DType::kMatrix) ||
          !weight(4, DType::kMatrix) || !has(5) || !floats(5, arg(op, 5).row_elements) || !size_attr(0) ||
          !size_attr(1) || !float_attr(2))
        return bad;
      const MlaWeights w = mla_weights(op);
      const bool matrices = w.absorb_k.groups == w.heads && w.expand_v.groups == w.heads && w.absorb_k.cols == w.nope &&
                            w.absorb_k.rows == w.latent && w.expand_v.cols == w.latent;
      if (!matrices) return bad;
      if (w.int8_cache && w.latent + w.rope > Cache::kMaxPart) return too_wide;
      *scratch = mla_scratch(w, kMaxTokens);
      const size_t heads = w.heads;
      return state(6, w.latent + w.rope) && chunk(7) && rows_of(op.args[0], heads * (w.nope + w.rope), false) &&
                     rows_of(op.args[1], w.latent + w.rope, false) && rows_of(op.outs[0], heads * w.v_dim, true)
                 ? kStatusOk
                 : bad;
    }
    case Opcode::kGqaAttention: {
      // q, k, v, inv_freq, key cache, value cache, positions, n_past, tree_mask, kv_src, tree_rows or nothing -> y;
      // heads, kv_heads and, where the caches are int8, their bits
      if (op.args.size() != 10 && !(op.args.size() == 11 && ints(10, false, 1))) return bad;
      if (!(counts(op.args.size(), 1, 2) || (counts(op.args.size(), 1, 3) && op.attrs[2].i == 8))) return bad;
      if (!has(3) || !floats(3, arg(op, 3).row_elements) || !size_attr(0) || !size_attr(1)) return bad;
      const GqaWeights w = gqa_weights(op);
      if (w.heads % w.kv_heads != 0) return bad;
      if (w.int8_cache && w.head_dim > Cache::kMaxPart) return too_wide;
      *scratch = gqa_scratch(w, kMaxTokens);
      const size_t kv = static_cast<size_t>(w.kv_heads) * w.head_dim, q = static_cast<size_t>(w.heads) * w.head_dim;
      return state(4, kv) && state(5, kv) && arg(op, 4).dims[0] == arg(op, 5).dims[0] && chunk(6) &&
                     rows_of(op.args[0], q, false) && rows_of(op.args[1], kv, false) &&
                     rows_of(op.args[2], kv, false) && rows_of(op.outs[0], q, true)
                 ? kStatusOk
                 : bad;
    }
  }
  return corrupt("the program has an operator that this library does not know; update the library");
}

// Finds the first and the last operator that touch each value (-1: none), and refuses programs that
// read what nothing wrote, write twice, or let two operators advance one cache.
Status Program::check_lives(std::vector<int>* first, std::vector<int>* last) const {
  first->assign(values_.size(), -1);
  last->assign(values_.size(), -1);
  for (int i = 0; i < static_cast<int>(ops_.size()); ++i) {
    for (int32_t id : ops_[i].args) {
      if (id < 0) continue;
      const Kind kind = values_[id].kind;
      if ((kind == Kind::kTemporary || kind == Kind::kOutput) && (*first)[id] < 0)
        return corrupt("an operator reads a value before it is written");
      if (kind == Kind::kState) {
        if ((*first)[id] >= 0) return corrupt("a cache is used twice");
        (*first)[id] = i;
      }
      (*last)[id] = i;
    }
    for (int32_t id : ops_[i].outs) {
      if ((*first)[id] >= 0) return corrupt("a value is written twice");
      (*first)[id] = (*last)[id] = i;
    }
  }
  for (uint32_t id : outputs_)
    if ((*first)[id] < 0) return corrupt("an output is never written");
  return kStatusOk;
}

// Bytes of a cache, which belongs to one attention operator or to none.
size_t Program::state_bytes(const Value& v, int op) const {
  if (op < 0) return v.elements(0) * sizeof(float);
  const Op& owner = ops_[op];
  const Cache cache =
      owner.code == Opcode::kMlaAttention ? mla_weights(owner).cache(nullptr) : gqa_weights(owner).cache(nullptr);
  return static_cast<size_t>(v.dims[0]) * cache.row_bytes();
}

// Places temporaries so that values whose lives overlap never share memory: first fit by offset.
Status Program::plan_memory(size_t max_working_bytes) {
  struct Span {
    size_t offset, bytes;
    int first, last;
  };
  std::vector<int> first, last;
  if (Status s = check_lives(&first, &last); !s.ok()) return s;

  // At most kMaxCount values of kMaxElements * 64 floats: none of these sums can overflow.
  std::vector<Span> placed;
  std::vector<size_t> offset(values_.size(), 0);
  for (size_t id = 0; id < values_.size(); ++id) {
    if (values_[id].kind == Kind::kState) state_bytes_ += round_up(state_bytes(values_[id], first[id]), kAlign);
    if (values_[id].kind != Kind::kTemporary || first[id] < 0) continue;
    Span s{0, round_up(values_[id].elements(kMaxTokens) * sizeof(float), kAlign), first[id], last[id]};
    for (const Span& other : placed) {  // kept sorted by offset
      if (other.last < s.first || other.first > s.last) continue;
      if (s.offset + s.bytes <= other.offset) break;
      s.offset = std::max(s.offset, other.offset + other.bytes);
    }
    placed.insert(std::upper_bound(placed.begin(), placed.end(), s,
                                   [](const Span& a, const Span& b) { return a.offset < b.offset; }),
                  s);
    offset[id] = s.offset;
    arena_bytes_ = std::max(arena_bytes_, s.offset + s.bytes);
  }

  const Status too_large{
      Status::kNoMemory,
      "not enough memory for the model's activations and cache; export it with a smaller --max-context"};
  const size_t total = arena_bytes_ + scratch_bytes_ + state_bytes_;
  if (total > max_working_bytes) return too_large;
  // Pages of the cache become resident only as the context grows: nothing here touches them.
  auto* base = aligned_memory(std::max(total, kAlign));
  if (base == nullptr) return too_large;
  memory_ = {base, [](uint8_t* p) { std::free(p); }};
  scratch_ = base + arena_bytes_;
  uint8_t* state = scratch_ + scratch_bytes_;
  for (size_t id = 0; id < values_.size(); ++id) {
    Value& v = values_[id];
    if (v.kind == Kind::kTemporary) v.data = base + offset[id];
    if (v.kind != Kind::kState) continue;
    v.data = state;
    state += round_up(state_bytes(v, first[id]), kAlign);
  }
  return kStatusOk;
}

}  // namespace blockffn
