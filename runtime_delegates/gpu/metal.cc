#include "metal.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>
#include <tuple>

#include "blockffn_metal.h"

namespace blockffn::gpu {
namespace {

struct Source {
  const char* name;
  const char* text;
};
#include "metal.inc"

static_assert(BLOCKFFN_METAL_BINDINGS == kBindings && BLOCKFFN_METAL_PUSH_BYTES == kPushBytes);

std::mutex lent_mutex;
uint64_t lent = 0, lendings = 0;
blockffn_metal lent_functions;

// A Status has room for a pointer only, and may be kept for ever.
const char* keep(const std::string& sentence) {
  static std::mutex mutex;
  static std::set<std::string> sentences;
  const std::lock_guard<std::mutex> lock(mutex);
  return sentences.insert(sentence).first->c_str();
}

blockffn_metal_place place(const Binding& b) { return {reinterpret_cast<void*>(b.buffer->object), b.offset}; }

class MetalDevice final : public Device {
 public:
  MetalDevice(const blockffn_metal& metal, const Faults& faults) : Device(faults), metal_(metal) {}
  ~MetalDevice() override {
    for (auto& [key, pipeline] : pipelines_) metal_.release(pipeline);
  }
  Status start() {
    const uint32_t shared = faults_.shared_bytes != 0 ? faults_.shared_bytes : metal_.threadgroup_bytes;
    limits_.threads = limits_.wide_threads = 64;
    limits_.binding_bytes = std::min<uint64_t>(metal_.buffer_bytes, UINT32_MAX) / 64 * 64;
    limits_.binding_align = 16;
    for (uint32_t& n : limits_.groups) n = 65535;
    limits_.half = !faults_.no_half;
    if (metal_.threadgroup_threads < limits_.threads || shared < 16384 || limits_.binding_bytes < (uint64_t{1} << 27))
      return {Status::kInvalidArgument, "the Metal device's limits are below what the passes need"};
    return kStatusOk;
  }

  const char* name() const override { return metal_.name; }
  std::string identity() const override {
    uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
    for (const Source& s : kSources)
      for (const char* c = s.text; *c != '\0'; ++c) hash = (hash ^ static_cast<uint8_t>(*c)) * 0x100000001b3u;
    char text[24];
    std::snprintf(text, sizeof text, "-%016llx", static_cast<unsigned long long>(hash));
    std::string all = std::string("metal-") + metal_.name + "-" + metal_.version + text;
    for (char& c : all)  // it becomes the name of a file
      if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-' && c != '.') c = '_';
    return all;
  }

  bool map(const void* start, uint64_t bytes, Buffer* out) override {
    if (metal_.map_buffer == nullptr || bytes > metal_.buffer_bytes) return false;
    void* object = metal_.map_buffer(metal_.context, start, bytes);
    if (object == nullptr) return false;
    *out = {reinterpret_cast<uint64_t>(object), 0, bytes, const_cast<void*>(start), true};
    return true;
  }
  void release(Buffer& buffer) override {
    if (buffer.object != 0) metal_.release(reinterpret_cast<void*>(buffer.object));
    buffer = {};
  }
  Status upload(const Buffer& to, uint64_t offset, const void* data, uint64_t bytes) override {
    std::memcpy(static_cast<uint8_t*>(to.mapped) + offset, data, bytes);
    return kStatusOk;
  }
  Status record(uint32_t dispatches, uint32_t stamps, std::unique_ptr<Recording>* out) override;
  void wait() override {}  // submit() waits

  Status pipeline(Shader shader, uint32_t threads, uint32_t tokens, void** out) {
    const auto key = std::make_tuple(shader, threads, tokens);
    if (const auto found = pipelines_.find(key); found != pipelines_.end()) {
      *out = found->second;
      return kStatusOk;
    }
    const char* name = shader_name(shader);
    const auto source = std::find_if(std::begin(kSources), std::end(kSources),
                                     [&](const Source& s) { return std::strcmp(s.name, name) == 0; });
    if (source == std::end(kSources)) return {Status::kInvalidArgument, "a pass of the program has no Metal source"};
    char sentence[512] = "the Metal compiler refuses a pass";
    *out = metal_.make_pipeline(metal_.context, source->text, name, threads, tokens, sentence, sizeof sentence);
    if (*out == nullptr) return {Status::kInvalidArgument, keep(sentence)};
    pipelines_[key] = *out;
    return kStatusOk;
  }

 private:
  Status make_buffer(uint64_t bytes, Memory, Buffer* out) override {
    Buffer made;
    made.bytes = round_up(std::max<uint64_t>(bytes, 256), 256);
    void* object =
        made.bytes > metal_.buffer_bytes ? nullptr : metal_.make_buffer(metal_.context, made.bytes, &made.mapped);
    if (object == nullptr) return {Status::kNoMemory, "the GPU has not enough memory"};
    made.object = reinterpret_cast<uint64_t>(object);
    made.local = true;
    *out = made;
    return kStatusOk;
  }
  Status submit(const std::vector<Recording*>& recordings) override;

  blockffn_metal metal_;
  std::map<std::tuple<Shader, uint32_t, uint32_t>, void*> pipelines_;
};

// Metal's command buffers are used once, so what is kept here is what to encode.
class MetalRecording final : public Recording {
 public:
  explicit MetalRecording(MetalDevice& device) : device_(device) {}
  const std::vector<blockffn_metal_command>& commands() const { return commands_; }

  Status begin() override {
    commands_.clear();
    arguments_.clear();
    return kStatusOk;
  }
  void clear(const Buffer& buffer) override {
    blockffn_metal_command& c = add(BLOCKFFN_METAL_CLEAR);
    c.to = place({&buffer, 0, 0});
    c.bytes = buffer.bytes;
  }
  void copy(const Buffer& from, const Buffer& to, const std::vector<Span>& spans) override {
    for (const Span& s : spans) {
      blockffn_metal_command& c = add(BLOCKFFN_METAL_COPY);
      c.from = place({&from, s.from, 0});
      c.to = place({&to, s.to, 0});
      c.bytes = s.bytes;
    }
  }
  void barrier(uint32_t, uint32_t) override { add(BLOCKFFN_METAL_BARRIER); }
  Status dispatch(const Launch& launch) override {
    void* pipeline;
    if (Status s = device_.pipeline(launch.shader, launch.threads, launch.tokens, &pipeline); !s.ok()) return s;
    blockffn_metal_command& c = add(BLOCKFFN_METAL_DISPATCH);
    c.pipeline = pipeline;
    c.threads = launch.threads;
    std::copy(launch.groups, launch.groups + 3, c.groups);
    if (launch.indirect.buffer != nullptr) c.from = place(launch.indirect);
    arguments_.emplace_back();
    std::memcpy(arguments_.back().push, launch.push, kPushBytes);
    for (int b = 0; b < kBindings; ++b) arguments_.back().bindings[b] = place(launch.bindings[b]);
    return kStatusOk;
  }
  void stamp() override {}
  Status end() override {
    size_t i = 0;
    for (blockffn_metal_command& c : commands_)
      if (c.kind == BLOCKFFN_METAL_DISPATCH) {
        c.push = arguments_[i].push;
        c.bindings = arguments_[i++].bindings;
      }
    return kStatusOk;
  }
  Status between_stamps(std::vector<double>*) override {
    return {Status::kInvalidArgument, "there are no time stamps"};
  }

 private:
  struct Arguments {
    uint8_t push[kPushBytes];
    blockffn_metal_place bindings[kBindings];
  };
  blockffn_metal_command& add(int32_t kind) {
    commands_.emplace_back();
    commands_.back().kind = kind;
    return commands_.back();
  }

  MetalDevice& device_;
  std::vector<blockffn_metal_command> commands_;
  std::vector<Arguments> arguments_;  // of the dispatches
};

Status MetalDevice::record(uint32_t, uint32_t stamps, std::unique_ptr<Recording>* out) {
  // Apple's GPUs sample their counters between encoders only.
  if (stamps > 0) return {Status::kInvalidArgument, "Metal has no time stamps between passes"};
  *out = std::make_unique<MetalRecording>(*this);
  return kStatusOk;
}

Status MetalDevice::submit(const std::vector<Recording*>& recordings) {
  std::vector<blockffn_metal_command> all;
  for (Recording* r : recordings) {
    const auto& commands = static_cast<MetalRecording*>(r)->commands();
    all.insert(all.end(), commands.begin(), commands.end());
  }
  char sentence[512] = "the GPU was lost";
  if (metal_.run(metal_.context, all.data(), all.size(), sentence, sizeof sentence) == 0) return kStatusOk;
  return lose(keep(sentence));
}

}  // namespace

uint64_t metal_lent() {
  const std::lock_guard<std::mutex> lock(lent_mutex);
  return lent;
}

Status open_metal(const Faults& faults, std::unique_ptr<Device>* out) {
  std::unique_lock<std::mutex> lock(lent_mutex);
  auto device = std::make_unique<MetalDevice>(lent_functions, faults);
  lock.unlock();
  if (Status s = device->start(); !s.ok()) return s;
  *out = std::move(device);
  return kStatusOk;
}

}  // namespace blockffn::gpu

void blockffn_set_metal(const blockffn_metal* metal) {
  const std::lock_guard<std::mutex> lock(blockffn::gpu::lent_mutex);
  blockffn::gpu::lent = metal != nullptr ? ++blockffn::gpu::lendings : 0;
  if (metal != nullptr) blockffn::gpu::lent_functions = *metal;
}
