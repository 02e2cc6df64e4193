// Running a program: checks what depends on the inputs, then calls one operator after the other.
#include <cstring>

#include "program.h"

namespace blockffn {
namespace {

bool is_attention(Opcode code) { return code == Opcode::kMlaAttention || code == Opcode::kGqaAttention; }

// Argument that holds the cache by which an attention operator counts its rows.
size_t first_cache(Opcode code) { return code == Opcode::kMlaAttention ? 6 : 4; }

size_t first_chunk_arg(Opcode code) { return code == Opcode::kMlaAttention ? 7 : 6; }

bool all_finite(const float* x, size_t n) {
  int32_t largest = 0;  // infinity and NaN have the largest exponent, and so the largest bits
  for (size_t i = 0; i < n; ++i) {
    int32_t bits;
    std::memcpy(&bits, x + i, sizeof bits);
    bits &= 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  return largest < 0x7f800000;
}

}  // namespace

const char* opcode_name(Opcode code) {
  switch (code) {
    case Opcode::kEmbedding:
      return "embedding";
    case Opcode::kRmsNorm:
      return "rms_norm";
    case Opcode::kLinear:
      return "linear";
    case Opcode::kLogits:
      return "logits";
    case Opcode::kSiluMul:
      return "silu_mul";
    case Opcode::kAdd:
      return "add";
    case Opcode::kChunkSparseFfn:
      return "chunk_sparse_ffn";
    case Opcode::kMlaAttention:
      return "mla_attention";
    case Opcode::kGqaAttention:
      return "gqa_attention";
  }
  return "unknown";
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
  w.int8_cache = op.attrs.size() > 3;
  return w;
}

GqaWeights Program::gqa_weights(const Op& op) const {
  return {static_cast<const float*>(arg(op, 3).data), static_cast<int>(op.attrs[0].i), static_cast<int>(op.attrs[1].i),
          static_cast<int>(arg(op, 3).row_elements) * 2, op.attrs.size() > 2};
}

// The arguments positions, n_past, tree_mask, kv_src and, where there is one, tree_rows end the list of an attention
// operator.
Chunk Program::chunk_of(const Op& op, int tokens) const {
  const size_t first = first_chunk_arg(op.code);
  const auto ints = [&](size_t i) { return static_cast<const int64_t*>(arg(op, first + i).data); };
  return {tokens, *ints(1), ints(0), ints(2), ints(3), op.args.size() > first + 4 ? *ints(4) : 0};
}

Status Program::check_inputs(int tokens) const {
  if (tokens < 1 || tokens > kMaxTokens) return {Status::kInvalidArgument, "a chunk must hold 1 to 64 tokens"};
  for (const Op& op : ops_) {
    const auto ints = [&](size_t i) { return static_cast<const int64_t*>(arg(op, i).data); };
    Status s = kStatusOk;
    if (op.code == Opcode::kEmbedding) {
      s = check_ids(arg(op, 1).matrix, ints(0), tokens);
    } else if (op.code == Opcode::kLogits) {
      if (*ints(2) < 0 || *ints(2) > tokens) s = {Status::kInvalidArgument, "logits_start is outside the chunk"};
    } else if (is_attention(op.code)) {
      const Value& cache = arg(op, first_cache(op.code));
      s = check_chunk(chunk_of(op, tokens), cache.dims[0], cache.rows_written);
    }
    if (!s.ok()) return s;
  }
  return kStatusOk;
}

Status Program::run(int tokens, const Parallel& parallel, const Observer& observer, ReadStats* stats) {
  if (Status s = check_inputs(tokens); !s.ok()) return s;
  // Until the run has succeeded, only the rows that it cannot touch count as written.
  for (const Op& op : ops_) {
    if (!is_attention(op.code)) continue;
    const Chunk chunk = chunk_of(op, tokens);
    Value& cache = values_[op.args[first_cache(op.code)]];
    cache.rows_written = chunk.n_past - kept_rows(chunk);
  }
  ReadStats read{1, tokens, 0, 0, 0};
  Status ran =
      accelerator_ != nullptr ? accelerator_->run(*this, tokens, &read) : run_ops(tokens, parallel, observer, &read);
  if (ran.code == Status::kLost) {
    accelerator_ = nullptr;  // and with it its caches: only a run that begins a text can go on without them
    bool begins = true;
    for (const Op& op : ops_) {
      if (!is_attention(op.code)) continue;
      begins = begins && chunk_of(op, tokens).n_past == 0;
      values_[op.args[first_cache(op.code)]].rows_written = 0;
    }
    read = {1, tokens, 0, 0, 0};
    if (begins)
      ran = run_ops(tokens, parallel, observer, &read);
    else
      ran.message = "the GPU was lost, and the context with it: begin the text again, it will run on the CPU";
  }
  if (!ran.ok()) return ran;
  for (uint32_t id : outputs_)
    if (!all_finite(static_cast<const float*>(values_[id].data), values_[id].elements(tokens)))
      return {Status::kNonFinite, "an output is not finite; the weights or the input are damaged"};
  for (const Op& op : ops_)
    if (is_attention(op.code))
      values_[op.args[first_cache(op.code)]].rows_written = chunk_of(op, tokens).n_past + tokens;
  stats->calls += read.calls;
  stats->tokens += read.tokens;
  stats->ffn_calls += read.ffn_calls;
  stats->experts_read += read.experts_read;
  stats->experts_total += read.experts_total;
  return kStatusOk;
}

Status Program::run_ops(int tokens, const Parallel& parallel, const Observer& observer, ReadStats* read) {
  const Context ctx{kernels_, parallel, scratch_, all_experts_};
  for (const Op& op : ops_) {
    int union_size = -1;
    const char* name = opcode_name(op.code);
    if (observer.begin != nullptr) observer.begin(observer.context, name);
    const Status s = run_op(op, ctx, tokens, &union_size);
    if (observer.end != nullptr) observer.end(observer.context, name, tokens, union_size);
    if (!s.ok()) return s;
    if (union_size >= 0) {
      read->ffn_calls += 1;
      read->experts_read += union_size;
      read->experts_total += arg(op, 1).ffn.experts;
    }
  }
  return kStatusOk;
}

Status Program::run_op(const Op& op, const Context& ctx, int tokens, int* union_size) {
  const auto in = [&](size_t i) { return static_cast<const float*>(op.args[i] < 0 ? nullptr : arg(op, i).data); };
  float* y = static_cast<float*>(values_[op.outs[0]].data);
  const auto state = [&](size_t i) { return arg(op, i).data; };
  const size_t y_elements = values_[op.outs[0]].elements(tokens);
  switch (op.code) {
    case Opcode::kEmbedding:
      embedding(ctx, arg(op, 1).matrix, static_cast<float>(op.attrs[0].f), static_cast<const int64_t*>(arg(op, 0).data),
                tokens, y);
      return kStatusOk;
    case Opcode::kRmsNorm:
      return rms_norm(in(1), static_cast<float>(op.attrs[0].f), in(0), tokens,
                      static_cast<int>(arg(op, 1).row_elements), y);
    case Opcode::kLinear:
      linear(ctx, arg(op, 1).matrix, in(2), static_cast<float>(op.attrs[0].f), in(0), tokens, 0, y);
      return kStatusOk;
    case Opcode::kLogits: {
      const int64_t first = *static_cast<const int64_t*>(arg(op, 2).data);
      linear(ctx, arg(op, 1).matrix, nullptr, static_cast<float>(op.attrs[0].f), in(0), tokens, static_cast<int>(first),
             y);
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
      return chunk_sparse_ffn(ctx, arg(op, 1).ffn, in(0), tokens, y, union_size);
    case Opcode::kMlaAttention:
      return mla_attention(ctx, mla_weights(op), chunk_of(op, tokens), in(0), in(1), state(6), y);
    case Opcode::kGqaAttention:
      gqa_attention(ctx, gqa_weights(op), chunk_of(op, tokens), in(0), in(1), in(2), state(4), state(5), y);
      return kStatusOk;
  }
  return {Status::kCorrupt, "the program has an operator that this library does not know"};
}

}  // namespace blockffn
