// A Vulkan 1.1 device for compute, opened at run time: nothing links to Vulkan, and a machine without it gets a
// sentence.
#pragma once

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include <map>
#include <tuple>

#include "device.h"

namespace blockffn::gpu {

#define BLOCKFFN_VK_INSTANCE(F)             \
  F(DestroyInstance)                        \
  F(EnumeratePhysicalDevices)               \
  F(GetPhysicalDeviceProperties)            \
  F(GetPhysicalDeviceMemoryProperties)      \
  F(GetPhysicalDeviceQueueFamilyProperties) \
  F(GetPhysicalDeviceFeatures2) F(CreateDevice) F(GetDeviceProcAddr) F(EnumerateDeviceExtensionProperties)
#define BLOCKFFN_VK_DEVICE(F)                                                                                        \
  F(DestroyDevice)                                                                                                   \
  F(GetDeviceQueue)                                                                                                  \
  F(CreateBuffer)                                                                                                    \
  F(DestroyBuffer)                                                                                                   \
  F(GetBufferMemoryRequirements)                                                                                     \
  F(AllocateMemory)                                                                                                  \
  F(FreeMemory)                                                                                                      \
  F(BindBufferMemory)                                                                                                \
  F(MapMemory)                                                                                                       \
  F(CreateShaderModule)                                                                                              \
  F(DestroyShaderModule)                                                                                             \
  F(CreateDescriptorSetLayout)                                                                                       \
  F(DestroyDescriptorSetLayout)                                                                                      \
  F(CreatePipelineLayout)                                                                                            \
  F(DestroyPipelineLayout) F(CreateComputePipelines) F(CreatePipelineCache) F(DestroyPipelineCache)                  \
      F(GetPipelineCacheData) F(DestroyPipeline) F(CreateDescriptorPool) F(ResetDescriptorPool)                      \
          F(DestroyDescriptorPool) F(AllocateDescriptorSets) F(UpdateDescriptorSets) F(CreateCommandPool)            \
              F(DestroyCommandPool) F(AllocateCommandBuffers) F(FreeCommandBuffers) F(BeginCommandBuffer)            \
                  F(EndCommandBuffer) F(CmdBindPipeline) F(CmdBindDescriptorSets) F(CmdPushConstants) F(CmdDispatch) \
                      F(CmdDispatchIndirect) F(CmdPipelineBarrier) F(CmdCopyBuffer) F(CmdFillBuffer)                 \
                          F(CmdResetQueryPool) F(CmdWriteTimestamp) F(CreateQueryPool) F(DestroyQueryPool)           \
                              F(GetQueryPoolResults) F(QueueSubmit) F(CreateFence) F(DestroyFence) F(WaitForFences)  \
                                  F(ResetFences) F(DeviceWaitIdle)

Status open_vulkan(bool cpu_too, const Faults& faults, std::unique_ptr<Device>* out);

class VulkanDevice final : public Device {
 public:
  explicit VulkanDevice(const Faults& faults) : Device(faults) {}
  ~VulkanDevice() override;
  Status start(bool cpu_too);

  const char* name() const override { return properties_.deviceName; }
  std::string identity() const override;
  void release(Buffer& buffer) override;
  // Copies through a staging buffer where `to` is not host-visible.
  Status upload(const Buffer& to, uint64_t offset, const void* data, uint64_t bytes) override;
  Status record(uint32_t dispatches, uint32_t stamps, std::unique_ptr<Recording>* out) override;
  void wait() override;

  Status pipeline(Shader shader, uint32_t threads, uint32_t tokens, VkPipeline* out);
  // Keeps what the driver has compiled, if that has grown: compiling takes seconds on phones.
  void keep_pipelines();
  Status check(VkResult result, const char* message);

  const VkPhysicalDeviceProperties& properties() const { return properties_; }
  VkPipelineLayout layout() const { return layout_; }
  VkDescriptorSetLayout set_layout() const { return set_layout_; }
  VkDevice handle() const { return device_; }
  VkCommandPool commands() const { return commands_; }
  uint32_t timestamp_bits() const { return timestamp_bits_; }

#define F(name) PFN_vk##name name = nullptr;
  BLOCKFFN_VK_INSTANCE(F)
  BLOCKFFN_VK_DEVICE(F)
#undef F

 private:
  Status make_buffer(uint64_t bytes, Memory kind, Buffer* out) override;
  Status submit(const std::vector<Recording*>& recordings) override;
  Status choose(bool cpu_too);
  bool offers_half() const;
  int memory_type(uint32_t allowed, VkMemoryPropertyFlags wanted) const;

  void* library_ = nullptr;
  VkInstance instance_ = VK_NULL_HANDLE;
  VkPhysicalDevice physical_ = VK_NULL_HANDLE;
  VkPhysicalDeviceProperties properties_{};
  VkPhysicalDeviceMemoryProperties memory_{};
  uint32_t family_ = 0, timestamp_bits_ = 0;
  VkDevice device_ = VK_NULL_HANDLE;
  VkQueue queue_ = VK_NULL_HANDLE;
  VkCommandPool commands_ = VK_NULL_HANDLE;
  VkFence fence_ = VK_NULL_HANDLE;
  VkDescriptorSetLayout set_layout_ = VK_NULL_HANDLE;
  VkPipelineLayout layout_ = VK_NULL_HANDLE;
  std::map<std::tuple<Shader, uint32_t, uint32_t>, VkPipeline> pipelines_;
  VkPipelineCache pipeline_cache_ = VK_NULL_HANDLE;
  std::string pipeline_file_;
  std::vector<uint8_t> kept_pipelines_;  // what it holds
  bool compiled_ = false;                // since keep_pipelines
  Buffer staging_;
};

// A command buffer with the descriptors of its dispatches.
class VulkanRecording final : public Recording {
 public:
  explicit VulkanRecording(VulkanDevice& device) : device_(device) {}
  ~VulkanRecording() override;
  Status start(uint32_t dispatches, uint32_t stamps);
  VkCommandBuffer commands() const { return commands_; }

  Status begin() override;
  void clear(const Buffer& buffer) override;
  void copy(const Buffer& from, const Buffer& to, const std::vector<Span>& spans) override;
  void barrier(uint32_t from, uint32_t to) override;
  Status dispatch(const Launch& launch) override;
  void stamp() override;
  Status end() override;
  Status between_stamps(std::vector<double>* nanoseconds) override;

 private:
  VulkanDevice& device_;
  VkCommandBuffer commands_ = VK_NULL_HANDLE;
  VkDescriptorPool pool_ = VK_NULL_HANDLE;
  VkQueryPool queries_ = VK_NULL_HANDLE;
  uint32_t stamps_ = 0, stamped_ = 0;
};

}  // namespace blockffn::gpu
