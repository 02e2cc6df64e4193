// Operator library for ONNX Runtime: domain "blockffn", the kernels of ops.h, the packed bytes of export/pack.py.
//
// Weights are uint8 tensors that the kernels read where the runtime maps them. Every operator checks its tensors in
// each call, because a model file may hold anything, and answers with a status. Nothing of a call is kept in a
// kernel: sessions may run at once, and one session on several threads if each binds its own caches.
// A cache is an input and an output. Where the caller binds one tensor as both it is updated in place; otherwise it
// is copied first.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "../kernels/ops.h"
#include "../kernels/scratch.h"
#include "ort_abi.h"

namespace blockffn::ort {
namespace {

constexpr int kMaxRank = 4, kMaxInputs = 11, kMaxAttributes = 3;
constexpr int kLikelyThreads = 4;  // the runtime does not tell an operator how many it has

Status invalid(const char* message) { return {Status::kInvalidArgument, message}; }

int code_of(const Status& status) {
  return status.code == Status::kCorrupt ? kInvalidGraph
         : status.code == Status::kNonFinite || status.code == Status::kNoMemory ? kFail
                                                                                 : kInvalidArgument;
}

struct Tensor {
  const uint8_t* data = nullptr;
  int64_t dims[kMaxRank] = {};
  size_t rank = 0;
  size_t elements = 0;

  const float* floats() const { return reinterpret_cast<const float*>(data); }
  const int64_t* ints() const { return reinterpret_cast<const int64_t*>(data); }
  int64_t last() const { return rank == 0 ? 0 : dims[rank - 1]; }
};

union Attribute {
  float f;
  int64_t i;
};

// Working memory of a thread that runs operators; it grows to the largest operator and stays.
struct ThreadScratch {
  uint8_t* data = nullptr;
  size_t bytes = 0;
  ~ThreadScratch() { std::free(data); }
  bool reserve(size_t needed) {
    if (needed <= bytes) return true;
    std::free(data);
    bytes = round_up(needed, kAlign);
    data = aligned_memory(bytes);
    if (data == nullptr) bytes = 0;
    return data != nullptr;
  }
};
thread_local ThreadScratch thread_scratch;

// One call of an operator: its tensors, and the first status that the runtime answered with.
class Call {
 public:
  Call(const Api& api, OrtKernelContext* context, const Attribute* attributes, const Kernels& kernels)
      : api_(api), context_(context), attributes_(attributes), kernels_(kernels) {}

  Tensor in[kMaxInputs];
  OrtStatus* runtime_error = nullptr;

  float f(int i) const { return attributes_[i].f; }
  int64_t i(int i) const { return attributes_[i].i; }

  bool load(size_t declared) {
    size_t count = 0;
    if (failed(api_.input_count(context_, &count))) return false;
    for (size_t i = 0; i < count && i < declared; ++i) {
      const OrtValue* value = nullptr;
      if (failed(api_.input(context_, i, &value))) return false;
      if (value == nullptr) continue;  // an optional input that is absent
      OrtTensorTypeAndShapeInfo* info = nullptr;
      if (failed(api_.type_and_shape(value, &info))) return false;
      Tensor& t = in[i];
      OrtStatus* status = api_.rank(info, &t.rank);
      if (status == nullptr && t.rank <= kMaxRank) status = api_.dims(info, t.dims, t.rank);
      api_.release(info);
      if (failed(status)) return false;
      if (t.rank > kMaxRank) return !failed(api_.create_status(kInvalidArgument, "an input has too many dimensions"));
      t.elements = 1;
      for (size_t d = 0; d < t.rank; ++d) t.elements *= static_cast<size_t>(t.dims[d]);
      void* data = nullptr;
      if (failed(api_.tensor_data(value, &data))) return false;
      t.data = static_cast<const uint8_t*>(data);
    }
    return true;
  }

  // Null if the runtime refuses; runtime_error says why.
  float* out(size_t i, const int64_t* dims, size_t rank) {
    OrtValue* value = nullptr;
    void* data = nullptr;
    if (failed(api_.output(context_, i, dims, rank, &value)) || failed(api_.tensor_data(value, &data))) return nullptr;
    return static_cast<float*>(data);
  }
  float* rows_out(int64_t tokens, int64_t cols) {
    const int64_t dims[] = {tokens, cols};
    return out(0, dims, 2);
  }
  // The cache of input i as output o, with the same contents.
  float* cache_out(size_t i, size_t o) {
    float* data = out(o, in[i].dims, in[i].rank);
    if (data != nullptr && data != in[i].floats()) std::memcpy(data, in[i].data, in[i].elements * sizeof(float));
    return data;
  }

  Context context(bool* enough, size_t scratch_bytes) {
    *enough = thread_scratch.reserve(scratch_bytes);
    return {&kernels_, {run_on_pool, this, kLikelyThreads}, thread_scratch.data};
  }

 private:
  bool failed(OrtStatus* status) {
    if (status == nullptr) return false;
    runtime_error = status;
    return true;
  }

  static void run_on_pool(void* pool, int64_t n, void (*task)(void*, int64_t), void* context) {
    struct Loop {
      void (*task)(void*, int64_t);
      void* context;
    } loop{task, context};
    const Call& call = *static_cast<Call*>(pool);
    const auto one = [](void* l, size_t i) {
      static_cast<Loop*>(l)->task(static_cast<Loop*>(l)->context, static_cast<int64_t>(i));
    };
    if (OrtStatus* status = call.api_.parallel_for(call.context_, one, static_cast<size_t>(n), 0, &loop)) {
      call.api_.release(status);  // it refuses before it starts
      for (int64_t i = 0; i < n; ++i) task(context, i);
    }
  }

  const Api& api_;
  OrtKernelContext* context_;
  const Attribute* attributes_;
  const Kernels& kernels_;
};

const Status kOutputRefused{Status::kInvalidArgument, "the runtime gave no output tensor"};
const Status kNoScratch{Status::kNoMemory, "not enough memory for an operator's working memory"};
const Status kMisaligned{Status::kCorrupt,
                         "packed weights must start at a multiple of 64 bytes; export the model again"};
const Status kWrongInput{Status::kInvalidArgument, "the activations do not fit the weights: wrong rank or width"};
const Status kWrongWeights{Status::kCorrupt, "the weights of an operator do not fit each other; export the model again"};
const Status kOutputNotFinite{Status::kNonFinite, "an output is not finite; the weights or the input are damaged"};

Status matrix_of(const Tensor& t, Matrix* out) {
  if (reinterpret_cast<uintptr_t>(t.data) % kAlign != 0) return kMisaligned;
  return parse_matrix(t.data, t.elements, out);
}

// Tokens of x [..., T, cols] whose other dimensions are 1, or -1.
int tokens_of(const Tensor& x, int64_t cols) {
  if (x.rank < 2 || cols < 1 || x.last() != cols || x.dims[x.rank - 2] < 1 || x.dims[x.rank - 2] > kMaxTokens) return -1;
  for (size_t d = 0; d + 2 < x.rank; ++d)
    if (x.dims[d] != 1) return -1;
  return static_cast<int>(x.dims[x.rank - 2]);
}

bool vector_of(const Tensor& t, size_t n) { return t.rank == 1 && t.elements == n; }

bool all_finite(const float* x, size_t n) {
  bool finite = true;
  for (size_t i = 0; i < n; ++i) finite &= std::abs(x[i]) <= std::numeric_limits<float>::max();
  return finite;
}

// token_ids [1, T], table -> y [T, D]
Status run_embedding(Call& call) {
  Matrix table;
  if (Status s = matrix_of(call.in[1], &table); !s.ok()) return s;
  const Tensor& ids = call.in[0];
  if (table.groups != 1) return kWrongWeights;
  if (ids.rank != 2 || ids.dims[0] != 1) return invalid("token_ids must be [1, T]");
  if (ids.elements < 1 || ids.elements > kMaxTokens) return invalid("a chunk must hold 1 to 64 tokens");
  const int tokens = static_cast<int>(ids.elements);
  if (Status s = check_ids(table, ids.ints(), tokens); !s.ok()) return s;
  float* y = call.rows_out(tokens, table.cols);
  if (y == nullptr) return kOutputRefused;
  bool enough;
  embedding(call.context(&enough, 0), table, call.f(0), ids.ints(), tokens, y);
  return kStatusOk;
}

Status norm(Call& call, bool batch) {
  const Tensor &x = call.in[0], &weight = call.in[1];
  const int tokens = tokens_of(x, static_cast<int64_t>(weight.elements));
  if (weight.rank != 1 || tokens < 0) return kWrongInput;
  const int64_t dims[] = {1, tokens, x.last()};
  float* y = call.out(0, batch ? dims : dims + 1, batch ? 3 : 2);
  if (y == nullptr) return kOutputRefused;
  if (Status s = rms_norm(weight.floats(), call.f(0), x.floats(), tokens, static_cast<int>(x.last()), y); !s.ok())
    return s;
  return !batch || all_finite(y, x.elements) ? kStatusOk : kOutputNotFinite;
}
Status run_rms_norm(Call& call) { return norm(call, false); }   // x [T, K], weight [K] -> y [T, K]
Status run_final_norm(Call& call) { return norm(call, true); }  // x [T, K], weight [K] -> y [1, T, K]

// x [T, K], weight, bias [N] or none -> y [T, N]
Status run_linear(Call& call) {
  Matrix w;
  if (Status s = matrix_of(call.in[1], &w); !s.ok()) return s;
  const int64_t in = static_cast<int64_t>(w.groups) * w.cols, out = static_cast<int64_t>(w.groups) * w.rows;
  const int tokens = tokens_of(call.in[0], in);
  if (tokens < 0) return kWrongInput;
  if (call.in[2].data != nullptr && !vector_of(call.in[2], static_cast<size_t>(out))) return kWrongWeights;
  float* y = call.rows_out(tokens, out);
  bool enough;
  const Context context = call.context(&enough, linear_scratch(w, tokens));
  if (y == nullptr || !enough) return y == nullptr ? kOutputRefused : kNoScratch;
  linear(context, w, call.in[2].floats(), call.f(0), call.in[0].floats(), tokens, 0, y);
  return kStatusOk;
}

// x [1, T, D] or [T, D], weight, first row [1] -> y [1, T, V]
Status run_logits(Call& call) {
  Matrix w;
  if (Status s = matrix_of(call.in[1], &w); !s.ok()) return s;
  const int tokens = w.groups == 1 ? tokens_of(call.in[0], w.cols) : -1;
  if (tokens < 0) return kWrongInput;
  if (!vector_of(call.in[2], 1) || *call.in[2].ints() < 0 || *call.in[2].ints() > tokens)
    return invalid("logits_start is outside the chunk");
  const int64_t dims[] = {1, tokens, w.rows};
  float* y = call.out(0, dims, 3);
  bool enough;
  const Context context = call.context(&enough, linear_scratch(w, tokens));
  if (y == nullptr || !enough) return y == nullptr ? kOutputRefused : kNoScratch;
  linear(context, w, nullptr, call.f(0), call.in[0].floats(), tokens, static_cast<int>(*call.in[2].ints()), y);
  return all_finite(y, static_cast<size_t>(tokens) * w.rows) ? kStatusOk : kOutputNotFinite;
}

// a [T, N], b [T, N] -> y [T, N]; null if they differ.
float* pairwise_out(Call& call, Status* status) {
  const Tensor &a = call.in[0], &b = call.in[1];
  const int tokens = tokens_of(a, a.last());
  *status = tokens < 0 || tokens_of(b, a.last()) != tokens ? kWrongInput : kStatusOk;
  float* y = status->ok() ? call.rows_out(tokens, a.last()) : nullptr;
  if (status->ok() && y == nullptr) *status = kOutputRefused;
  return y;
}

Status run_silu_mul(Call& call) {
  Status status;
  bool enough;
  if (float* y = pairwise_out(call, &status))
    silu_mul(call.context(&enough, 0), call.in[0].floats(), call.in[1].floats(),
             static_cast<int64_t>(call.in[0].elements), y);
  return status;
}

Status run_add(Call& call) {
  Status status;
  if (float* y = pairwise_out(call, &status)) {
    const float *a = call.in[0].floats(), *b = call.in[1].floats();
    for (size_t i = 0; i < call.in[0].elements; ++i) y[i] = a[i] + b[i];
  }
  return status;
}

// x [T, D], packed router and experts -> y [T, D]
Status run_chunk_sparse_ffn(Call& call) {
  if (reinterpret_cast<uintptr_t>(call.in[1].data) % kAlign != 0) return kMisaligned;
  Ffn w;
  if (Status s = parse_ffn(call.in[1].data, call.in[1].elements, &w); !s.ok()) return s;
  const int tokens = tokens_of(call.in[0], w.hidden);
  if (tokens < 0) return kWrongInput;
  float* y = call.rows_out(tokens, w.hidden);
  bool enough;
  const Context context = call.context(&enough, ffn_scratch(w, tokens));
  if (y == nullptr || !enough) return y == nullptr ? kOutputRefused : kNoScratch;
  int union_size = 0;
  return chunk_sparse_ffn(context, w, call.in[0].floats(), tokens, y, &union_size);
}

// positions [T], n_past [1], tree_mask [T], kv_src [64] from input `first` on.
Status chunk_of(const Call& call, int first, int tokens, int64_t capacity, Chunk* out) {
  const Tensor* in = call.in + first;
  const size_t n = static_cast<size_t>(tokens);
  if (!vector_of(in[0], n) || !vector_of(in[1], 1) || !vector_of(in[2], n) || !vector_of(in[3], kMaxTokens))
    return invalid("positions and tree_mask must be [T], n_past [1] and kv_src [64]");
  *out = {tokens, *in[1].ints(), in[0].ints(), in[2].ints(), in[3].ints()};
  return check_chunk(*out, capacity, capacity);  // the caller alone knows how many rows it has written
}

bool cache_of(const Tensor& t, int64_t cols) { return t.rank == 2 && t.dims[0] >= 1 && t.dims[1] == cols; }
bool size_attribute(int64_t n) { return n >= 1 && n <= 1 << 24; }
const Status kWrongCache{Status::kInvalidArgument, "a cache must be [rows, values of a token] as the model declares it"};

// q, kv, kv_norm, absorb_k, expand_v, inv_freq, cache, positions, n_past, tree_mask, kv_src -> y, cache
Status run_mla_attention(Call& call) {
  MlaWeights w;
  if (Status s = matrix_of(call.in[3], &w.absorb_k); !s.ok()) return s;
  if (Status s = matrix_of(call.in[4], &w.expand_v); !s.ok()) return s;
  const Tensor &kv_norm = call.in[2], &inv_freq = call.in[5];
  if (!size_attribute(call.i(0)) || !size_attribute(call.i(1)) || kv_norm.rank != 1 || inv_freq.rank != 1 ||
      inv_freq.elements < 1 || inv_freq.elements > 1 << 24)
    return kWrongWeights;
  w.kv_norm = kv_norm.floats();
  w.kv_norm_eps = call.f(2);
  w.inv_freq = inv_freq.floats();
  w.heads = static_cast<int>(call.i(0));
  w.nope = static_cast<int>(call.i(1));
  w.rope = static_cast<int>(inv_freq.elements) * 2;
  w.latent = w.absorb_k.rows;
  w.v_dim = w.expand_v.rows;
  if (w.absorb_k.groups != w.heads || w.expand_v.groups != w.heads || w.absorb_k.cols != w.nope ||
      w.expand_v.cols != w.latent || kv_norm.elements != static_cast<size_t>(w.latent))
    return kWrongWeights;
  const int64_t row = w.latent + w.rope;
  const int tokens = tokens_of(call.in[0], static_cast<int64_t>(w.heads) * (w.nope + w.rope));
  if (tokens < 0 || tokens_of(call.in[1], row) != tokens) return kWrongInput;
  if (!cache_of(call.in[6], row)) return kWrongCache;
  Chunk chunk;
  if (Status s = chunk_of(call, 7, tokens, call.in[6].dims[0], &chunk); !s.ok()) return s;
  bool enough;
  const Context context = call.context(&enough, mla_scratch(w, tokens));
  if (!enough) return kNoScratch;
  float* y = call.rows_out(tokens, static_cast<int64_t>(w.heads) * w.v_dim);
  float* cache = y == nullptr ? nullptr : call.cache_out(6, 1);
  if (cache == nullptr) return kOutputRefused;
  return mla_attention(context, w, chunk, call.in[0].floats(), call.in[1].floats(), cache, y);
}

// q, k, v, inv_freq, key cache, value cache, positions, n_past, tree_mask, kv_src -> y, key cache, value cache
Status run_gqa_attention(Call& call) {
  const Tensor& inv_freq = call.in[3];
  if (!size_attribute(call.i(0)) || !size_attribute(call.i(1)) || call.i(0) % call.i(1) != 0 || inv_freq.rank != 1 ||
      inv_freq.elements < 1 || inv_freq.elements > 1 << 24)
    return kWrongWeights;
  const GqaWeights w{inv_freq.floats(), static_cast<int>(call.i(0)), static_cast<int>(call.i(1)),
                     static_cast<int>(inv_freq.elements) * 2};
  const int64_t row = static_cast<int64_t>(w.kv_heads) * w.head_dim, q_row = static_cast<int64_t>(w.heads) * w.head_dim;
  const int tokens = tokens_of(call.in[0], q_row);
  if (tokens < 0 || tokens_of(call.in[1], row) != tokens || tokens_of(call.in[2], row) != tokens) return kWrongInput;
  if (!cache_of(call.in[4], row) || !cache_of(call.in[5], row) || call.in[4].dims[0] != call.in[5].dims[0])
    return kWrongCache;
  Chunk chunk;
  if (Status s = chunk_of(call, 6, tokens, call.in[4].dims[0], &chunk); !s.ok()) return s;
  bool enough;
  const Context context = call.context(&enough, gqa_scratch(w, tokens));
  if (!enough) return kNoScratch;
  float* y = call.rows_out(tokens, q_row);
  float* keys = y == nullptr ? nullptr : call.cache_out(4, 1);
  float* values = keys == nullptr ? nullptr : call.cache_out(5, 2);
  if (values == nullptr) return kOutputRefused;
  gqa_attention(context, w, chunk, call.in[0].floats(), call.in[1].floats(), call.in[2].floats(), keys, values, y);
  return kStatusOk;
}

// What the runtime asks of an operator. The base comes first: its callbacks get a pointer to it.
struct Operator {
  OrtCustomOp base;
  const char* name;
  const char* inputs;  // one letter each: f float, u uint8, i int64, o float or absent
  size_t outputs;
  const char* attributes[kMaxAttributes];  // name, with a leading # for an integer
  Status (*run)(Call&);
};

struct Kernel {
  const Operator* op;
  Api api;
  Attribute attributes[kMaxAttributes];
  const Kernels* kernels;
};

const Operator& self(const OrtCustomOp* op) { return *reinterpret_cast<const Operator*>(op); }

OrtStatus* create_kernel(const OrtCustomOp* base, const OrtApi* table, const OrtKernelInfo* info, void** out) {
  const Api api(table);
  const Kernels* kernels = nullptr;
  if (const Status status = select_kernels(&kernels); !status.ok())
    return api.create_status(code_of(status), status.message);
  auto* kernel = new (std::nothrow) Kernel{&self(base), api, {}, kernels};
  if (kernel == nullptr) return api.create_status(kFail, kNoScratch.message);
  for (int i = 0; i < kMaxAttributes && kernel->op->attributes[i] != nullptr; ++i) {
    const char* name = kernel->op->attributes[i];
    OrtStatus* status = *name == '#' ? api.attribute(info, name + 1, &kernel->attributes[i].i)
                                     : api.attribute(info, name, &kernel->attributes[i].f);
    if (status == nullptr && *name != '#' && !all_finite(&kernel->attributes[i].f, 1))
      status = api.create_status(kInvalidGraph, "an attribute is not finite; export the model again");
    if (status != nullptr) {
      delete kernel;
      return status;
    }
  }
  *out = kernel;
  return nullptr;
}

OrtStatus* compute(void* data, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<Kernel*>(data);
  Call call(kernel.api, context, kernel.attributes, *kernel.kernels);
  if (!call.load(std::strlen(kernel.op->inputs))) return call.runtime_error;
  const Status status = kernel.op->run(call);
  if (call.runtime_error != nullptr) return call.runtime_error;
  return status.ok() ? nullptr : kernel.api.create_status(code_of(status), status.message);
}

OrtCustomOp callbacks() {
  OrtCustomOp op{};
  op.version = kApiVersion;
  op.name = [](const OrtCustomOp* o) { return self(o).name; };
  op.execution_provider = [](const OrtCustomOp*) -> const char* { return nullptr; };
  op.input_type = [](const OrtCustomOp* o, size_t i) {
    return self(o).inputs[i] == 'u' ? kUint8 : self(o).inputs[i] == 'i' ? kInt64 : kFloat;
  };
  op.input_count = [](const OrtCustomOp* o) { return std::strlen(self(o).inputs); };
  op.output_type = [](const OrtCustomOp*, size_t) { return kFloat; };
  op.output_count = [](const OrtCustomOp* o) { return self(o).outputs; };
  op.destroy_kernel = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.input_characteristic = [](const OrtCustomOp* o, size_t i) {
    return self(o).inputs[i] == 'o' ? kOptional : kRequired;
  };
  op.output_characteristic = [](const OrtCustomOp*, size_t) { return kRequired; };
  op.input_memory = [](const OrtCustomOp*, size_t) { return 0; };
  op.variadic_input_min = op.variadic_output_min = [](const OrtCustomOp*) { return 1; };
  op.variadic_input_homogeneous = op.variadic_output_homogeneous = [](const OrtCustomOp*) { return 1; };
  op.create_kernel_v2 = create_kernel;
  op.compute_v2 = compute;
  op.start_version = [](const OrtCustomOp*) { return 1; };
  op.end_version = [](const OrtCustomOp*) { return std::numeric_limits<int>::max(); };
  return op;
}

const Operator kOperators[] = {
    {callbacks(), "embedding", "iu", 1, {"scale"}, run_embedding},
    {callbacks(), "rms_norm", "ff", 1, {"eps"}, run_rms_norm},
    {callbacks(), "final_norm", "ff", 1, {"eps"}, run_final_norm},
    {callbacks(), "linear", "fuo", 1, {"scale"}, run_linear},
    {callbacks(), "logits", "fui", 1, {"scale"}, run_logits},
    {callbacks(), "silu_mul", "ff", 1, {}, run_silu_mul},
    {callbacks(), "add", "ff", 1, {}, run_add},
    {callbacks(), "chunk_sparse_ffn", "fu", 1, {}, run_chunk_sparse_ffn},
    {callbacks(), "mla_attention", "fffuuffiiii", 2, {"#heads", "#nope", "eps"}, run_mla_attention},
    {callbacks(), "gqa_attention", "ffffffiiii", 3, {"#heads", "#kv_heads"}, run_gqa_attention},
};

}  // namespace
}  // namespace blockffn::ort

// The entry point that every binding of ONNX Runtime looks up; call it directly where the library is linked in.
extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  using blockffn::ort::Api;
  const OrtApi* table = base->get_api(blockffn::ort::kApiVersion);
  if (table == nullptr)
    return Api(base->get_api(1)).create_status(blockffn::ort::kFail,
                                               "the BlockFFN operators need ONNX Runtime 1.21 or newer");
  const Api api(table);
  // One domain for all sessions; it must outlive them, so nothing releases it.
  static OrtCustomOpDomain* domain = nullptr;
  static OrtStatus* const failure = [&]() -> OrtStatus* {
    if (OrtStatus* status = api.create_domain("blockffn", &domain)) return status;
    for (const auto& op : blockffn::ort::kOperators)
      if (OrtStatus* status = api.domain_add(domain, &op.base)) return status;
    return nullptr;
  }();
  if (failure != nullptr) return api.create_status(blockffn::ort::kFail, "ONNX Runtime refused the BlockFFN operators");
  return api.add_domain(options, domain);
}
