#include "program.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace blockffn {
namespace {

constexpr uint16_t kVersion = 1;
constexpr size_t kHeader = 32, kValueRecord = 48;
constexpr uint32_t kMaxCount = 1u << 20;
constexpr int64_t kMaxElements = int64_t{1} << 40;

constexpr Status corrupt(const char* message) { return {Status::kCorrupt, message}; }

// Reads the blob front to back; every read is checked, and a failed one leaves zero.
class Reader {
 public:
  Reader(const uint8_t* data, size_t bytes) : p_(data), left_(bytes) {}
  bool ok() const { return ok_; }
  const uint8_t* bytes(size_t n) {
    if (n > left_) {
      ok_ = false;
      left_ = 0;
      return nullptr;
    }
    const uint8_t* at = p_;
    p_ += n;
    left_ -= n;
    consumed_ += n;
    return at;
  }
  template <class T>
  T take() {
    T v{};
    if (const uint8_t* at = bytes(sizeof(T))) std::memcpy(&v, at, sizeof(T));
    return v;
  }
  void pad(size_t multiple) { bytes(round_up(consumed_, multiple) - consumed_); }

 private:
  const uint8_t* p_;
  size_t left_, consumed_ = 0;
  bool ok_ = true;
};

template <class T>
T read(const uint8_t* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

}  // namespace

const char* opcode_name(Opcode code) {
  switch (code) {
    case Opcode::kEmbedding: return "embedding";
    case Opcode::kRmsNorm: return "rms_norm";
    case Opcode::kLinear: return "linear";
    case Opcode::kLogits: return "logits";
    case Opcode::kSiluMul: return "silu_mul";
    case Opcode::kAdd: return "add";
    case Opcode::kChunkSparseFfn: return "chunk_sparse_ffn";
    case Opcode::kMlaAttention: return "mla_attention";
    case Opcode::kGqaAttention: return "gqa_attention";
  }
  return "unknown";
}

Status Program::parse(const uint8_t* blob, size_t bytes, FindWeights find, void* find_context, std::unique_ptr<Program>* out) {
  Reader in(blob, bytes);
  const uint8_t* magic = in.bytes(4);
  if (magic == nullptr || std::memcmp(magic, "BFPG", 4) != 0) return corrupt("this is not a BlockFFN program");
  if (in.take<uint16_t>() != kVersion) return corrupt("the program has another format version than this library; export the model again");
  in.take<uint16_t>();
  const uint32_t n_values = in.take<uint32_t>(), n_ops = in.take<uint32_t>(), n_inputs = in.take<uint32_t>(), n_outputs = in.take<uint32_t>();
  const uint32_t key_bytes = in.take<uint32_t>();
  in.take<uint32_t>();
  if (!in.ok() || n_values > kMaxCount || n_ops > kMaxCount || n_inputs > n_values || n_outputs > n_values || key_bytes > 255)
    return corrupt("the program's header is damaged");
  char key[256] = {};
  if (const uint8_t* at = in.bytes(key_bytes)) std::memcpy(key, at, key_bytes);
  in.pad(8);
  const uint8_t* records = in.bytes(static_cast<size_t>(n_values) * kValueRecord);
  if (!in.ok()) return corrupt("the program is truncated");

  const uint8_t* weights = nullptr;
  size_t weights_bytes = 0;
  if (key_bytes > 0)
    if (Status s = find(find_context, key, &weights, &weights_bytes); !s.ok()) return s;

  auto program = std::make_unique<Program>();
  program->weights_bytes_ = static_cast<int64_t>(weights_bytes);
  if (Status s = program->parse_values(records, n_values, weights, weights_bytes); !s.ok()) return s;

  for (uint32_t i = 0; i < n_ops && in.ok(); ++i) {
    Op op;
    op.code = static_cast<Opcode>(in.take<uint16_t>());
    const uint16_t n_args = in.take<uint16_t>(), n_outs = in.take<uint16_t>(), n_attrs = in.take<uint16_t>();
    if (n_args > 32 || n_outs > 4 || n_attrs > 32) return corrupt("an operator record is damaged");
    for (int k = 0; k < n_args; ++k) op.args.push_back(in.take<int32_t>());
    for (int k = 0; k < n_outs; ++k) op.outs.push_back(in.take<int32_t>());
    in.pad(8);
    for (int k = 0; k < n_attrs; ++k) op.attrs.push_back(Attr{in.take<int64_t>()});
    for (int32_t id : op.args)
      if (id < -1 || id >= static_cast<int32_t>(n_values)) return corrupt("an operator names a value that does not exist");
    for (int32_t id : op.outs)
      if (id < 0 || id >= static_cast<int32_t>(n_values)) return corrupt("an operator names a value that does not exist");
    program->ops_.push_back(std::move(op));
  }
  for (uint32_t i = 0; i < n_inputs; ++i) program->inputs_.push_back(in.take<uint32_t>());
  for (uint32_t i = 0; i < n_outputs; ++i) program->outputs_.push_back(in.take<uint32_t>());
  if (!in.ok()) return corrupt("the program is truncated");
  for (uint32_t id : program->inputs_)
    if (id >= n_values || program->values_[id].kind != Kind::kInput) return corrupt("the program's inputs are damaged");
  for (uint32_t id : program->outputs_)
    if (id >= n_values || program->values_[id].kind != Kind::kOutput) return corrupt("the program's outputs are damaged");

  for (const Op& op : program->ops_) {
    size_t scratch = 0;
    if (Status s = program->check_op(op, &scratch); !s.ok()) return s;
    program->scratch_bytes_ = std::max(program->scratch_bytes_, scratch);
  }
  if (Status s = program->plan_memory(); !s.ok()) return s;
  *out = std::move(program);
  return kStatusOk;
}

Status Program::parse_values(const uint8_t* records, uint32_t n, const uint8_t* weights, size_t weights_bytes) {
  values_.resize(n);
  for (uint32_t i = 0; i < n; ++i) {
    const uint8_t* r = records + static_cast<size_t>(i) * kValueRecord;
    Value& v = values_[i];
    if (r[0] > static_cast<uint8_t>(Kind::kState) || r[1] > static_cast<uint8_t>(DType::kFfn)) return corrupt("a value record is damaged");
    v.kind = static_cast<Kind>(r[0]);
    v.dtype = static_cast<DType>(r[1]);
    v.rank = read<uint16_t>(r + 2);
    if (v.rank > 4) return corrupt("a value record is damaged");
    int64_t elements = 1;
    for (int d = 0; d < v.rank; ++d) {
      v.dims[d] = read<int32_t>(r + 4 + 4 * d);
      if (v.dims[d] == -1) {
        if (v.dynamic) return corrupt("a value has two dynamic dimensions");
        v.dynamic = true;
      } else if (v.dims[d] < 1 || (elements *= v.dims[d]) > kMaxElements) {
        return corrupt("a value has an impossible shape");
      }
    }
    v.row_elements = static_cast<size_t>(elements);
    const bool packed = v.dtype == DType::kMatrix || v.dtype == DType::kFfn;
    if (v.kind == Kind::kWeight) {
      const uint64_t offset = read<uint64_t>(r + 24), size = read<uint64_t>(r + 32);
      if (v.dynamic || offset % kAlign != 0 || offset > weights_bytes || size > weights_bytes - offset) return corrupt("a weight lies outside the weights segment");
      const uint8_t* data = weights + offset;
      v.data = const_cast<uint8_t*>(data);
      Status s;
      if (v.dtype == DType::kMatrix) s = parse_matrix(data, size, &v.matrix);
      else if (v.dtype == DType::kFfn) s = parse_ffn(data, size, &v.ffn);
      else if (v.dtype != DType::kFloat || size != v.row_elements * sizeof(float)) s = corrupt("a weight has the wrong size");
      if (!s.ok()) return s;
      if (reinterpret_cast<uintptr_t>(data) % alignof(float) != 0) return corrupt("the weights segment is not aligned");
    } else if (packed || (v.dtype == DType::kInt64 && v.kind != Kind::kInput)) {
      return corrupt("a value has a type that its kind cannot have");
    }
    if (v.kind == Kind::kState && (v.dynamic || v.rank < 2)) return corrupt("a state needs a fixed shape");
  }
  return kStatusOk;
}

// Everything about an operator that does not depend on the data of a run.
Status Program::check_op(const Op& op, size_t* scratch) {
  const Status bad = corrupt("an operator does not fit its values");
  const auto counts = [&](size_t args, size_t outs, size_t attrs) { return op.args.size() == args && op.outs.size() == outs && op.attrs.size() == attrs; };
  const auto has = [&](size_t i) { return op.args[i] >= 0; };
  // A float activation of T rows with `cols` values each.
  const auto rows_of = [&](int32_t id, size_t cols, bool output) {
    if (id < 0) return false;
    const Value& v = values_[id];
    const bool kind = v.kind == Kind::kTemporary || v.kind == Kind::kOutput || (!output && v.kind == Kind::kInput);
    return kind && v.dtype == DType::kFloat && v.dynamic && v.row_elements == cols;
  };
  const auto weight = [&](size_t i, DType dtype) { return has(i) && arg(op, i).kind == Kind::kWeight && arg(op, i).dtype == dtype; };
  const auto floats = [&](size_t i, size_t n) { return weight(i, DType::kFloat) && arg(op, i).row_elements == n; };
  const auto ints = [&](size_t i, bool dynamic, size_t n) {
    return has(i) && arg(op, i).kind == Kind::kInput && arg(op, i).dtype == DType::kInt64 && arg(op, i).dynamic == dynamic && arg(op, i).row_elements == n;
  };
  const auto state = [&](size_t i, size_t cols) {
    return has(i) && arg(op, i).kind == Kind::kState && arg(op, i).dtype == DType::kFloat && arg(op, i).row_elements == cols * static_cast<size_t>(arg(op, i).dims[0]);
  };
  const auto chunk = [&](size_t i) { return ints(i, true, 1) && ints(i + 1, false, 1) && ints(i + 2, true, 1) && ints(i + 3, false, kMaxTokens); };
  const auto size_attr = [&](size_t i) { return op.attrs[i].i >= 1 && op.attrs[i].i <= (1 << 24); };

  switch (op.code) {
    case Opcode::kEmbedding: {  // ids, table -> y; scale
      if (!counts(2, 1, 1) || !ints(0, true, 1) || !weight(1, DType::kMatrix)) return bad;
      const Matrix& table = arg(op, 1).matrix;
      return table.groups == 1 && rows_of(op.outs[0], table.cols, true) ? kStatusOk : bad;
    }
    case Opcode::kRmsNorm: {  // x, weight -> y; eps
      if (!counts(2, 1, 1) || !has(1) || !floats(1, arg(op, 1).row_elements)) return bad;
      const size_t n = arg(op, 1).row_elements;
      return rows_of(op.args[0], n, false) && rows_of(op.outs[0], n, true) ? kStatusOk : bad;
    }
    case Opcode::kLinear:    // x, weight, bias or none -> y; scale
    case Opcode::kLogits: {  // x, weight, first row -> y; scale
      if (!counts(3, 1, 1) || !weight(1, DType::kMatrix)) return bad;
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
      return rows_of(op.args[0], n, false) && rows_of(op.args[1], n, false) && rows_of(op.outs[0], n, true) ? kStatusOk : bad;
    }
    case Opcode::kChunkSparseFfn: {  // x, ffn -> y
      if (!counts(2, 1, 0) || !weight(1, DType::kFfn)) return bad;
      const Ffn& w = arg(op, 1).ffn;
      *scratch = ffn_scratch(w, kMaxTokens);
      return rows_of(op.args[0], w.hidden, false) && rows_of(op.outs[0], w.hidden, true) ? kStatusOk : bad;
    }
    case Opcode::kMlaAttention: {
      // q, kv, kv_norm, absorb_k, expand_v, inv_freq, cache, positions, n_past, tree_mask, kv_src -> y; heads, nope, eps
      if (!counts(11, 1, 3) || !has(2) || !weight(3, DType::kMatrix) || !weight(4, DType::kMatrix) || !has(5) || !size_attr(0) || !size_attr(1)) return bad;
      const MlaWeights w = mla_weights(op);
      const bool matrices = w.absorb_k.groups == w.heads && w.expand_v.groups == w.heads && w.absorb_k.cols == w.nope &&
                            w.absorb_k.rows == w.latent && w.expand_v.cols == w.latent;
      if (!matrices || !floats(2, w.latent) || !floats(5, w.rope / 2) || w.rope < 2) return bad;
      *scratch = mla_scratch(w, kMaxTokens);
      const size_t heads = w.heads;
      return state(6, w.latent + w.rope) && chunk(7) && rows_of(op.args[0], heads * (w.nope + w.rope), false) &&
                     rows_of(op.args[1], w.latent + w.rope, false) && rows_of(op.outs[0], heads * w.v_dim, true)
                 ? kStatusOk
                 : bad;
    }
    case Opcode::kGqaAttention: {
      // q, k, v, inv_freq, key cache, value cache, positions, n_past, tree_mask, kv_src -> y; heads, kv_heads
      if (!counts(10, 1, 2) || !has(3) || !size_attr(0) || !size_attr(1)) return bad;
      const GqaWeights w = gqa_weights(op);
      if (w.heads % w.kv_heads != 0 || w.head_dim < 2 || !floats(3, w.head_dim / 2)) return bad;
      *scratch = gqa_scratch(w, kMaxTokens);
      const size_t kv = static_cast<size_t>(w.kv_heads) * w.head_dim, q = static_cast<size_t>(w.heads) * w.head_dim;
      return state(4, kv) && state(5, kv) && arg(op, 4).dims[0] == arg(op, 5).dims[0] && chunk(6) && rows_of(op.args[0], q, false) &&
                     rows_of(op.args[1], kv, false) && rows_of(op.args[2], kv, false) && rows_of(op.outs[0], q, true)
                 ? kStatusOk
                 : bad;
    }
  }
  return corrupt("the program has an operator that this library does not know; update the library");
}

// Places temporaries so that values whose lives overlap never share memory: first fit by offset.
Status Program::plan_memory() {
  struct Span {
    size_t offset, bytes;
    int first, last;
  };
  std::vector<int> first(values_.size(), -1), last(values_.size(), -1);
  for (int i = 0; i < static_cast<int>(ops_.size()); ++i) {
    for (int32_t id : ops_[i].args)
      if (id >= 0) {
        const Value& v = values_[id];
        if ((v.kind == Kind::kTemporary || v.kind == Kind::kOutput) && first[id] < 0) return corrupt("an operator reads a value before it is written");
        last[id] = i;
      }
    for (int32_t id : ops_[i].outs) {
      if (first[id] >= 0) return corrupt("a value is written twice");
      first[id] = last[id] = i;
    }
  }
  for (uint32_t id : outputs_)
    if (first[id] < 0) return corrupt("an output is never written");

  std::vector<Span> placed;
  std::vector<size_t> offset(values_.size(), 0);
  for (size_t id = 0; id < values_.size(); ++id) {
    if (values_[id].kind != Kind::kTemporary || first[id] < 0) continue;
    Span s{0, round_up(values_[id].elements(kMaxTokens) * sizeof(float), kAlign), first[id], last[id]};
    for (const Span& other : placed) {  // kept sorted by offset
      if (other.last < s.first || other.first > s.last) continue;
      if (s.offset + s.bytes <= other.offset) break;
      s.offset = std::max(s.offset, other.offset + other.bytes);
    }
    placed.insert(std::upper_bound(placed.begin(), placed.end(), s, [](const Span& a, const Span& b) { return a.offset < b.offset; }), s);
    offset[id] = s.offset;
    arena_bytes_ = std::max(arena_bytes_, s.offset + s.bytes);
  }
  for (Value& v : values_)
    if (v.kind == Kind::kState) state_bytes_ += round_up(v.elements(0) * sizeof(float), kAlign);

  const size_t total = arena_bytes_ + round_up(scratch_bytes_, kAlign) + state_bytes_;
  // Pages of the cache become resident only as the context grows: nothing here touches them.
  auto* base = static_cast<uint8_t*>(std::aligned_alloc(kAlign, round_up(std::max(total, kAlign), kAlign)));
  if (base == nullptr) return {Status::kInvalidArgument, "not enough memory for the model's activations and cache; export it with a smaller --max-context"};
  memory_ = {base, [](uint8_t* p) { std::free(p); }};
  for (size_t id = 0; id < values_.size(); ++id)
    if (values_[id].kind == Kind::kTemporary) values_[id].data = base + offset[id];
  scratch_ = base + arena_bytes_;
  uint8_t* state = scratch_ + round_up(scratch_bytes_, kAlign);
  for (Value& v : values_)
    if (v.kind == Kind::kState) {
      v.data = state;
      state += round_up(v.elements(0) * sizeof(float), kAlign);
    }
  return kStatusOk;
}

MlaWeights Program::mla_weights(const Op& op) const {
  MlaWeights w;
  w.kv_norm = static_cast<const float*>(arg(op, 2).data);
  w.kv_norm_eps = static_cast<float>(op.attrs[2].f);
  w.absorb_k = arg(op, 3).matrix;
  w.expand_v = arg(op, 4).matrix;
  w.inv_freq = static_cast<const float*>(arg(op, 5).data);
  w.heads = static_cast<int>(op.attrs[0].i);
  w.nope = static_cast<int>(op.attrs[1].i);
  w.rope = static_cast<int>(arg(op, 5).row_elements) * 2;
  w.latent = static_cast<int>(arg(op, 2).row_elements);
  w.v_dim = w.expand_v.rows;
  return w;
}

GqaWeights Program::gqa_weights(const Op& op) const {
  return {static_cast<const float*>(arg(op, 3).data), static_cast<int>(op.attrs[0].i), static_cast<int>(op.attrs[1].i),
          static_cast<int>(arg(op, 3).row_elements) * 2};
}

Status Program::chunk_of(const Op& op, int first_arg, int tokens, Value& state, Chunk* chunk) const {
  const auto ints = [&](int i) { return static_cast<const int64_t*>(arg(op, first_arg + i).data); };
  *chunk = {tokens, *ints(1), ints(0), ints(2), ints(3)};
  if (Status s = check_chunk(*chunk, state.dims[0], state.rows_written); !s.ok()) return s;
  state.rows_written = chunk->n_past + tokens;
  return kStatusOk;
}

Status Program::run(int tokens, const Parallel& parallel, const Observer& observer, ReadStats* stats) {
  if (tokens < 1 || tokens > kMaxTokens) return {Status::kInvalidArgument, "a chunk must hold 1 to 64 tokens"};
  static const Kernels& kernels = select_kernels();
  const Context ctx{&kernels, parallel, scratch_};
  for (Op& op : ops_) {
    int union_size = -1;
    const char* name = opcode_name(op.code);
    if (observer.begin != nullptr) observer.begin(observer.context, name);
    if (Status s = run_op(op, ctx, tokens, &union_size); !s.ok()) return s;
    if (observer.end != nullptr) observer.end(observer.context, name, tokens, union_size);
    if (union_size >= 0) {
      stats->ffn_calls += 1;
      stats->experts_read += union_size;
      stats->experts_total += arg(op, 1).ffn.experts;
    }
  }
  stats->calls += 1;
  stats->tokens += tokens;
  return kStatusOk;
}

Status Program::run_op(Op& op, const Context& ctx, int tokens, int* union_size) {
  const auto in = [&](size_t i) { return static_cast<const float*>(op.args[i] < 0 ? nullptr : arg(op, i).data); };
  float* y = static_cast<float*>(values_[op.outs[0]].data);
  const size_t y_elements = values_[op.outs[0]].elements(tokens);
  switch (op.code) {
    case Opcode::kEmbedding:
      return embedding(ctx, arg(op, 1).matrix, static_cast<float>(op.attrs[0].f), static_cast<const int64_t*>(arg(op, 0).data), tokens, y);
    case Opcode::kRmsNorm:
      return rms_norm(in(1), static_cast<float>(op.attrs[0].f), in(0), tokens, static_cast<int>(arg(op, 1).row_elements), y);
    case Opcode::kLinear:
      linear(ctx, arg(op, 1).matrix, in(2), static_cast<float>(op.attrs[0].f), in(0), tokens, 0, y);
      return kStatusOk;
    case Opcode::kLogits: {
      const int64_t first = *static_cast<const int64_t*>(arg(op, 2).data);
      if (first < 0 || first > tokens) return {Status::kInvalidArgument, "logits_start is outside the chunk"};
      linear(ctx, arg(op, 1).matrix, nullptr, static_cast<float>(op.attrs[0].f), in(0), tokens, static_cast<int>(first), y);
      return kStatusOk;
    }
    case Opcode::kSiluMul:
      silu_mul(ctx, in(0), in(1), static_cast<int64_t>(y_elements), y);
      return kStatusOk;
    case Opcode::kAdd: {
      const float *a = in(0), *b = in(1);
      for (size_t i = 0; i < y_elements; ++i) y[i] = a[i] + b[i];
      return kStatusOk;
    }
    case Opcode::kChunkSparseFfn:
      chunk_sparse_ffn(ctx, arg(op, 1).ffn, in(0), tokens, y, union_size);
      return kStatusOk;
    case Opcode::kMlaAttention: {
      Chunk chunk;
      Value& cache = values_[op.args[6]];
      if (Status s = chunk_of(op, 7, tokens, cache, &chunk); !s.ok()) return s;
      return mla_attention(ctx, mla_weights(op), chunk, in(0), in(1), static_cast<float*>(cache.data), y);
    }
    case Opcode::kGqaAttention: {
      Chunk chunk;
      Value &keys = values_[op.args[4]], &values = values_[op.args[5]];
      if (Status s = chunk_of(op, 6, tokens, keys, &chunk); !s.ok()) return s;
      return gqa_attention(ctx, gqa_weights(op), chunk, in(0), in(1), in(2), static_cast<float*>(keys.data), static_cast<float*>(values.data), y);
    }
  }
  return corrupt("the program has an operator that this library does not know");
}

}  // namespace blockffn
