#include <algorithm>

#include "vulkan.h"

namespace blockffn::gpu {
namespace {

const Status kNoRoom{Status::kNoMemory, "the GPU has not enough memory"};

struct Scope {
  VkPipelineStageFlags stages = 0;
  VkAccessFlags writes = 0, any = 0;
};
Scope scope(uint32_t stages) {
  Scope s;
  if ((stages & kCompute) != 0) {
    s.stages |= VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
    s.writes |= VK_ACCESS_SHADER_WRITE_BIT;
    s.any |= VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT;
  }
  if ((stages & kTransfer) != 0) {
    s.stages |= VK_PIPELINE_STAGE_TRANSFER_BIT;
    s.writes |= VK_ACCESS_TRANSFER_WRITE_BIT;
    s.any |= VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
  }
  if ((stages & kHost) != 0) {
    s.stages |= VK_PIPELINE_STAGE_HOST_BIT;
    s.any |= VK_ACCESS_HOST_READ_BIT;
  }
  return s;
}

}  // namespace

Status VulkanDevice::record(uint32_t dispatches, uint32_t stamps, std::unique_ptr<Recording>* out) {
  auto recording = std::make_unique<VulkanRecording>(*this);
  if (Status s = recording->start(dispatches, stamps); !s.ok()) return s;
  *out = std::move(recording);
  return kStatusOk;
}

Status VulkanRecording::start(uint32_t dispatches, uint32_t stamps) {
  VulkanDevice& d = device_;
  if (stamps > 0 && d.timestamp_bits() == 0) return {Status::kInvalidArgument, "the GPU has no time stamps"};
  VkCommandBufferAllocateInfo commands{VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, nullptr, d.commands(),
                                       VK_COMMAND_BUFFER_LEVEL_PRIMARY, 1};
  if (d.AllocateCommandBuffers(d.handle(), &commands, &commands_) != VK_SUCCESS) {
    commands_ = VK_NULL_HANDLE;
    return kNoRoom;
  }
  if (dispatches > 0) {
    VkDescriptorPoolSize size{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, dispatches * kBindings};
    VkDescriptorPoolCreateInfo pool{VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, nullptr, 0, dispatches, 1, &size};
    if (d.CreateDescriptorPool(d.handle(), &pool, nullptr, &pool_) != VK_SUCCESS) {
      pool_ = VK_NULL_HANDLE;
      return kNoRoom;
    }
  }
  stamps_ = stamps;
  if (stamps == 0) return kStatusOk;
  VkQueryPoolCreateInfo queries{
      VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO, nullptr, 0, VK_QUERY_TYPE_TIMESTAMP, stamps, 0};
  if (d.CreateQueryPool(d.handle(), &queries, nullptr, &queries_) == VK_SUCCESS) return kStatusOk;
  queries_ = VK_NULL_HANDLE;
  return kNoRoom;
}

VulkanRecording::~VulkanRecording() {
  VulkanDevice& d = device_;
  d.wait();  // a step that timed out may still run
  if (queries_ != VK_NULL_HANDLE) d.DestroyQueryPool(d.handle(), queries_, nullptr);
  if (pool_ != VK_NULL_HANDLE) d.DestroyDescriptorPool(d.handle(), pool_, nullptr);
  if (commands_ != VK_NULL_HANDLE) d.FreeCommandBuffers(d.handle(), d.commands(), 1, &commands_);
}

Status VulkanRecording::begin() {
  VulkanDevice& d = device_;
  if (pool_ != VK_NULL_HANDLE) d.ResetDescriptorPool(d.handle(), pool_, 0);
  VkCommandBufferBeginInfo info{VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO, nullptr, 0, nullptr};
  if (d.BeginCommandBuffer(commands_, &info) != VK_SUCCESS) return kNoRoom;
  if (queries_ != VK_NULL_HANDLE) d.CmdResetQueryPool(commands_, queries_, 0, stamps_);
  stamped_ = 0;
  return kStatusOk;
}

void VulkanRecording::clear(const Buffer& buffer) {
  device_.CmdFillBuffer(commands_, (VkBuffer)buffer.object, 0, VK_WHOLE_SIZE, 0);
}

void VulkanRecording::copy(const Buffer& from, const Buffer& to, const std::vector<Span>& spans) {
  std::vector<VkBufferCopy> regions;
  for (const Span& s : spans) regions.push_back({s.from, s.to, s.bytes});
  if (!regions.empty())
    device_.CmdCopyBuffer(commands_, (VkBuffer)from.object, (VkBuffer)to.object, static_cast<uint32_t>(regions.size()),
                          regions.data());
}

void VulkanRecording::barrier(uint32_t from, uint32_t to) {
  const Scope before = scope(from);
  Scope after = scope(to);
  // Dispatch arguments, which only copies write: between passes, waiting for their reader would cost a stall each.
  if ((from & kTransfer) != 0 && (to & kCompute) != 0) {
    after.stages |= VK_PIPELINE_STAGE_DRAW_INDIRECT_BIT;
    after.any |= VK_ACCESS_INDIRECT_COMMAND_READ_BIT;
  }
  VkMemoryBarrier memory{VK_STRUCTURE_TYPE_MEMORY_BARRIER, nullptr, before.writes, after.any};
  device_.CmdPipelineBarrier(commands_, before.stages, after.stages, 0, 1, &memory, 0, nullptr, 0, nullptr);
}

Status VulkanRecording::dispatch(const Launch& launch) {
  VulkanDevice& d = device_;
  VkPipeline pipeline;
  if (Status s = d.pipeline(launch.shader, launch.threads, launch.tokens, &pipeline); !s.ok()) return s;
  const VkDescriptorSetLayout layout = d.set_layout();
  VkDescriptorSetAllocateInfo allocate{VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO, nullptr, pool_, 1, &layout};
  VkDescriptorSet set;
  if (d.AllocateDescriptorSets(d.handle(), &allocate, &set) != VK_SUCCESS) return kNoRoom;
  VkDescriptorBufferInfo buffers[kBindings];
  VkWriteDescriptorSet writes[kBindings]{};
  for (uint32_t b = 0; b < kBindings; ++b) {
    const Binding& binding = launch.bindings[b];
    buffers[b] = {(VkBuffer)binding.buffer->object, binding.offset,
                  std::min(binding.bytes, binding.buffer->bytes - binding.offset)};
    writes[b] = {VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET, nullptr, set,         b,      0, 1,
                 VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,      nullptr, &buffers[b], nullptr};
  }
  d.UpdateDescriptorSets(d.handle(), kBindings, writes, 0, nullptr);
  d.CmdBindPipeline(commands_, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
  d.CmdBindDescriptorSets(commands_, VK_PIPELINE_BIND_POINT_COMPUTE, d.layout(), 0, 1, &set, 0, nullptr);
  d.CmdPushConstants(commands_, d.layout(), VK_SHADER_STAGE_COMPUTE_BIT, 0, kPushBytes, launch.push);
  if (launch.indirect.buffer != nullptr)
    d.CmdDispatchIndirect(commands_, (VkBuffer)launch.indirect.buffer->object, launch.indirect.offset);
  else
    d.CmdDispatch(commands_, launch.groups[0], launch.groups[1], launch.groups[2]);
  return kStatusOk;
}

void VulkanRecording::stamp() {
  device_.CmdWriteTimestamp(commands_, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, queries_, stamped_++);
}

Status VulkanRecording::end() {
  device_.keep_pipelines();
  return device_.EndCommandBuffer(commands_) == VK_SUCCESS ? kStatusOk : kNoRoom;
}

Status VulkanRecording::between_stamps(std::vector<double>* nanoseconds) {
  VulkanDevice& d = device_;
  std::vector<uint64_t> times(stamped_);
  if (d.GetQueryPoolResults(d.handle(), queries_, 0, stamped_, times.size() * 8, times.data(), 8,
                            VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT) != VK_SUCCESS)
    return {Status::kInvalidArgument, "the GPU's time stamps cannot be read"};
  nanoseconds->clear();
  for (size_t i = 1; i < times.size(); ++i)
    nanoseconds->push_back(static_cast<double>(times[i] - times[i - 1]) * d.properties().limits.timestampPeriod);
  return kStatusOk;
}

}  // namespace blockffn::gpu
