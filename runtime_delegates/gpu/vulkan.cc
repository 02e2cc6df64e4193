#include "vulkan.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "cache_files.h"

namespace blockffn::gpu {
namespace {

struct Module {
  const char* name;
  const uint32_t* words;
  size_t bytes;
};
#include "shaders.inc"
constexpr bool modules_have_their_numbers() {
  if (sizeof kModules / sizeof kModules[0] != static_cast<size_t>(Shader::kCount)) return false;
  for (int i = 0; i < static_cast<int>(Shader::kCount); ++i)
    if (std::string_view(kModules[i].name) != kShaderNames[i]) return false;
  return true;
}
static_assert(modules_have_their_numbers(), "the enumeration of passes is not that of shaders.inc");

constexpr VkDeviceSize kStagingBytes = VkDeviceSize{64} << 20;
constexpr uint64_t kStepTimeout = 30'000'000'000;  // ns; a step takes milliseconds
constexpr uint32_t kNvidia = 0x10de;

Status unavailable(const char* message) { return {Status::kInvalidArgument, message}; }

}  // namespace

Status VulkanDevice::check(VkResult result, const char* message) {
  switch (result) {
    case VK_SUCCESS:
      return kStatusOk;
    case VK_ERROR_OUT_OF_HOST_MEMORY:
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    case VK_ERROR_TOO_MANY_OBJECTS:
      return {Status::kNoMemory, "the GPU has not enough memory"};
    case VK_ERROR_DEVICE_LOST:
      return lose("the GPU was lost (its driver reset it)");
    case VK_TIMEOUT:
      return lose("the GPU did not finish a step within 30 seconds");
    default:
      return unavailable(message);
  }
}

Status open_vulkan(bool cpu_too, const Faults& faults, std::unique_ptr<Device>* out) {
  auto device = std::make_unique<VulkanDevice>(faults);
  if (Status s = device->start(cpu_too); !s.ok()) return s;
  *out = std::move(device);
  return kStatusOk;
}

Status VulkanDevice::start(bool cpu_too) {
  for (const char* name : {"libvulkan.so.1", "libvulkan.so", "libMoltenVK.dylib"}) {
    library_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library_ != nullptr) break;
  }
  if (library_ == nullptr) return unavailable("there is no Vulkan loader (libvulkan.so.1) on this system");
  const auto get = reinterpret_cast<PFN_vkGetInstanceProcAddr>(dlsym(library_, "vkGetInstanceProcAddr"));
  const auto create =
      get == nullptr ? nullptr : reinterpret_cast<PFN_vkCreateInstance>(get(nullptr, "vkCreateInstance"));
  if (create == nullptr) return unavailable("libvulkan.so.1 is not a Vulkan loader");
  VkApplicationInfo application{
      VK_STRUCTURE_TYPE_APPLICATION_INFO, nullptr, "blockffn", 1, "blockffn", 1, VK_API_VERSION_1_1};
  VkInstanceCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO;
  info.pApplicationInfo = &application;
  if (create(&info, nullptr, &instance_) != VK_SUCCESS) {
    instance_ = VK_NULL_HANDLE;
    return unavailable("there is no Vulkan driver on this system");
  }
#define F(name)                                                                       \
  if ((name = reinterpret_cast<PFN_vk##name>(get(instance_, "vk" #name))) == nullptr) \
    return unavailable("the Vulkan loader lacks vk" #name);
  BLOCKFFN_VK_INSTANCE(F)
#undef F
  if (Status s = choose(cpu_too); !s.ok()) return s;

  const float priority = 1.0f;
  VkDeviceQueueCreateInfo queue{};
  queue.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO;
  queue.queueFamilyIndex = family_;
  queue.queueCount = 1;
  queue.pQueuePriorities = &priority;
  VkDeviceCreateInfo device{};
  device.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO;
  device.queueCreateInfoCount = 1;
  device.pQueueCreateInfos = &queue;
  // Arithmetic in float16, where there is any; whether a program uses it is decided later.
  VkPhysicalDeviceShaderFloat16Int8Features half{};
  half.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES;
  half.shaderFloat16 = VK_TRUE;
  const char* extension = VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME;
  limits_.half = offers_half();
  if (limits_.half) {
    device.pNext = &half;
    device.enabledExtensionCount = 1;
    device.ppEnabledExtensionNames = &extension;
  }
  if (Status s = check(CreateDevice(physical_, &device, nullptr, &device_), "the Vulkan driver cannot open its device");
      !s.ok()) {
    device_ = VK_NULL_HANDLE;
    return s;
  }
#define F(name)                                                                                   \
  if ((name = reinterpret_cast<PFN_vk##name>(GetDeviceProcAddr(device_, "vk" #name))) == nullptr) \
    return unavailable("the Vulkan driver lacks vk" #name);
  BLOCKFFN_VK_DEVICE(F)
#undef F
  GetDeviceQueue(device_, family_, 0, &queue_);

  VkCommandPoolCreateInfo pool{VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, nullptr,
                               VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT, family_};
  if (Status s = check(CreateCommandPool(device_, &pool, nullptr, &commands_), "vkCreateCommandPool failed"); !s.ok())
    return s;
  VkFenceCreateInfo fence{VK_STRUCTURE_TYPE_FENCE_CREATE_INFO, nullptr, 0};
  if (Status s = check(CreateFence(device_, &fence, nullptr, &fence_), "vkCreateFence failed"); !s.ok()) return s;

  VkDescriptorSetLayoutBinding bindings[kBindings]{};
  for (uint32_t i = 0; i < kBindings; ++i)
    bindings[i] = {i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, nullptr};
  VkDescriptorSetLayoutCreateInfo set{VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO, nullptr, 0, kBindings,
                                      bindings};
  if (Status s =
          check(CreateDescriptorSetLayout(device_, &set, nullptr, &set_layout_), "vkCreateDescriptorSetLayout failed");
      !s.ok())
    return s;
  VkPushConstantRange push{VK_SHADER_STAGE_COMPUTE_BIT, 0, kPushBytes};
  VkPipelineLayoutCreateInfo layout{
      VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, nullptr, 0, 1, &set_layout_, 1, &push};
  if (Status s = check(CreatePipelineLayout(device_, &layout, nullptr, &layout_), "vkCreatePipelineLayout failed");
      !s.ok())
    return s;

  pipeline_file_ = "pipelines-" + identity() + "-";
  for (uint8_t byte : properties_.pipelineCacheUUID) {
    char hex[3];
    std::snprintf(hex, sizeof hex, "%02x", byte);
    pipeline_file_ += hex;
  }
  pipeline_file_ = cache_file(pipeline_file_);
  kept_pipelines_ = read_checked(pipeline_file_);
  VkPipelineCacheCreateInfo cache{VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO, nullptr, 0, kept_pipelines_.size(),
                                  kept_pipelines_.data()};
  if (CreatePipelineCache(device_, &cache, nullptr, &pipeline_cache_) != VK_SUCCESS) pipeline_cache_ = VK_NULL_HANDLE;
  return kStatusOk;
}

Status VulkanDevice::choose(bool cpu_too) {
  uint32_t count = 0;
  if (EnumeratePhysicalDevices(instance_, &count, nullptr) != VK_SUCCESS || count == 0)
    return unavailable("the Vulkan driver shows no device");
  std::vector<VkPhysicalDevice> devices(count);
  if (EnumeratePhysicalDevices(instance_, &count, devices.data()) < 0)
    return unavailable("the Vulkan driver shows no device");
  devices.resize(count);
  const char* forced = std::getenv("BLOCKFFN_GPU");
  const auto rank = [](VkPhysicalDeviceType type) {
    return type == VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU     ? 4
           : type == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU ? 3
           : type == VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU    ? 2
           : type == VK_PHYSICAL_DEVICE_TYPE_CPU            ? 1
                                                            : 0;
  };
  int best = -1;
  bool software = false;
  for (uint32_t i = 0; i < count; ++i) {
    VkPhysicalDeviceProperties p;
    GetPhysicalDeviceProperties(devices[i], &p);
    if (forced != nullptr && *forced != '\0' && static_cast<uint32_t>(std::atoi(forced)) != i) continue;
    if (p.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU && !cpu_too) {
      software = true;
      continue;
    }
    if (rank(p.deviceType) <= best) continue;
    best = rank(p.deviceType);
    physical_ = devices[i];
    properties_ = p;
  }
  if (best < 0)
    return unavailable(software ? "Vulkan has only a software driver here, which the CPU kernels outrun"
                                : "BLOCKFFN_GPU names no Vulkan device");
  if (properties_.apiVersion < VK_API_VERSION_1_1) return unavailable("the Vulkan driver is older than 1.1");
  GetPhysicalDeviceMemoryProperties(physical_, &memory_);

  uint32_t families = 0;
  GetPhysicalDeviceQueueFamilyProperties(physical_, &families, nullptr);
  std::vector<VkQueueFamilyProperties> family(families);
  GetPhysicalDeviceQueueFamilyProperties(physical_, &families, family.data());
  family_ = families;
  for (uint32_t i = 0; i < families; ++i)
    if ((family[i].queueFlags & VK_QUEUE_COMPUTE_BIT) != 0) {
      family_ = i;
      break;
    }
  if (family_ == families) return unavailable("the Vulkan device has no compute queue");
  timestamp_bits_ = family[family_].timestampValidBits;

  const VkPhysicalDeviceLimits& l = properties_.limits;
  // Desktop GPUs hide memory latency better with two warps a workgroup; phones are known to run 64 well.
  limits_.threads = properties_.vendorID == kNvidia ? 128 : 64;
  limits_.wide_threads = properties_.vendorID == kNvidia ? 256 : 64;
  limits_.binding_bytes = l.maxStorageBufferRange / 64 * 64;
  limits_.binding_align = std::max<VkDeviceSize>(l.minStorageBufferOffsetAlignment, 16);
  for (int i = 0; i < 3; ++i) limits_.groups[i] = l.maxComputeWorkGroupCount[i];
  if (l.maxComputeWorkGroupInvocations < limits_.threads || l.maxComputeWorkGroupSize[0] < limits_.threads ||
      (faults_.shared_bytes != 0 ? faults_.shared_bytes : l.maxComputeSharedMemorySize) < 16384 ||
      l.maxPushConstantsSize < kPushBytes || l.maxPerStageDescriptorStorageBuffers < kBindings ||
      limits_.binding_bytes < (uint64_t{1} << 27) || limits_.binding_align > 256)
    return unavailable("the Vulkan device's limits are below what Vulkan 1.1 guarantees");
  return kStatusOk;
}

bool VulkanDevice::offers_half() const {
  if (faults_.no_half) return false;
  uint32_t count = 0;
  if (EnumerateDeviceExtensionProperties(physical_, nullptr, &count, nullptr) != VK_SUCCESS) return false;
  std::vector<VkExtensionProperties> extensions(count);
  if (EnumerateDeviceExtensionProperties(physical_, nullptr, &count, extensions.data()) != VK_SUCCESS) return false;
  if (std::none_of(extensions.begin(), extensions.end(), [](const VkExtensionProperties& e) {
        return std::strcmp(e.extensionName, VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME) == 0;
      }))
    return false;
  VkPhysicalDeviceShaderFloat16Int8Features half{};
  half.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES;
  VkPhysicalDeviceFeatures2 features{};
  features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
  features.pNext = &half;
  GetPhysicalDeviceFeatures2(physical_, &features);
  return half.shaderFloat16 == VK_TRUE;
}

VulkanDevice::~VulkanDevice() {
  if (device_ != VK_NULL_HANDLE) {
    if (DeviceWaitIdle != nullptr) DeviceWaitIdle(device_);
    release(staging_);
    for (auto& [key, pipeline] : pipelines_) DestroyPipeline(device_, pipeline, nullptr);
    if (pipeline_cache_ != VK_NULL_HANDLE) DestroyPipelineCache(device_, pipeline_cache_, nullptr);
    if (layout_ != VK_NULL_HANDLE) DestroyPipelineLayout(device_, layout_, nullptr);
    if (set_layout_ != VK_NULL_HANDLE) DestroyDescriptorSetLayout(device_, set_layout_, nullptr);
    if (fence_ != VK_NULL_HANDLE) DestroyFence(device_, fence_, nullptr);
    if (commands_ != VK_NULL_HANDLE) DestroyCommandPool(device_, commands_, nullptr);
    if (DestroyDevice != nullptr) DestroyDevice(device_, nullptr);
  }
  if (instance_ != VK_NULL_HANDLE && DestroyInstance != nullptr) DestroyInstance(instance_, nullptr);
  // The library stays open: drivers leave threads and exit handlers behind.
}

int VulkanDevice::memory_type(uint32_t allowed, VkMemoryPropertyFlags wanted) const {
  for (uint32_t i = 0; i < memory_.memoryTypeCount; ++i)
    if ((allowed >> i & 1) != 0 && (memory_.memoryTypes[i].propertyFlags & wanted) == wanted)
      return static_cast<int>(i);
  return -1;
}

Status VulkanDevice::make_buffer(uint64_t bytes, Memory kind, Buffer* out) {
  VkBufferCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO;
  info.size = round_up(std::max<VkDeviceSize>(bytes, 256), 256);
  info.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT |
               VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT;
  info.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
  VkBuffer buffer;
  if (Status s = check(CreateBuffer(device_, &info, nullptr, &buffer), "vkCreateBuffer failed"); !s.ok()) return s;
  Buffer made;
  made.object = (uint64_t)buffer;  // a pointer or an integer
  made.bytes = info.size;
  VkMemoryRequirements needs;
  GetBufferMemoryRequirements(device_, buffer, &needs);
  constexpr VkMemoryPropertyFlags kLocal = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
                                  kVisible = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
                                  kCached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
  // Where all memory is shared, weights are written in place; a GPU with memory of its own gets them through staging.
  const bool shared = properties_.deviceType != VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
  std::vector<VkMemoryPropertyFlags> wishes;
  if (kind == Memory::kDevice)
    wishes = shared ? std::vector<VkMemoryPropertyFlags>{kLocal | kVisible, kLocal, 0}
                    : std::vector<VkMemoryPropertyFlags>{kLocal, 0};
  if (kind == Memory::kUpload) wishes = {kLocal | kVisible, kVisible};
  if (kind == Memory::kReadback) wishes = {kVisible | kCached, kVisible};
  VkResult result = VK_ERROR_OUT_OF_DEVICE_MEMORY;
  for (VkMemoryPropertyFlags wish : wishes) {
    const int type = memory_type(needs.memoryTypeBits, wish);
    if (type < 0) continue;
    VkMemoryAllocateInfo allocation{VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, nullptr, needs.size,
                                    static_cast<uint32_t>(type)};
    VkDeviceMemory memory;
    result = AllocateMemory(device_, &allocation, nullptr, &memory);
    if (result != VK_SUCCESS) continue;
    made.memory = (uint64_t)memory;
    made.local = (memory_.memoryTypes[type].propertyFlags & kLocal) != 0;
    result = BindBufferMemory(device_, buffer, memory, 0);
    if (faults_.discrete && kind != Memory::kDevice) made.local = false;
    if (faults_.discrete && kind == Memory::kDevice) break;
    if (result == VK_SUCCESS && (memory_.memoryTypes[type].propertyFlags & kVisible) == kVisible)
      result = MapMemory(device_, memory, 0, VK_WHOLE_SIZE, 0, &made.mapped);
    break;
  }
  if (Status s = check(result, "the GPU's memory cannot be used"); !s.ok()) {
    release(made);
    return s;
  }
  *out = made;
  return kStatusOk;
}

void VulkanDevice::release(Buffer& buffer) {
  if (buffer.object != 0) DestroyBuffer(device_, (VkBuffer)buffer.object, nullptr);
  if (buffer.memory != 0) FreeMemory(device_, (VkDeviceMemory)buffer.memory, nullptr);
  buffer = {};
}

Status VulkanDevice::submit(const std::vector<Recording*>& recordings) {
  std::vector<VkCommandBuffer> commands;
  for (Recording* r : recordings) commands.push_back(static_cast<VulkanRecording*>(r)->commands());
  VkSubmitInfo info{};
  info.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO;
  info.commandBufferCount = static_cast<uint32_t>(commands.size());
  info.pCommandBuffers = commands.data();
  if (Status s = check(ResetFences(device_, 1, &fence_), "vkResetFences failed"); !s.ok()) return s;
  if (Status s = check(QueueSubmit(queue_, 1, &info, fence_), "vkQueueSubmit failed"); !s.ok()) return s;
  return check(WaitForFences(device_, 1, &fence_, VK_TRUE, kStepTimeout), "vkWaitForFences failed");
}

void VulkanDevice::wait() { DeviceWaitIdle(device_); }

void VulkanDevice::keep_pipelines() {
  if (!compiled_ || pipeline_cache_ == VK_NULL_HANDLE) return;
  compiled_ = false;
  size_t bytes = 0;
  if (GetPipelineCacheData(device_, pipeline_cache_, &bytes, nullptr) != VK_SUCCESS || bytes == 0) return;
  std::vector<uint8_t> data(bytes);
  if (GetPipelineCacheData(device_, pipeline_cache_, &bytes, data.data()) != VK_SUCCESS) return;
  data.resize(bytes);
  if (data == kept_pipelines_) return;
  write_checked(pipeline_file_, data);
  kept_pipelines_ = std::move(data);
}

std::string VulkanDevice::identity() const {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const Module& m : kModules)
    for (size_t i = 0; i < m.bytes / 4; ++i) hash = (hash ^ m.words[i]) * 0x100000001b3u;
  char text[96];
  std::snprintf(text, sizeof text, "%x-%x-%x-%016llx", properties_.vendorID, properties_.deviceID,
                properties_.driverVersion, static_cast<unsigned long long>(hash));
  return text;
}

Status VulkanDevice::upload(const Buffer& to, uint64_t offset, const void* data, uint64_t bytes) {
  if (to.mapped != nullptr) {
    std::memcpy(static_cast<uint8_t*>(to.mapped) + offset, data, bytes);
    return kStatusOk;
  }
  if (staging_.object == 0)
    if (Status s = allocate(kStagingBytes, Memory::kReadback, &staging_); !s.ok()) return s;
  std::unique_ptr<Recording> commands;
  if (Status s = record(0, 0, &commands); !s.ok()) return s;
  for (uint64_t done = 0; done < bytes; done += kStagingBytes) {
    const uint64_t n = std::min(kStagingBytes, bytes - done);
    std::memcpy(staging_.mapped, static_cast<const uint8_t*>(data) + done, n);
    if (Status s = commands->begin(); !s.ok()) return s;
    commands->copy(staging_, to, {{0, offset + done, n}});
    if (Status s = commands->end(); !s.ok()) return s;
    if (Status s = submit_and_wait({commands.get()}); !s.ok()) return s;
  }
  return kStatusOk;
}

Status VulkanDevice::pipeline(Shader shader, uint32_t threads, uint32_t tokens, VkPipeline* out) {
  const auto key = std::make_tuple(shader, threads, tokens);
  if (const auto found = pipelines_.find(key); found != pipelines_.end()) {
    *out = found->second;
    return kStatusOk;
  }
  const Module& source = kModules[static_cast<int>(shader)];
  VkShaderModuleCreateInfo code{VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, nullptr, 0, source.bytes, source.words};
  VkShaderModule module;
  if (Status s = check(CreateShaderModule(device_, &code, nullptr, &module), "the Vulkan driver refuses a shader");
      !s.ok())
    return s;
  const uint32_t constants[2] = {threads, tokens};
  const VkSpecializationMapEntry entries[2] = {{0, 0, 4}, {1, 4, 4}};
  const VkSpecializationInfo special{2, entries, sizeof constants, constants};
  VkComputePipelineCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO;
  info.stage = {VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                nullptr,
                0,
                VK_SHADER_STAGE_COMPUTE_BIT,
                module,
                "main",
                &special};
  info.layout = layout_;
  VkPipeline pipeline = VK_NULL_HANDLE;
  const VkResult result = CreateComputePipelines(device_, pipeline_cache_, 1, &info, nullptr, &pipeline);
  DestroyShaderModule(device_, module, nullptr);
  if (Status s = check(result, "the Vulkan driver cannot compile a shader"); !s.ok()) return s;
  compiled_ = true;
  pipelines_[key] = pipeline;
  *out = pipeline;
  return kStatusOk;
}

}  // namespace blockffn::gpu
