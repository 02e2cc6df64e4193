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

// Whether one operator fits its values: everything that does not depend on the data of a run.
class OpCheck {
 public:
  OpCheck(const Program& program, const Op& op) : program_(program), op_(op) {}

  // *scratch receives the bytes of scratch memory that a chunk of kMaxTokens needs.
  Status check(size_t* scratch) const {
    switch (op_.code) {
      case Opcode::kEmbedding:
        return embedding();
      case Opcode::kRmsNorm:
        return rms_norm();
      case Opcode::kLinear:
      case Opcode::kLogits:
        return linear(scratch);
      case Opcode::kSiluMul:
      case Opcode::kAdd:
        return elementwise();
      case Opcode::kChunkSparseFfn:
        return chunk_sparse_ffn(scratch);
      case Opcode::kMlaAttention:
        return mla_attention(scratch);
      case Opcode::kGqaAttention:
        return gqa_attention(scratch);
    }
    return corrupt("the program has an operator that this library does not know; update the library");
  }

 private:
  static Status fits(bool yes) { return yes ? kStatusOk : corrupt("an operator does not fit its values"); }

  // ids, table -> y; scale
  Status embedding() const {
    if (!counts(2, 1, 1) || !float_attr(0) || !ints(0, true, 1) || !weight(1, DType::kMatrix)) return fits(false);
    const Matrix& table = arg(1).matrix;
    return fits(table.groups == 1 && writes(table.cols));
  }

  // x, weight -> y; eps
  Status rms_norm() const {
    if (!counts(2, 1, 1) || !float_attr(0) || !vector(1)) return fits(false);
    const size_t n = arg(1).row_elements;
    return fits(reads(0, n) && writes(n));
  }

  // kLinear: x, weight, bias or none -> y; scale. kLogits: x, weight, first row -> y; scale
  Status linear(size_t* scratch) const {
    if (!counts(3, 1, 1) || !float_attr(0) || !weight(1, DType::kMatrix)) return fits(false);
    const Matrix& w = arg(1).matrix;
    const size_t in = static_cast<size_t>(w.groups) * w.cols, out = static_cast<size_t>(w.groups) * w.rows;
    const bool bias = !has(2) || (vector(2) && arg(2).row_elements == out);
    *scratch = linear_scratch(w, kMaxTokens);
    return fits((op_.code == Opcode::kLogits ? ints(2, false, 1) : bias) && reads(0, in) && writes(out));
  }

  // a, b -> y
  Status elementwise() const {
    if (!counts(2, 1, 0)) return fits(false);
    const size_t n = value(op_.outs[0]).row_elements;
    return fits(reads(0, n) && reads(1, n) && writes(n));
  }

  // x, ffn -> y
  Status chunk_sparse_ffn(size_t* scratch) const {
    if (!counts(2, 1, 0) || !weight(1, DType::kFfn)) return fits(false);
    const Ffn& w = arg(1).ffn;
    *scratch = ffn_scratch(w, kMaxTokens);
    return fits(reads(0, w.hidden) && writes(w.hidden));
  }

  // q, kv, kv_norm, absorb_k, expand_v, inv_freq, cache, positions, n_past, tree_mask, kv_src -> y; heads, nope, eps
  // and, where the cache is int8, its bits
  Status mla_attention(size_t* scratch) const {
    if (!counts(11, 1, 3) && !(counts(11, 1, 4) && op_.attrs[3].i == 8)) return fits(false);
    if (!size_attr(0) || !size_attr(1) || !float_attr(2)) return fits(false);
    if (!vector(2) || !weight(3, DType::kMatrix) || !weight(4, DType::kMatrix) || !vector(5)) return fits(false);
    const MlaWeights w = program_.mla_weights(op_);
    if (w.absorb_k.groups != w.heads || w.absorb_k.cols != w.nope || w.absorb_k.rows != w.latent) return fits(false);
    if (w.expand_v.groups != w.heads || w.expand_v.cols != w.latent) return fits(false);
    if (w.int8_cache && w.latent + w.rope > Cache::kMaxPart) return too_wide();
    *scratch = mla_scratch(w, kMaxTokens);
    const size_t heads = w.heads, row = static_cast<size_t>(w.latent) + w.rope;
    return fits(reads(0, heads * (w.nope + w.rope)) && reads(1, row) && state(6, row) && chunk(7) &&
                writes(heads * w.v_dim));
  }

  // q, k, v, inv_freq, key cache, value cache, positions, n_past, tree_mask, kv_src, tree_rows or nothing -> y; heads,
  // kv_heads and, where the caches are int8, their bits
  Status gqa_attention(size_t* scratch) const {
    const size_t args = op_.args.size();
    if (args != 10 && !(args == 11 && ints(10, false, 1))) return fits(false);
    if (!counts(args, 1, 2) && !(counts(args, 1, 3) && op_.attrs[2].i == 8)) return fits(false);
    if (!size_attr(0) || !size_attr(1) || !vector(3)) return fits(false);
    const GqaWeights w = program_.gqa_weights(op_);
    if (w.heads % w.kv_heads != 0) return fits(false);
    if (w.int8_cache && w.head_dim > Cache::kMaxPart) return too_wide();
    *scratch = gqa_scratch(w, kMaxTokens);
    const size_t kv = static_cast<size_t>(w.kv_heads) * w.head_dim, q = static_cast<size_t>(w.heads) * w.head_dim;
    return fits(reads(0, q) && reads(1, kv) && reads(2, kv) && state(4, kv) && state(5, kv) &&
                arg(4).dims[0] == arg(5).dims[0] && chunk(6) && writes(q));
  }

  static Status too_wide() { return corrupt("a head is too wide for an int8 cache; export with --kv fp32"); }

  bool counts(size_t args, size_t outs, size_t attrs) const {
    return op_.args.size() == args && op_.outs.size() == outs && op_.attrs.size() == attrs;
  }
  bool float_attr(size_t i) const {
    return std::abs(op_.attrs[i].f) <= std::numeric_limits<float>::max();  // not NaN either
  }
  bool size_attr(size_t i) const { return op_.attrs[i].i >= 1 && op_.attrs[i].i <= kMaxDim; }

  const Value& value(int32_t id) const { return program_.values()[id]; }
  const Value& arg(size_t i) const { return value(op_.args[i]); }
  bool has(size_t i) const { return op_.args[i] >= 0; }
  bool weight(size_t i, DType dtype) const { return has(i) && arg(i).kind == Kind::kWeight && arg(i).dtype == dtype; }
  bool vector(size_t i) const { return weight(i, DType::kFloat) && arg(i).rank == 1; }
  bool ints(size_t i, bool dynamic, size_t n) const {
    return has(i) && arg(i).kind == Kind::kInput && arg(i).dtype == DType::kInt64 && arg(i).dynamic == dynamic &&
           arg(i).row_elements == n;
  }
  bool chunk(size_t i) const {
    return ints(i, true, 1) && ints(i + 1, false, 1) && ints(i + 2, true, 1) && ints(i + 3, false, kMaxTokens);
  }
  bool state(size_t i, size_t cols) const {
    return has(i) && arg(i).kind == Kind::kState && arg(i).dtype == DType::kFloat &&
           arg(i).row_elements == cols * static_cast<size_t>(arg(i).dims[0]);
  }
  // Float activations of T rows with `cols` values each.
  static bool rows(const Value& v, size_t cols) {
    return v.dtype == DType::kFloat && v.dynamic && v.row_elements == cols;
  }
  bool reads(size_t i, size_t cols) const {
    if (!has(i)) return false;
    const Kind kind = arg(i).kind;
    return (kind == Kind::kTemporary || kind == Kind::kOutput || kind == Kind::kInput) && rows(arg(i), cols);
  }
  bool writes(size_t cols) const {
    const Value& v = value(op_.outs[0]);
    return (v.kind == Kind::kTemporary || v.kind == Kind::kOutput) && rows(v, cols);
  }

  const Program& program_;
  const Op& op_;
};

}  // namespace

Status Program::check_op(const Op& op, size_t* scratch) const { return OpCheck(*this, op).check(scratch); }

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
