#include "device.h"

#include "metal.h"
#if defined(BLOCKFFN_VULKAN)
#include "vulkan.h"
#endif

namespace blockffn::gpu {

Status Device::open(bool cpu_too, const Faults& faults, std::unique_ptr<Device>* out) {
  if (metal_lent() != 0) return open_metal(faults, out);
#if defined(BLOCKFFN_VULKAN)
  return open_vulkan(cpu_too, faults, out);
#else
  (void)cpu_too;
  return {Status::kInvalidArgument, "this library was built without Vulkan, and the app has lent it no Metal"};
#endif
}

static Faults planted;

void Device::plant(const Faults& faults) { planted = faults; }

Status Device::shared(bool cpu_too, std::shared_ptr<Device>* out) {
  static std::mutex mutex;
  static std::weak_ptr<Device> open_device[2];
  static uint64_t lending = 0;
  const std::lock_guard<std::mutex> lock(mutex);
  if (const uint64_t now = metal_lent(); now != lending) {
    for (auto& device : open_device) device.reset();
    lending = now;
  }
  *out = open_device[cpu_too].lock();
  if (*out != nullptr && !(*out)->lost()) return kStatusOk;
  std::unique_ptr<Device> device;
  if (Status s = open(cpu_too, planted, &device); !s.ok()) return s;
  *out = std::move(device);
  open_device[cpu_too] = *out;
  return kStatusOk;
}

Status Device::allocate(uint64_t bytes, Memory kind, Buffer* out) {
  if (faults_.memory_bytes != 0 && allocated_ + bytes > faults_.memory_bytes)
    return {Status::kNoMemory, "the GPU has not enough memory"};
  allocated_ += bytes;
  return make_buffer(bytes, kind, out);
}

Status Device::fill_zero(const Buffer& buffer) {
  std::unique_ptr<Recording> commands;
  if (Status s = record(0, 0, &commands); !s.ok()) return s;
  if (Status s = commands->begin(); !s.ok()) return s;
  commands->clear(buffer);
  if (Status s = commands->end(); !s.ok()) return s;
  return submit_and_wait({commands.get()});
}

Status Device::submit_and_wait(const std::vector<Recording*>& recordings) {
  if (faults_.lose_after == 0) return lose("the GPU was lost (its driver reset it)");
  if (faults_.lose_after > 0) --faults_.lose_after;
  return submit(recordings);
}

}  // namespace blockffn::gpu
