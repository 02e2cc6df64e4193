// A GPU as a decoder step sees it: memory, the compute passes by name, and commands that are recorded once and
// submitted many times. Vulkan (vulkan.h) and Metal (metal.h) implement it.
//
// One object owns one queue and all pipelines; one thread at a time may use it. Every function that can fail returns a
// Status whose message says what is missing, so that the caller can go on with the CPU.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../kernels/contract.h"

namespace blockffn::gpu {

// The compute passes, sorted by name, as in shaders.inc.
enum class Shader {
  kAttend,
  kAttendJoin,
  kBandwidth,  // no pass of a step: what benchmarks compare with
  kCompact,
  kElementwise,
  kEmbedding,
  kExpertDown = kEmbedding + 3,
  kExpertUp = kExpertDown + 6,
  kHeads = kExpertUp + 6,
  kKeepRows,
  kLinear,
  kRmsNorm = kLinear + 6,
  kCount
};
// In what the passes that multiply weights do so; all others, and all long sums, are float32.
enum class Arithmetic { kFp32, kFp16 };
inline const char* arithmetic_name(Arithmetic a) { return a == Arithmetic::kFp16 ? "fp16" : "fp32"; }
inline Shader variant(Shader first, Quant quant, Arithmetic arithmetic = Arithmetic::kFp32) {
  return static_cast<Shader>(static_cast<int>(first) + static_cast<int>(quant) + 3 * static_cast<int>(arithmetic));
}
constexpr const char* kShaderNames[] = {
    "attend",
    "attend_join",
    "bandwidth",
    "compact",
    "elementwise",
    "embedding_fp32",
    "embedding_int8",
    "embedding_int4",
    "expert_down_fp32",
    "expert_down_int8",
    "expert_down_int4",
    "expert_down_fp32_fp16",
    "expert_down_int8_fp16",
    "expert_down_int4_fp16",
    "expert_up_fp32",
    "expert_up_int8",
    "expert_up_int4",
    "expert_up_fp32_fp16",
    "expert_up_int8_fp16",
    "expert_up_int4_fp16",
    "heads",
    "keep_rows",
    "linear_fp32",
    "linear_int8",
    "linear_int4",
    "linear_fp32_fp16",
    "linear_int8_fp16",
    "linear_int4_fp16",
    "rms_norm"};
static_assert(sizeof kShaderNames / sizeof kShaderNames[0] == static_cast<size_t>(Shader::kCount));
inline const char* shader_name(Shader shader) { return kShaderNames[static_cast<int>(shader)]; }

struct Buffer {
  uint64_t object = 0, memory = 0;  // the implementation's handles
  uint64_t bytes = 0;
  void* mapped = nullptr;  // null where the CPU does not reach the memory
  bool local = false;      // the GPU's own memory
};

enum class Memory { kDevice, kUpload, kReadback };

struct Limits {
  uint32_t threads;        // of a workgroup, a power of two
  uint32_t wide_threads;   // of the passes that have few workgroups
  uint64_t binding_bytes;  // of one storage buffer
  uint64_t binding_align;
  uint32_t groups[3];  // workgroups of a dispatch
  bool half;           // multiplies in float16
};

// What tests pretend of a device.
struct Faults {
  uint32_t shared_bytes = 0;  // of a workgroup's memory, instead of what the device has
  uint64_t memory_bytes = 0;  // allocations beyond fail
  int lose_after = -1;        // submissions that succeed before the device is lost
  bool discrete = false;      // memory that the CPU cannot reach, filled by copies alone
  bool no_half = false;       // no arithmetic in float16
};

constexpr int kBindings = 7;
constexpr int kPushBytes = 128;

struct Binding {
  const Buffer* buffer = nullptr;
  uint64_t offset = 0, bytes = 0;
};

struct Launch {
  Shader shader;
  uint32_t threads;             // of a workgroup
  uint32_t tokens;              // that a workgroup multiplies together
  Binding bindings[kBindings];  // none is empty
  const uint32_t* push;         // kPushBytes
  uint32_t groups[3];
  Binding indirect;  // with a buffer: `groups` is read from it
};

struct Span {
  uint64_t from, to, bytes;
};

// Who has written, and who sees it: sums of these.
enum Stage : uint32_t { kCompute = 1, kTransfer = 2, kHost = 4 };

// Commands in the order of the calls; without a barrier they may overlap.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual Status begin() = 0;  // also: forgets what it held
  virtual void clear(const Buffer& buffer) = 0;
  virtual void copy(const Buffer& from, const Buffer& to, const std::vector<Span>& spans) = 0;
  virtual void barrier(uint32_t from, uint32_t to) = 0;
  virtual Status dispatch(const Launch& launch) = 0;
  virtual void stamp() = 0;  // the time at which everything before it is done
  virtual Status end() = 0;
  // After a submission: nanoseconds from each time stamp to the next.
  virtual Status between_stamps(std::vector<double>* nanoseconds) = 0;
};

class Device {
 public:
  // Opens the best device, or the one whose number BLOCKFFN_GPU names; cpu_too admits software drivers.
  static Status open(bool cpu_too, const Faults& faults, std::unique_ptr<Device>* out);
  // The one that all programs of this process share; opened on the first call, closed with the last user.
  static Status shared(bool cpu_too, std::shared_ptr<Device>* out);
  static void plant(const Faults& faults);  // for tests: in the devices that shared() opens from now on
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  virtual const char* name() const = 0;
  virtual std::string identity() const = 0;  // of device, driver and passes: what a verdict on them depends on

  Status allocate(uint64_t bytes, Memory kind, Buffer* out);
  // Whole pages that stay mapped until the buffer is released, as memory that passes only read, without a copy; false
  // where the device cannot.
  virtual bool map(const void* /*start*/, uint64_t /*bytes*/, Buffer* /*out*/) { return false; }
  virtual void release(Buffer& buffer) = 0;
  virtual Status upload(const Buffer& to, uint64_t offset, const void* data, uint64_t bytes) = 0;
  Status fill_zero(const Buffer& buffer);

  // Room for at most so many dispatches and time stamps.
  virtual Status record(uint32_t dispatches, uint32_t stamps, std::unique_ptr<Recording>* out) = 0;
  Status submit_and_wait(const std::vector<Recording*>& recordings);
  virtual void wait() = 0;  // until nothing runs, also after a failure

  const Limits& limits() const { return limits_; }
  bool lost() const { return lost_; }
  std::mutex& mutex() { return mutex_; }  // hold it while using the device, where programs share it
  void set_threads(uint32_t threads, uint32_t wide) {
    limits_.threads = threads;
    limits_.wide_threads = wide;
  }

 protected:
  explicit Device(const Faults& faults) : faults_(faults) {}
  virtual Status make_buffer(uint64_t bytes, Memory kind, Buffer* out) = 0;
  virtual Status submit(const std::vector<Recording*>& recordings) = 0;
  Status lose(const char* message) {
    lost_ = true;
    return {Status::kInvalidArgument, message};
  }

  Limits limits_{};
  bool lost_ = false;
  Faults faults_;

 private:
  uint64_t allocated_ = 0;
  std::mutex mutex_;
};

}  // namespace blockffn::gpu
