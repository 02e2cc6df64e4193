// The part of ONNX Runtime's C interface that an operator library calls, declared by hand: the wheels hold no
// headers, and a table of function pointers needs none. Slots are positions in struct OrtApi, which only grows at
// its end, so the same numbers hold from API version 21 (ONNX Runtime 1.21) on.
// Source: https://onnxruntime.ai/docs/api/c/struct_ort_api.html
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct OrtStatus;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtTensorTypeAndShapeInfo;
struct OrtShapeInferContext;
struct OrtValue;
using OrtApi = const void*;  // the first slot of a table of function pointers

struct OrtApiBase {
  const OrtApi* (*get_api)(uint32_t version);  // null if the runtime is older than `version`
  const char* (*version_string)();
};

// Filled by the library, read by the runtime as far as `version` says it goes.
struct OrtCustomOp {
  uint32_t version;
  void* (*create_kernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char* (*name)(const OrtCustomOp*);
  const char* (*execution_provider)(const OrtCustomOp*);  // null: CPU
  int (*input_type)(const OrtCustomOp*, size_t);
  size_t (*input_count)(const OrtCustomOp*);
  int (*output_type)(const OrtCustomOp*, size_t);
  size_t (*output_count)(const OrtCustomOp*);
  void (*compute)(void* kernel, OrtKernelContext*);
  void (*destroy_kernel)(void* kernel);
  int (*input_characteristic)(const OrtCustomOp*, size_t);
  int (*output_characteristic)(const OrtCustomOp*, size_t);
  int (*input_memory)(const OrtCustomOp*, size_t);
  int (*variadic_input_min)(const OrtCustomOp*);
  int (*variadic_input_homogeneous)(const OrtCustomOp*);
  int (*variadic_output_min)(const OrtCustomOp*);
  int (*variadic_output_homogeneous)(const OrtCustomOp*);
  OrtStatus* (*create_kernel_v2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void** kernel);
  OrtStatus* (*compute_v2)(void* kernel, OrtKernelContext*);
  OrtStatus* (*infer_shape)(const OrtCustomOp*, OrtShapeInferContext*);
  int (*start_version)(const OrtCustomOp*);
  int (*end_version)(const OrtCustomOp*);
  size_t (*may_inplace)(int** inputs, int** outputs);
  void (*release_may_inplace)(int* inputs, int* outputs);
  size_t (*alias_map)(int** inputs, int** outputs);
  void (*release_alias_map)(int* inputs, int* outputs);
};
static_assert(sizeof(OrtCustomOp) == 26 * sizeof(void*), "layout of API version 21");

}  // extern "C"

namespace blockffn::ort {

constexpr uint32_t kApiVersion = 21;
constexpr int kAnyType = 0, kFloat = 1, kUint8 = 2, kInt64 = 7;        // element types
constexpr int kRequired = 0, kVariadic = 2;                            // characteristics of inputs and outputs
constexpr int kFail = 1, kInvalidArgument = 2, kInvalidGraph = 10;     // status codes

// Typed access to the table.
class Api {
 public:
  explicit Api(const OrtApi* table = nullptr) : table_(table) {}

  OrtStatus* create_status(int code, const char* message) const {
    return slot<OrtStatus*(int, const char*)>(0)(code, message);
  }
  OrtStatus* create_domain(const char* name, OrtCustomOpDomain** out) const {
    return slot<OrtStatus*(const char*, OrtCustomOpDomain**)>(26)(name, out);
  }
  OrtStatus* domain_add(OrtCustomOpDomain* domain, const OrtCustomOp* op) const {
    return slot<OrtStatus*(OrtCustomOpDomain*, const OrtCustomOp*)>(27)(domain, op);
  }
  OrtStatus* add_domain(OrtSessionOptions* options, OrtCustomOpDomain* domain) const {
    return slot<OrtStatus*(OrtSessionOptions*, OrtCustomOpDomain*)>(28)(options, domain);
  }
  OrtStatus* tensor_data(const OrtValue* value, void** out) const {
    return slot<OrtStatus*(OrtValue*, void**)>(51)(const_cast<OrtValue*>(value), out);
  }
  OrtStatus* element_type(const OrtTensorTypeAndShapeInfo* info, int* out) const {
    return slot<OrtStatus*(const OrtTensorTypeAndShapeInfo*, int*)>(60)(info, out);
  }
  OrtStatus* rank(const OrtTensorTypeAndShapeInfo* info, size_t* out) const {
    return slot<OrtStatus*(const OrtTensorTypeAndShapeInfo*, size_t*)>(61)(info, out);
  }
  OrtStatus* dims(const OrtTensorTypeAndShapeInfo* info, int64_t* out, size_t rank) const {
    return slot<OrtStatus*(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t)>(62)(info, out, rank);
  }
  OrtStatus* type_and_shape(const OrtValue* value, OrtTensorTypeAndShapeInfo** out) const {
    return slot<OrtStatus*(const OrtValue*, OrtTensorTypeAndShapeInfo**)>(65)(value, out);
  }
  OrtStatus* input(const OrtKernelContext* context, size_t i, const OrtValue** out) const {
    return slot<OrtStatus*(const OrtKernelContext*, size_t, const OrtValue**)>(90)(context, i, out);
  }
  OrtStatus* output(OrtKernelContext* context, size_t i, const int64_t* dims, size_t rank, OrtValue** out) const {
    return slot<OrtStatus*(OrtKernelContext*, size_t, const int64_t*, size_t, OrtValue**)>(91)(context, i, dims, rank,
                                                                                               out);
  }
  void release(OrtStatus* status) const { slot<void(OrtStatus*)>(93)(status); }
  void release(OrtTensorTypeAndShapeInfo* info) const { slot<void(OrtTensorTypeAndShapeInfo*)>(99)(info); }
  OrtStatus* node_input_count(const OrtKernelInfo* info, size_t* out) const {
    return slot<OrtStatus*(const OrtKernelInfo*, size_t*)>(230)(info, out);
  }
  // Null with constant = 0 if the input is not an initializer.
  OrtStatus* constant_input(const OrtKernelInfo* info, size_t i, int* constant, const OrtValue** out) const {
    return slot<OrtStatus*(const OrtKernelInfo*, size_t, int*, const OrtValue**)>(249)(info, i, constant, out);
  }
  OrtStatus* parallel_for(const OrtKernelContext* context, void (*task)(void*, size_t), size_t n, size_t batches,
                          void* user) const {
    return slot<OrtStatus*(const OrtKernelContext*, void (*)(void*, size_t), size_t, size_t, void*)>(274)(
        context, task, n, batches, user);
  }

 private:
  template <class F>
  F* slot(size_t i) const {
    return reinterpret_cast<F*>(const_cast<void*>(table_[i]));
  }
  const OrtApi* table_;
};

}  // namespace blockffn::ort
