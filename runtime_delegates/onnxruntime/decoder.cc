// Operator library for ONNX Runtime: blockffn::decoder runs a decoder step as one operator.
//
// Inputs: the operator list that export/program.py writes (uint8), its weights (read where the runtime maps them: one
// tensor with all of them, which loads fastest, or uint8 and float32 tensors of their own, which bodies in stock
// operators need), then what the list declares as inputs, then its caches; outputs: the list's, then the caches.
// The list is checked when a session is created, the other tensors in each call, because a model file may hold
// anything; every problem is a status with a sentence.
// A cache is an input and an output. Where the caller binds one tensor as both it is updated in place; otherwise it
// is copied first. Sessions may run at once; runs of one session follow each other.
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>

#include "../program/program.h"
#include "blockffn_ort.h"
#include "ort_abi.h"

namespace blockffn::ort {
namespace {

thread_local ReadStats last_call;
thread_local bool all_experts = false;

int code_of(const Status& status) {
  return status.code == Status::kCorrupt                                         ? kInvalidGraph
         : status.code == Status::kNonFinite || status.code == Status::kNoMemory ? kFail
                                                                                 : kInvalidArgument;
}

struct Tensor {
  static constexpr size_t kMaxRank = 4;
  OrtValue* value = nullptr;
  void* data = nullptr;
  int type = 0;
  int64_t dims[kMaxRank] = {};
  size_t rank = 0;  // kMaxRank + 1 stands for more
  size_t bytes = 0;

  // A status if the runtime refuses to describe it.
  OrtStatus* read(const Api& api, const OrtValue* from) {
    value = const_cast<OrtValue*>(from);
    OrtTensorTypeAndShapeInfo* info = nullptr;
    if (OrtStatus* status = api.type_and_shape(value, &info)) return status;
    OrtStatus* status = api.element_type(info, &type);
    if (status == nullptr) status = api.rank(info, &rank);
    if (status == nullptr && rank <= kMaxRank) status = api.dims(info, dims, rank);
    api.release(info);
    if (status != nullptr) return status;
    bytes = type == kUint8 ? 1 : type == kFloat ? sizeof(float) : sizeof(int64_t);
    for (size_t d = 0; d < rank && d < kMaxRank; ++d) bytes *= static_cast<size_t>(dims[d]);
    if (rank > kMaxRank) rank = kMaxRank + 1;
    return api.tensor_data(value, &data);
  }
};

// Null, or what is wrong with a tensor for `want`. Learns T from it (0 until the first tensor that has it).
const char* check(const Tensor& t, const Value& want, int64_t* tokens) {
  if (t.type != (want.dtype == DType::kInt64 ? kInt64 : kFloat))
    return "an input has the wrong dtype: ids and positions are int64, activations and caches float32";
  if (t.rank != static_cast<size_t>(want.rank)) return "an input has the wrong rank";
  for (int d = 0; d < want.rank; ++d) {
    if (want.dims[d] != -1) {
      if (t.dims[d] != want.dims[d])
        return want.kind == Kind::kState ? "a cache must have the shape that the model declares"
                                         : "an input has the wrong shape";
    } else if (*tokens == 0) {
      if (t.dims[d] < 1 || t.dims[d] > kMaxTokens) return "a chunk must hold 1 to 64 tokens";
      *tokens = t.dims[d];
    } else if (t.dims[d] != *tokens) {
      return "the inputs disagree on the number of tokens";
    }
  }
  return nullptr;
}

// The runtime's pool, in the context of one call.
struct Pool {
  const Api& api;
  OrtKernelContext* context;

  static void run(void* pool, int64_t n, void (*task)(void*, int64_t), void* context) {
    struct Loop {
      void (*task)(void*, int64_t);
      void* context;
    } loop{task, context};
    const Pool& p = *static_cast<Pool*>(pool);
    const auto one = [](void* l, size_t i) {
      static_cast<Loop*>(l)->task(static_cast<Loop*>(l)->context, static_cast<int64_t>(i));
    };
    if (OrtStatus* status = p.api.parallel_for(p.context, one, static_cast<size_t>(n), 0, &loop)) {
      p.api.release(status);  // it refuses before it starts
      for (int64_t i = 0; i < n; ++i) task(context, i);
    }
  }
};

class Decoder {
 public:
  explicit Decoder(const OrtApi* table) : api_(table) {}

  OrtStatus* load(const OrtKernelInfo* info) {
    size_t count = 0;
    if (OrtStatus* status = api_.node_input_count(info, &count)) return status;
    std::unique_ptr<Program::WeightTensor[]> tensors(new (std::nothrow) Program::WeightTensor[count + 1]);
    if (tensors == nullptr) return fail({Status::kNoMemory, "not enough memory to load the program"});
    for (size_t i = 0; i < count; ++i, ++constants_) {
      int constant = 0;
      const OrtValue* value = nullptr;
      if (OrtStatus* status = api_.constant_input(info, i, &constant, &value)) return status;
      if (constant == 0 || value == nullptr) break;
      Tensor t;
      if (OrtStatus* status = t.read(api_, value)) return status;
      if (t.type != kUint8 && t.type != kFloat) return fail(corrupt("weights must be uint8 or float32 tensors"));
      if (i > 0 && reinterpret_cast<uintptr_t>(t.data) % kAlign != 0)
        return fail(corrupt("weights must start at a multiple of 64 bytes; export the model again"));
      tensors[i] = {static_cast<const uint8_t*>(t.data), t.bytes};
    }
    if (constants_ == 0) return fail(corrupt("the operator list, the first input, must be an initializer"));
    // A list over a single weight means the same either way.
    const Program::FindWeights whole = [](void* tensor, const char*, const uint8_t** data, size_t* bytes) {
      *data = static_cast<const Program::WeightTensor*>(tensor)->data;
      *bytes = static_cast<const Program::WeightTensor*>(tensor)->bytes;
      return kStatusOk;
    };
    const auto [list, list_bytes] = tensors[0];
    const Status s = constants_ == 2 ? Program::parse(list, list_bytes, whole, &tensors[1], &program_)
                                     : Program::parse(list, list_bytes, tensors.get() + 1, constants_ - 1, &program_);
    if (!s.ok()) return fail(s);
    inputs_ = static_cast<size_t>(program_->input_count());
    states_ = static_cast<size_t>(program_->state_count());
    if (count != constants_ + inputs_ + states_)
      return fail(corrupt("the operator's inputs do not fit its operator list; export the model again"));
    return nullptr;
  }

  OrtStatus* run(OrtKernelContext* context) {
    last_call = {};
    const std::lock_guard<std::mutex> lock(running_);  // the program's working memory serves one run
    int64_t tokens = 0;
    for (size_t i = 0; i < inputs_; ++i) {
      Tensor t;
      if (OrtStatus* status = input(context, i, &t)) return status;
      if (const char* problem = check(t, program_->input(static_cast<int>(i)), &tokens)) return invalid(problem);
      program_->bind_input(static_cast<int>(i), t.data);
    }
    if (tokens == 0) return invalid("no input has a token dimension");
    const int outputs = program_->output_count();
    for (int i = 0; i < outputs; ++i) {
      const Value& want = program_->output(i);
      int64_t dims[4];
      for (int d = 0; d < want.rank; ++d) dims[d] = want.dims[d] == -1 ? tokens : want.dims[d];
      void* data = nullptr;
      if (OrtStatus* status = output(context, i, dims, want.rank, &data)) return status;
      program_->bind_output(i, data);
    }
    for (int i = 0; i < static_cast<int>(states_); ++i) {
      Tensor t;
      if (OrtStatus* status = input(context, inputs_ + i, &t)) return status;
      if (const char* problem = check(t, program_->state(i), &tokens)) return invalid(problem);
      void* data = nullptr;
      if (OrtStatus* status = output(context, outputs + i, t.dims, t.rank, &data)) return status;
      if (data != t.data) std::memcpy(data, t.data, t.bytes);
      program_->bind_state(i, data);
    }
    program_->set_all_experts(all_experts);
    Pool pool{api_, context};
    const Status status = program_->run(static_cast<int>(tokens), {Pool::run, &pool}, {}, &last_call);
    return status.ok() ? nullptr : fail(status);
  }

  OrtStatus* fail(const Status& status) const { return api_.create_status(code_of(status), status.message); }

 private:
  static Status corrupt(const char* message) { return {Status::kCorrupt, message}; }
  OrtStatus* invalid(const char* message) const { return fail({Status::kInvalidArgument, message}); }

  OrtStatus* input(OrtKernelContext* context, size_t i, Tensor* t) const {
    const OrtValue* value = nullptr;
    if (OrtStatus* status = api_.input(context, constants_ + i, &value)) return status;
    return value == nullptr ? invalid("an input is missing") : t->read(api_, value);
  }

  OrtStatus* output(OrtKernelContext* context, size_t i, const int64_t* dims, size_t rank, void** data) const {
    OrtValue* value = nullptr;
    if (OrtStatus* status = api_.output(context, i, dims, rank, &value)) return status;
    return value == nullptr ? invalid("an output is missing") : api_.tensor_data(value, data);
  }

  const Api api_;
  std::unique_ptr<Program> program_;
  size_t constants_ = 0, inputs_ = 0, states_ = 0;
  std::mutex running_;
};

OrtStatus* create_kernel(const OrtCustomOp*, const OrtApi* table, const OrtKernelInfo* info, void** out) {
  std::unique_ptr<Decoder> decoder(new (std::nothrow) Decoder(table));
  if (decoder == nullptr) return Api(table).create_status(kFail, "not enough memory to load the program");
  if (OrtStatus* status = decoder->load(info)) return status;
  *out = decoder.release();
  return nullptr;
}

OrtCustomOp callbacks() {
  OrtCustomOp op{};
  op.version = kApiVersion;
  op.name = [](const OrtCustomOp*) { return "decoder"; };
  op.execution_provider = [](const OrtCustomOp*) -> const char* { return nullptr; };
  // The operator list, then any number of tensors of any type.
  op.input_type = [](const OrtCustomOp*, size_t i) { return i == 0 ? kUint8 : kAnyType; };
  op.input_count = [](const OrtCustomOp*) -> size_t { return 2; };
  op.output_type = [](const OrtCustomOp*, size_t) { return kFloat; };
  op.output_count = [](const OrtCustomOp*) -> size_t { return 1; };
  op.destroy_kernel = [](void* kernel) { delete static_cast<Decoder*>(kernel); };
  op.input_characteristic = [](const OrtCustomOp*, size_t i) { return i == 0 ? kRequired : kVariadic; };
  op.output_characteristic = [](const OrtCustomOp*, size_t) { return kVariadic; };
  op.input_memory = [](const OrtCustomOp*, size_t) { return 0; };
  op.variadic_input_min = op.variadic_output_min = [](const OrtCustomOp*) { return 1; };
  op.variadic_input_homogeneous = [](const OrtCustomOp*) { return 0; };
  op.variadic_output_homogeneous = [](const OrtCustomOp*) { return 1; };
  op.create_kernel_v2 = create_kernel;
  op.compute_v2 = [](void* kernel, OrtKernelContext* context) { return static_cast<Decoder*>(kernel)->run(context); };
  op.start_version = [](const OrtCustomOp*) { return 1; };
  op.end_version = [](const OrtCustomOp*) { return std::numeric_limits<int>::max(); };
  return op;
}

}  // namespace
}  // namespace blockffn::ort

extern "C" void blockffn_ort_last_call(blockffn_ort_stats* out) {
  blockffn::ReadStats& last = blockffn::ort::last_call;
  if (out != nullptr) *out = {last.calls, last.tokens, last.ffn_calls, last.experts_read, last.experts_total};
  last = {};
}

extern "C" void blockffn_ort_all_experts(int all) { blockffn::ort::all_experts = all != 0; }

// The entry point that every binding of ONNX Runtime looks up; call it directly where the library is linked in.
extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  using blockffn::ort::Api;
  const OrtApi* table = base->get_api(blockffn::ort::kApiVersion);
  if (table == nullptr)
    return Api(base->get_api(1))
        .create_status(blockffn::ort::kFail, "the BlockFFN operators need ONNX Runtime 1.21 or newer");
  const Api api(table);
  // One domain for all sessions; it must outlive them, so nothing releases it.
  static const OrtCustomOp decoder = blockffn::ort::callbacks();
  static OrtCustomOpDomain* domain = nullptr;
  static OrtStatus* const failure = [&]() -> OrtStatus* {
    if (OrtStatus* status = api.create_domain("blockffn", &domain)) return status;
    return api.domain_add(domain, &decoder);
  }();
  if (failure != nullptr) return api.create_status(blockffn::ort::kFail, "ONNX Runtime refused the BlockFFN operators");
  return api.add_domain(options, domain);
}
