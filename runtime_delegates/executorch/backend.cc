// The ExecuTorch backend "BlockFFNBackend": hands a delegated partition to Program and reports
// errors the ExecuTorch way. Weights stay where ExecuTorch mapped them; the key/value caches belong
// to the delegate handle, so every loaded method has its own.
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/core/event_tracer_hooks_delegate.h>
#include <executorch/runtime/core/exec_aten/util/tensor_util.h>
#include <executorch/runtime/kernel/thread_parallel_interface.h>
#include <executorch/runtime/platform/log.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>

#include "../program/program.h"
#if defined(BLOCKFFN_GPU)
#include "../gpu/choose.h"
#include "../gpu/mapped.h"
#endif
#include "blockffn.h"

namespace et = executorch::runtime;

namespace executorch::extension::threadpool {
// Exported by ExecuTorch's thread pool library, whose header is not part of its SDK.
class ThreadPool {
 public:
  size_t get_thread_count() const;
  bool _unsafe_reset_threadpool(uint32_t num_threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace {

thread_local const char* last_error = "";
thread_local blockffn_stats last_call{};
thread_local std::string last_device, wanted_device;
thread_local bool all_experts = false;

struct Totals {
  std::atomic<int64_t> calls{0}, tokens{0}, ffn_calls{0}, experts_read{0}, experts_total{0};
} totals;

et::Error report(const blockffn::Status& status) {
  last_error = status.message;
  ET_LOG(Error, "BlockFFNBackend: %s", status.message);
  switch (status.code) {
    case blockffn::Status::kOk:
      return et::Error::Ok;
    case blockffn::Status::kCorrupt:
      return et::Error::DelegateInvalidCompatibility;
    case blockffn::Status::kNonFinite:
    case blockffn::Status::kLost:
      return et::Error::InvalidState;
    case blockffn::Status::kNoMemory:
      return et::Error::MemoryAllocationFailed;
    default:
      return et::Error::InvalidArgument;
  }
}

et::Error invalid(const char* message) { return report({blockffn::Status::kInvalidArgument, message}); }

struct Handle {
  std::optional<et::FreeableBuffer> weights;  // keeps the mapping alive, so it goes after the program
  std::unique_ptr<blockffn::Program> program;
  bool all_experts = false;                   // asked for when it was loaded
};

blockffn::Status find_weights(void* context, const char* key, const uint8_t** data, size_t* bytes) {
  auto& [map, handle] = *static_cast<std::pair<const et::NamedDataMap*, Handle*>*>(context);
  if (map == nullptr) return {blockffn::Status::kCorrupt, "the program has no named data, so its weights are missing"};
  auto buffer = map->get_data(key);
  if (!buffer.ok())
    return {blockffn::Status::kCorrupt,
            "the weights segment is missing; if they were exported to a .ptd file, load it too"};
  handle->weights.emplace(std::move(buffer.get()));
  *data = static_cast<const uint8_t*>(handle->weights->data());
  *bytes = handle->weights->size();
  return blockffn::kStatusOk;
}

using executorch::extension::threadpool::ThreadPool;

// Whether this process may use ExecuTorch's pool: not if it was forked from one that did. The threads did not come
// along, and to ask them for something, even to end, would wait for ever.
bool pool_is_ours() {
  static std::atomic<pid_t> owner{0};  // the first process that asks
  pid_t known = 0;
  const pid_t self = getpid();
  return owner.compare_exchange_strong(known, self) || known == self;
}

ThreadPool* thread_pool() { return pool_is_ours() ? executorch::extension::threadpool::get_threadpool() : nullptr; }

// Work items go to ExecuTorch's shared pool, whose parallel_for must not be nested; no operator does.
// Every worker takes the items of its own range in order, so that it streams through neighbouring
// weights, and then helps the others: a slow core does not hold up a fast one.
void run_on_pool(void* threads_of, int64_t n, void (*task)(void*, int64_t), void* context) {
  constexpr int64_t kMaxWorkers = 64;
  const auto threads = static_cast<int64_t>(static_cast<ThreadPool*>(threads_of)->get_thread_count());
  const int64_t workers = std::min({n, threads, kMaxWorkers});
  struct alignas(64) Range {
    std::atomic<int64_t> next{0};
  } ranges[kMaxWorkers];
  const auto first = [&](int64_t worker) { return n * worker / workers; };
  for (int64_t w = 0; w < workers; ++w) ranges[w].next.store(first(w), std::memory_order_relaxed);
  const auto work = [&](int64_t own) {
    for (int64_t i = 0; i < workers; ++i) {
      const int64_t w = (own + i) % workers;
      for (int64_t item; (item = ranges[w].next.fetch_add(1, std::memory_order_relaxed)) < first(w + 1);)
        task(context, item);
    }
  };
  if (workers > 1)
    (void)executorch::extension::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
      for (int64_t w = begin; w < end; ++w) work(w);
    });
  work(0);  // what is left: all, if there are no other threads
}

blockffn::Parallel shared_pool() {
  auto* pool = thread_pool();
  if (pool == nullptr) return {nullptr, nullptr, 1};
  return {run_on_pool, pool, static_cast<int>(pool->get_thread_count())};
}

// The runtime spec `name` of this load, else what this thread has asked for, else the environment's `variable`, else
// null.
const char* wanted_by(const et::BackendInitContext& context, const char* name, const char* variable,
                      const std::string& asked = "") {
  const auto spec = context.get_runtime_spec<const char*>(name);
  return spec.ok() ? spec.get() : !asked.empty() ? asked.c_str() : std::getenv(variable);
}

blockffn::Status choose_device(const char* wanted, const char* arithmetic, bool all_experts, blockffn::Program* program,
                               std::string* report) {
  if (all_experts && wanted != nullptr && *wanted != '\0' && std::strcmp(wanted, "cpu") != 0) {
    *report = "cpu: all experts are computed on the CPU alone";
    return blockffn::kStatusOk;
  }
#if defined(BLOCKFFN_GPU)
  return blockffn::gpu::choose_device(wanted, arithmetic, shared_pool(), program, report);
#else
  (void)program, (void)arithmetic;
  const bool cpu = wanted == nullptr || *wanted == '\0' || std::strcmp(wanted, "cpu") == 0;
  *report = cpu ? "cpu" : "cpu: this library was built without Vulkan";
  return blockffn::kStatusOk;
#endif
}

blockffn::Status choose_experts(const char* wanted, bool* all) {
  *all = wanted != nullptr && std::strcmp(wanted, "all") == 0;
  if (*all || wanted == nullptr || *wanted == '\0' || std::strcmp(wanted, "active") == 0) return blockffn::kStatusOk;
  return {blockffn::Status::kInvalidArgument,
          "the experts must be active or all (BLOCKFFN_EXPERTS, or the runtime spec `experts`)"};
}

struct Trace {
  et::EventTracer* tracer;
  et::EventTracerEntry entry;
};

// Checks a tensor against its declaration and learns T from it (0 until the first dynamic tensor).
const char* check_input(const et::EValue& value, const blockffn::Value& want, int64_t* tokens) {
  if (!value.isTensor()) return "an input is not a tensor";
  const auto& tensor = value.toTensor();
  const auto dtype =
      want.dtype == blockffn::DType::kInt64 ? executorch::aten::ScalarType::Long : executorch::aten::ScalarType::Float;
  if (tensor.scalar_type() != dtype)
    return "an input has the wrong dtype: ids and positions are int64, activations float32";
  if (tensor.dim() != want.rank) return "an input has the wrong rank";
  if (!et::tensor_is_default_dim_order(tensor)) return "an input is not contiguous";
  for (int d = 0; d < want.rank; ++d) {
    const int64_t size = tensor.size(d);
    if (want.dims[d] != -1) {
      if (size != want.dims[d]) return "an input has the wrong shape";
    } else if (*tokens == 0) {
      if (size < 1 || size > blockffn::kMaxTokens) return "a chunk must hold 1 to 64 tokens";
      *tokens = size;
    } else if (size != *tokens) {
      return "the inputs disagree on the number of tokens";
    }
  }
  return nullptr;
}

class BlockFFNBackend final : public et::BackendInterface {
 public:
  bool is_available() const override { return true; }

  et::Result<et::DelegateHandle*> init(et::BackendInitContext& context, et::FreeableBuffer* processed,
                                       et::ArrayRef<et::CompileSpec>) const override {
    (void)pool_is_ours();  // a process that is forked from here on shares it
    auto handle = std::unique_ptr<Handle>(new (std::nothrow) Handle);
    if (handle == nullptr) return et::Error::MemoryAllocationFailed;
    std::pair<const et::NamedDataMap*, Handle*> lookup{context.get_named_data_map(), handle.get()};
    const auto status = blockffn::Program::parse(static_cast<const uint8_t*>(processed->data()), processed->size(),
                                                 find_weights, &lookup, &handle->program);
    processed->Free();
    if (!status.ok()) return report(status);
    ET_LOG(Info, "BlockFFNBackend: kernels %s, %lld weight bytes mapped, %lld bytes of working memory",
           handle->program->kernels().name, static_cast<long long>(handle->program->weights_bytes()),
           static_cast<long long>(handle->program->working_bytes()));
    if (const auto chosen = choose_experts(wanted_by(context, "experts", "BLOCKFFN_EXPERTS"), &handle->all_experts);
        !chosen.ok())
      return report(chosen);
    if (const auto chosen = choose_device(wanted_by(context, "device", "BLOCKFFN_DEVICE", wanted_device),
                                          wanted_by(context, "gpu_arithmetic", "BLOCKFFN_GPU_ARITHMETIC"),
                                          handle->all_experts, handle->program.get(), &last_device);
        !chosen.ok())
      return report(chosen);
    if (last_device != "cpu") ET_LOG(Info, "BlockFFNBackend: device %s", last_device.c_str());
    return static_cast<et::DelegateHandle*>(handle.release());
  }

  et::Error execute(et::BackendExecutionContext& context, et::DelegateHandle* delegate,
                    et::Span<et::EValue*> args) const override {
    Handle& handle = *static_cast<Handle*>(delegate);
    blockffn::Program& program = *handle.program;
    const int inputs = program.input_count(), outputs = program.output_count();
    if (args.size() != static_cast<size_t>(inputs + outputs))
      return invalid("the number of arguments differs from the exported program's");
    int64_t tokens = 0;
    for (int i = 0; i < inputs; ++i) {
      if (const char* problem = check_input(*args[i], program.input(i), &tokens)) return invalid(problem);
      const void* data = args[i]->toTensor().const_data_ptr();
      if (data == nullptr) return invalid("an input has no memory");
      program.bind_input(i, data);
    }
    if (tokens == 0) return invalid("the partition has no input with a token dimension");
    for (int i = 0; i < outputs; ++i) {
      const blockffn::Value& want = program.output(i);
      if (!args[inputs + i]->isTensor()) return invalid("an output is not a tensor");
      auto& tensor = args[inputs + i]->toTensor();
      if (tensor.scalar_type() != executorch::aten::ScalarType::Float) return invalid("an output is not float32");
      executorch::aten::SizesType sizes[4];
      for (int d = 0; d < want.rank; ++d)
        sizes[d] = want.dims[d] == -1 ? static_cast<executorch::aten::SizesType>(tokens) : want.dims[d];
      const auto error =
          et::resize_tensor(tensor, executorch::aten::ArrayRef<executorch::aten::SizesType>(sizes, want.rank));
      if (error != et::Error::Ok) return error;
      if (tensor.mutable_data_ptr() == nullptr) return invalid("an output has no memory");
      program.bind_output(i, tensor.mutable_data_ptr());
    }

    Trace trace{context.event_tracer(), {}};
    blockffn::Observer observer;
    if (trace.tracer != nullptr)
      observer = {&trace,
                  [](void* c, const char* name) {
                    auto& t = *static_cast<Trace*>(c);
                    t.entry = et::event_tracer_start_profiling_delegate(t.tracer, name, et::kUnsetDelegateDebugIntId);
                  },
                  [](void* c, const char*, int n, int union_size) {
                    auto& t = *static_cast<Trace*>(c);
                    const int32_t metadata[2] = {n, union_size};
                    et::event_tracer_end_profiling_delegate(t.tracer, t.entry, metadata, sizeof metadata);
                  }};
    blockffn::ReadStats stats;
    last_call = {};
    const bool on_gpu = program.accelerator() != nullptr, all = all_experts || handle.all_experts;
    if (on_gpu && all)
      return invalid(
          "all experts are computed on the CPU alone: ask for the active ones, or load the program with device=cpu");
    program.set_all_experts(all);
    const auto status = program.run(static_cast<int>(tokens), shared_pool(), observer, &stats);
    if (on_gpu && program.accelerator() == nullptr)
      ET_LOG(Error, "BlockFFNBackend: the GPU was lost; this program runs on the CPU from now on");
    if (!status.ok()) return report(status);
    last_call = {stats.calls, stats.tokens, stats.ffn_calls, stats.experts_read, stats.experts_total};
    totals.calls += stats.calls;
    totals.tokens += stats.tokens;
    totals.ffn_calls += stats.ffn_calls;
    totals.experts_read += stats.experts_read;
    totals.experts_total += stats.experts_total;
    return et::Error::Ok;
  }

  void destroy(et::DelegateHandle* delegate) const override { delete static_cast<Handle*>(delegate); }
};

}  // namespace

extern "C" {

int blockffn_register_backend(void) {
  static BlockFFNBackend backend;
  static const et::Error error = et::register_backend({"BlockFFNBackend", &backend});
  return error == et::Error::Ok ? 0 : static_cast<int>(error);
}

const char* blockffn_kernels(void) {
  const blockffn::Kernels* kernels = nullptr;
  const auto status = blockffn::select_kernels(&kernels);
  if (status.ok()) return kernels->name;
  report(status);
  return nullptr;
}

int blockffn_variant(int i, const char** name) {
  bool supported = false;
  const auto* kernels = blockffn::kernels_variant(i, &supported);
  if (kernels == nullptr) return -1;
  if (name != nullptr) *name = kernels->name;
  return supported;
}

const char* blockffn_last_error(void) {
  const char* message = last_error;
  last_error = "";
  return message;
}

int blockffn_set_threads(int threads) {
  constexpr int kMaxThreads = 1024;
  if (threads < 1 || threads > kMaxThreads) return -1;
  auto* pool = thread_pool();
  if (pool == nullptr) return threads == 1 ? 0 : -1;
  return pool->_unsafe_reset_threadpool(static_cast<uint32_t>(threads)) ? 0 : -1;
}

int blockffn_default_threads(void) { return blockffn::big_cores(); }

const char* blockffn_device(void) { return last_device.c_str(); }

const char* blockffn_gpu(void) {
#if defined(BLOCKFFN_GPU)
  static thread_local std::string text;
  text = blockffn::gpu::describe_gpu(false, std::getenv("BLOCKFFN_GPU_ARITHMETIC"));
  return text.c_str();
#else
  return "none: this library was built without Vulkan";
#endif
}

void blockffn_set_device(const char* device) { wanted_device = device == nullptr ? "" : device; }

void blockffn_mapped(const void* data, size_t bytes) {
#if defined(BLOCKFFN_GPU)
  blockffn::gpu::add_mapping(data, bytes);
#else
  (void)data, (void)bytes;
#endif
}

void blockffn_unmapped(const void* data) {
#if defined(BLOCKFFN_GPU)
  blockffn::gpu::remove_mapping(data);
#else
  (void)data;
#endif
}

void blockffn_all_experts(int all) { all_experts = all != 0; }

void blockffn_take_stats(blockffn_stats* out) {
  blockffn_stats unused;
  *(out == nullptr ? &unused : out) = {totals.calls.exchange(0), totals.tokens.exchange(0),
                                       totals.ffn_calls.exchange(0), totals.experts_read.exchange(0),
                                       totals.experts_total.exchange(0)};
}

void blockffn_last_call(blockffn_stats* out) {
  if (out != nullptr) *out = last_call;
  last_call = {};
}

}  // extern "C"

namespace {
// For desktops, where loading the library is enough. A static library loses this line to the
// linker: call blockffn_register_backend() there.
[[maybe_unused]] const int registered = blockffn_register_backend();
}  // namespace
