// A Vulkan 1.1 device for compute, opened at run time: nothing links to Vulkan, and a machine without it gets a
// sentence.
//
// One object owns one queue, one command pool and all pipelines; one thread at a time may use it. Every function that
// can fail returns a Status whose message says what is missing, so that the caller can go on with the CPU.
#pragma once

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "../kernels/contract.h"

namespace blockffn::gpu {

#define BLOCKFFN_VK_INSTANCE(F)        \
  F(DestroyInstance)                   \
  F(EnumeratePhysicalDevices)          \
  F(GetPhysicalDeviceProperties)       \
  F(GetPhysicalDeviceMemoryProperties) \
  F(GetPhysicalDeviceQueueFamilyProperties) F(CreateDevice) F(GetDeviceProcAddr) F(EnumerateDeviceExtensionProperties)
#define BLOCKFFN_VK_DEVICE(F)                                                                                    \
  F(DestroyDevice)                                                                                               \
  F(GetDeviceQueue)                                                                                              \
  F(CreateBuffer)                                                                                                \
  F(DestroyBuffer)                                                                                               \
  F(GetBufferMemoryRequirements) F(AllocateMemory) F(FreeMemory) F(BindBufferMemory) F(MapMemory)                \
      F(CreateShaderModule) F(DestroyShaderModule) F(CreateDescriptorSetLayout) F(DestroyDescriptorSetLayout)    \
          F(CreatePipelineLayout) F(DestroyPipelineLayout) F(CreateComputePipelines) F(DestroyPipeline)          \
              F(CreateDescriptorPool) F(DestroyDescriptorPool) F(AllocateDescriptorSets) F(UpdateDescriptorSets) \
                  F(CreateCommandPool) F(DestroyCommandPool) F(AllocateCommandBuffers) F(FreeCommandBuffers)     \
                      F(BeginCommandBuffer) F(EndCommandBuffer) F(CmdBindPipeline) F(CmdBindDescriptorSets)      \
                          F(CmdPushConstants) F(CmdDispatch) F(CmdDispatchIndirect) F(CmdPipelineBarrier)        \
                              F(CmdCopyBuffer) F(CmdFillBuffer) F(CmdResetQueryPool) F(CmdWriteTimestamp)        \
                                  F(CreateQueryPool) F(DestroyQueryPool) F(GetQueryPoolResults) F(QueueSubmit)   \
                                      F(CreateFence) F(DestroyFence) F(WaitForFences) F(ResetFences) F(DeviceWaitIdle)

// The compute modules, in the order of kModules in shaders.inc (sorted by name).
enum class Shader {
  kAttend,
  kAttendJoin,
  kCompact,
  kElementwise,
  kEmbedding,
  kExpertDown = kEmbedding + 3,
  kExpertUp = kExpertDown + 3,
  kHeads = kExpertUp + 3,
  kKeepRows,
  kLinear,
  kRmsNorm = kLinear + 3,
  kRouter,
  kCount = kRouter + 2
};
inline Shader variant(Shader first, Quant quant) {
  return static_cast<Shader>(static_cast<int>(first) + static_cast<int>(quant));
}

const char* shader_name(Shader shader);
uint64_t shaders_hash();  // of all modules: what a cached verdict on a driver depends on

struct Buffer {
  VkBuffer buffer = VK_NULL_HANDLE;
  VkDeviceMemory memory = VK_NULL_HANDLE;
  VkDeviceSize bytes = 0;
  void* mapped = nullptr;  // null where the memory is not host-visible
  bool local = false;      // the GPU's own memory
};

enum class Memory { kDevice, kUpload, kReadback };

struct Limits {
  uint32_t threads;        // of a workgroup, a power of two
  uint32_t wide_threads;   // of the passes that have few workgroups
  uint64_t binding_bytes;  // of one storage buffer
  uint64_t binding_align;
  uint32_t groups[3];  // workgroups of a dispatch
};

// What tests pretend of a device.
struct Faults {
  uint32_t shared_bytes = 0;  // of a workgroup's memory, instead of what the device has
  uint64_t memory_bytes = 0;  // allocations beyond fail
  int lose_after = -1;        // submissions that succeed before the device is lost
  bool discrete = false;      // memory that the CPU cannot reach, filled by copies alone
};

class Device {
 public:
  static constexpr int kBindings = 7;
  static constexpr int kPushBytes = 128;

  // Opens the best device, or the one whose number BLOCKFFN_GPU names; cpu_too admits software drivers.
  static Status open(bool cpu_too, const Faults& faults, std::unique_ptr<Device>* out);
  // The one that all programs of this process share; opened on the first call, closed with the last user.
  static Status shared(bool cpu_too, std::shared_ptr<Device>* out);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  Status allocate(VkDeviceSize bytes, Memory kind, Buffer* out);
  void release(Buffer& buffer);
  // Copies through a staging buffer where `to` is not host-visible.
  Status upload(const Buffer& to, VkDeviceSize offset, const void* data, VkDeviceSize bytes);
  Status fill_zero(const Buffer& buffer);

  // `tokens` is the number of tokens that a workgroup multiplies together.
  Status pipeline(Shader shader, uint32_t threads, uint32_t tokens, VkPipeline* out);
  Status command_buffer(VkCommandBuffer* out);
  Status submit_and_wait(const VkCommandBuffer* buffers, uint32_t count);

  const char* name() const { return properties_.deviceName; }
  const VkPhysicalDeviceProperties& properties() const { return properties_; }
  const Limits& limits() const { return limits_; }
  VkPipelineLayout layout() const { return layout_; }
  VkDescriptorSetLayout set_layout() const { return set_layout_; }
  VkDevice handle() const { return device_; }
  uint32_t timestamp_bits() const { return timestamp_bits_; }
  bool lost() const { return lost_; }
  std::mutex& mutex() { return mutex_; }  // hold it while using the device, where programs share it
  void set_threads(uint32_t threads) { limits_.threads = limits_.wide_threads = threads; }

#define F(name) PFN_vk##name name = nullptr;
  BLOCKFFN_VK_INSTANCE(F)
  BLOCKFFN_VK_DEVICE(F)
#undef F

 private:
  Device() = default;
  Status start(bool cpu_too);
  Status choose(bool cpu_too);
  Status check(VkResult result, const char* message);
  int memory_type(uint32_t allowed, VkMemoryPropertyFlags wanted) const;

  void* library_ = nullptr;
  VkInstance instance_ = VK_NULL_HANDLE;
  VkPhysicalDevice physical_ = VK_NULL_HANDLE;
  VkPhysicalDeviceProperties properties_{};
  VkPhysicalDeviceMemoryProperties memory_{};
  Limits limits_{};
  uint32_t family_ = 0, timestamp_bits_ = 0;
  VkDevice device_ = VK_NULL_HANDLE;
  VkQueue queue_ = VK_NULL_HANDLE;
  VkCommandPool commands_ = VK_NULL_HANDLE;
  VkFence fence_ = VK_NULL_HANDLE;
  VkDescriptorSetLayout set_layout_ = VK_NULL_HANDLE;
  VkPipelineLayout layout_ = VK_NULL_HANDLE;
  std::map<std::tuple<Shader, uint32_t, uint32_t>, VkPipeline> pipelines_;
  Buffer staging_;
  bool lost_ = false;
  Faults faults_;
  uint64_t allocated_ = 0;
  std::mutex mutex_;
};

}  // namespace blockffn::gpu
