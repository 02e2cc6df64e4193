#include "step.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "mapped.h"

namespace blockffn::gpu {
namespace {

constexpr uint64_t kBlockBytes = uint64_t{1} << 29;  // weights of one allocation
constexpr uint64_t kPlaceAlign = 256;                // the largest alignment of a binding that Vulkan allows
constexpr uint32_t kStepRope = 272, kStepWords = 1u << 14, kRouteSlots = 16, kSlotWords = 4;
constexpr uint32_t kFewGroups = 192;                             // below, wider workgroups keep a large GPU busy
constexpr int kPartRows = 64, kMaxParts = 128, kMaxColumns = 4;  // of attention
constexpr int kMaxClasses = 8, kMaxGpuExperts = 2048, kMaxAttentionKinds = 3;

Status unsupported(const char* message) { return {Status::kInvalidArgument, message}; }

uint32_t bits(float f) {
  uint32_t u;
  std::memcpy(&u, &f, sizeof u);
  return u;
}

uint32_t pad(uint64_t n, uint64_t multiple) { return static_cast<uint32_t>(round_up(n, multiple)); }
uint32_t block_of(int bucket) { return static_cast<uint32_t>(std::min(bucket, 8)); }
int bucket_index(int tokens) {
  int i = 0;
  while (1 << i < tokens) ++i;
  return i;
}

// Threads that share one expert's tile in the down pass: the rest of the workgroup takes other experts.
uint32_t down_classes(const Ffn& w, uint32_t threads) {
  const uint32_t cols = static_cast<uint32_t>(w.width);
  const uint32_t units = w.quant == Quant::kFp32   ? (cols + 3) / 4 * 2
                         : w.quant == Quant::kInt8 ? (cols + 7) / 8 * 4
                                                   : (cols + 31) / 32 * 8;
  uint32_t classes = 1;
  while (classes < kMaxClasses && units * classes * 2 <= threads) classes *= 2;
  return classes;
}

}  // namespace

Status Step::create(const Program& program, const StepOptions& options, std::unique_ptr<Step>* out) {
  std::unique_ptr<Step> step(new Step);
  step->options_ = options;
  const bool faulty = options.faults.shared_bytes != 0 || options.faults.memory_bytes != 0 ||
                      options.faults.lose_after >= 0 || options.faults.discrete || options.faults.no_half;
  if (options.own_device || faulty || options.threads != 0) {
    std::unique_ptr<Device> own;
    if (Status s = Device::open(options.cpu_too, options.faults, &own); !s.ok()) return s;
    step->device_ = std::move(own);
  } else if (Status s = Device::shared(options.cpu_too, &step->device_); !s.ok()) {
    return s;
  }
  std::unique_lock<std::mutex> lock(step->device_->mutex());
  if (!step->device_->limits().half) step->options_.arithmetic = Arithmetic::kFp32;
  if (options.threads != 0) step->device_->set_threads(options.threads, options.threads);
  const Status planned = step->plan(program);
  lock.unlock();  // the destructor of a step that failed takes it
  if (!planned.ok()) return planned;
  *out = std::move(step);
  return kStatusOk;
}

uint64_t Step::room() const {
  return options_.window != 0 ? options_.window : device_->limits().binding_bytes - kPlaceAlign;
}

Step::~Step() {
  if (device_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(device_->mutex());
  device_->wait();
  for (auto& kept : recorded_)
    for (auto& r : kept) r.reset();
  outputs_.reset();
  for (auto& b : blocks_) device_->release(*b);
  for (auto& b : states_) device_->release(*b);
  for (Buffer* b : {&arena_, &upload_, &inputs_, &readback_, &result_}) device_->release(*b);
}

Status Step::plan(const Program& program) {
  step_region_ = {&inputs_, 0, kStepWords * 4, 0, -1};
  result_region_ = {&result_, 0, 0, 0, resources_++};
  if (Status s = place_weights(program); !s.ok()) return s;
  join_sums(program);
  if (Status s = place_values(program); !s.ok()) return s;
  for (const Op& op : program.ops()) {
    if (Status s = add_op(program, op); !s.ok()) return s;
    ++op_;
  }
  if (kStepRope + table_words_ > kStepWords)
    return unsupported("the program rotates too many values for the GPU's step buffer");

  uint64_t upload = kStepWords * 4;
  for (Input& input : float_inputs_) {
    input.offset = upload;
    regions_[input.value].offset = upload;
    upload += regions_[input.value].bytes;
  }
  for (Dispatch& d : dispatches_)  // inputs were placed after the dispatches that read them
    for (Region& r : d.bindings)
      if (r.buffer == &inputs_ && r.stride != 0)
        for (const Input& input : float_inputs_)
          if (regions_[input.value].resource == r.resource) r.offset = input.offset;
  uint64_t outputs = 0;
  for (uint32_t id : program.outputs()) outputs += round_up(program.values()[id].elements(kMaxTokens) * 4, kAlign);
  const uint64_t result = 4 * (1 + ffn_experts_.size());
  result_region_.bytes = result;
  if (Status s = device_->allocate(arena_bytes_, Memory::kDevice, &arena_); !s.ok()) return s;
  if (Status s = device_->allocate(upload, Memory::kUpload, &upload_); !s.ok()) return s;
  result_at_ = outputs;
  if (Status s = device_->allocate(outputs + result, Memory::kReadback, &readback_); !s.ok()) return s;
  if (Status s = device_->allocate(result, Memory::kDevice, &result_); !s.ok()) return s;
  if (!upload_.local)
    if (Status s = device_->allocate(upload, Memory::kDevice, &inputs_); !s.ok()) return s;
  std::memset(upload_.mapped, 0, upload_.bytes);
  if (Status s = device_->fill_zero(arena_); !s.ok()) return s;
  for (auto& b : states_)
    if (Status s = device_->fill_zero(*b); !s.ok()) return s;
  if (Status s = device_->record(0, 0, &outputs_); !s.ok()) return s;
  return record(1, true, Stamps::kNone, &recorded_[1][0]);  // a pass that the driver cannot compile is found here
}

// Weights in mapped files stay where they are, if the device can read them there; all others are copied to the GPU,
// several to an allocation.
Status Step::place_weights(const Program& program) {
  std::vector<Weight> spans;
  std::vector<bool> rotary(program.values().size(), false);  // the CPU computes the angles
  for (const Op& op : program.ops()) {
    if (op.code == Opcode::kMlaAttention) rotary[op.args[5]] = true;
    if (op.code == Opcode::kGqaAttention) rotary[op.args[3]] = true;
  }
  const auto matrix = [&](const Matrix& m) { spans.push_back({m.tiles, m.group_bytes() * m.groups}); };
  for (size_t id = 0; id < program.values().size(); ++id) {
    const Value& v = program.values()[id];
    if (v.kind != Kind::kWeight || rotary[id]) continue;
    if (v.dtype == DType::kFloat) spans.push_back({static_cast<const uint8_t*>(v.data), v.row_elements * 4});
    if (v.dtype == DType::kMatrix) matrix(v.matrix);
    if (v.dtype == DType::kFfn) {
      matrix(v.ffn.router);
      spans.push_back({reinterpret_cast<const uint8_t*>(v.ffn.norm_weight), static_cast<uint64_t>(v.ffn.experts) * 4});
      const uint64_t region = v.ffn.up_bytes + v.ffn.down_tile_bytes * (round_up(v.ffn.hidden, kTileRows) / kTileRows);
      spans.push_back({v.ffn.expert_base, v.ffn.expert_stride * (v.ffn.experts - 1) + region});
    }
  }
  const uint64_t most = std::min(kBlockBytes, device_->limits().binding_bytes);  // on Metal, of any buffer
  for (const MappedWindow& window : mapped_windows(spans, device_->limits().binding_bytes, kAlign)) {
    Buffer buffer;
    if (!device_->map(window.start, window.bytes, &buffer)) continue;
    for (const Weight& w : window.weights)
      places_[w.data] = {blocks_.size(), static_cast<uint64_t>(w.data - window.start), w.bytes};
    blocks_.push_back(std::make_unique<Buffer>(buffer));
  }
  const size_t mapped = blocks_.size();
  std::vector<uint64_t> block_bytes;
  for (const Weight& span : spans) {
    if (places_.count(span.data) != 0) continue;
    if (block_bytes.empty() || block_bytes.back() + span.bytes > most) block_bytes.push_back(0);
    places_[span.data] = {mapped + block_bytes.size() - 1, block_bytes.back(), span.bytes};
    block_bytes.back() += round_up(span.bytes, kPlaceAlign);
  }
  for (uint64_t bytes : block_bytes) {
    blocks_.push_back(std::make_unique<Buffer>());
    if (Status s = device_->allocate(bytes, Memory::kDevice, blocks_.back().get()); !s.ok()) return s;
  }
  for (const auto& [data, place] : places_)
    if (place.block >= mapped)
      if (Status s = device_->upload(*blocks_[place.block], place.offset, data, place.bytes); !s.ok()) return s;
  return kStatusOk;
}

Step::Region Step::slot(uint64_t floats, uint32_t stride) {
  Region r{&arena_, arena_bytes_, floats * 4, stride, resources_++};
  arena_bytes_ += round_up(r.bytes, kPlaceAlign);
  return r;
}

Step::Region Step::work(Work kind, uint64_t a, uint64_t b, uint64_t floats, uint32_t stride) {
  const auto key = std::make_tuple(kind, a, b);
  if (const auto found = work_.find(key); found != work_.end()) return found->second;
  return work_[key] = slot(floats, stride);
}

// A sum of a layer's output and of something earlier is written by the layer's last pass.
void Step::join_sums(const Program& program) {
  const auto& ops = program.ops();
  std::vector<int> uses(program.values().size(), 0), made(program.values().size(), -1);
  for (size_t i = 0; i < ops.size(); ++i) {
    for (int32_t id : ops[i].outs) made[id] = static_cast<int>(i);
    for (int32_t id : ops[i].args)
      if (id >= 0) ++uses[id];
  }
  for (uint32_t id : program.outputs()) ++uses[id];
  sums_.assign(ops.size(), {});
  for (size_t i = 0; i < ops.size(); ++i) {
    if (ops[i].code != Opcode::kAdd) continue;
    for (const size_t side : {1, 0}) {
      const int32_t layer = ops[i].args[side], other = ops[i].args[1 - side];
      const int at = made[layer];
      if (at < 0 || uses[layer] != 1 || made[other] >= at) continue;
      const Opcode code = ops[at].code;
      if (code != Opcode::kLinear && code != Opcode::kChunkSparseFfn) continue;
      sums_[at] = {ops[i].outs[0], other};
      sums_[i].skip = true;
      break;
    }
  }
}

// Rows of activations are padded with zeros to 32 columns, so that kernels need no bounds. To keep the padding, values
// share memory only with values of the same width whose lives do not overlap.
Status Step::place_values(const Program& program) {
  const auto& values = program.values();
  const int ops = static_cast<int>(program.ops().size());
  std::vector<int> last(values.size(), -1), first(values.size(), -1);
  for (int i = 0; i < ops; ++i) {
    const Op& op = program.ops()[i];
    for (int32_t id : op.outs) first[id] = last[id] = i;
    for (int32_t id : op.args)
      if (id >= 0) last[id] = i;
  }
  for (uint32_t id : program.outputs()) last[id] = ops;
  regions_.resize(values.size());
  struct Free {
    Region region;
    int from;  // operator from which on nobody uses it
  };
  std::map<uint64_t, std::vector<Free>> pool;
  for (int i = 0; i < ops; ++i)
    for (int32_t out : program.ops()[i].outs) {
      if (sums_[i].skip) continue;
      const int32_t id = sums_[i].out >= 0 ? sums_[i].out : out;
      const uint64_t width = values[id].row_elements;
      auto& free = pool[width];
      const auto reuse = std::find_if(free.begin(), free.end(), [&](const Free& f) { return f.from <= i; });
      const uint32_t stride = pad(width, kGroupCols);
      if (reuse != free.end()) {
        regions_[id] = reuse->region;
        reuse->from = last[id] + 1;
      } else {
        regions_[id] = slot(static_cast<uint64_t>(stride) * kMaxTokens, stride);
        free.push_back({regions_[id], last[id] + 1});
      }
      if (regions_[id].bytes > device_->limits().binding_bytes)
        return unsupported("an activation exceeds what the GPU can bind");
    }
  for (size_t id = 0; id < values.size(); ++id) {
    if (values[id].kind != Kind::kInput || values[id].dtype != DType::kFloat || last[id] < 0) continue;
    if (!values[id].dynamic) return unsupported("the GPU takes no float input without a token dimension");
    const uint32_t stride = pad(values[id].row_elements, kGroupCols);
    regions_[id] = {&inputs_, 0, round_up(static_cast<uint64_t>(stride) * kMaxTokens * 4, kPlaceAlign), stride,
                    resources_++};
    float_inputs_.push_back({static_cast<int32_t>(id), 0, stride});
  }
  return kStatusOk;
}

Step::Region Step::region(const Program&, int32_t id) const { return regions_[id]; }

Step::Region Step::weight(const void* data, uint64_t from, uint64_t bytes, uint32_t unit, uint32_t* first) const {
  const Place& place = places_.at(data);
  const uint64_t at = place.offset + from,
                 start = at / device_->limits().binding_align * device_->limits().binding_align;
  *first = static_cast<uint32_t>((at - start) / unit);
  return {blocks_[place.block].get(), start, round_up(bytes + (at - start), 16), 0, -1};
}

Step::Dispatch& Step::dispatch(Shader shader) {
  Dispatch d;
  d.shader = shader;
  d.op = op_;
  d.threads = device_->limits().threads;
  d.bindings[4] = step_region_;
  dispatches_.push_back(d);
  return dispatches_.back();
}

uint32_t Step::rope_table(const float* inv_freq, int rope, int32_t) {
  for (const Table& t : tables_)
    if (t.inv_freq == inv_freq && t.rope == rope) return t.offset;
  tables_.push_back({inv_freq, rope, table_words_});
  table_words_ += static_cast<uint32_t>(rope) * kMaxTokens;
  return tables_.back().offset;
}

Status Step::add_linear(const Matrix& w, const Value* bias, float scale, Region x, uint32_t x_group, Region y,
                        uint32_t y_group, bool logits, const Region* residual, bool router) {
  const uint64_t room = this->room();
  const uint32_t tiles = static_cast<uint32_t>(w.tiles_per_group());
  const uint32_t window =
      static_cast<uint32_t>(std::min<uint64_t>({room / w.tile_bytes, device_->limits().groups[0], tiles}));
  if (window == 0 || (w.groups > 1 && w.group_bytes() * w.groups > room) ||
      static_cast<uint32_t>(w.groups) > device_->limits().groups[1])
    return unsupported("a matrix exceeds what the GPU can bind");
  const uint32_t step = w.groups > 1 ? tiles : window;
  for (uint32_t t = 0; t < tiles; t += step) {
    const uint32_t count = std::min(step, tiles - t);
    // The sign of a router's score decides whether its expert fires: always float32.
    Dispatch& d = dispatch(variant(Shader::kLinear, w.quant, router ? Arithmetic::kFp32 : options_.arithmetic));
    uint32_t first, bias_at = 0;
    d.bindings[0] =
        weight(w.tiles, w.tile_bytes * t, w.groups > 1 ? w.group_bytes() * w.groups : w.tile_bytes * count, 16, &first);
    d.bindings[1] = x;
    d.bindings[2] = y;
    if (bias != nullptr) d.bindings[3] = weight(bias->data, 0, bias->row_elements * 4, 4, &bias_at);
    if (residual != nullptr) d.bindings[5] = *residual;
    d.writes = 1u << 2;
    d.blocks = true;
    if (tiles * static_cast<uint32_t>(w.groups) < kFewGroups) d.threads = device_->limits().wide_threads;
    const uint32_t push[] = {first,
                             static_cast<uint32_t>(w.tile_bytes / 16),
                             tiles,
                             t * kTileRows,
                             static_cast<uint32_t>(w.rows),
                             static_cast<uint32_t>(w.cols),
                             x.stride / 4,
                             x_group / 4,
                             y.stride,
                             y_group,
                             bias_at,
                             (bias != nullptr ? 1u : 0u) | (logits ? 2u : 0u) | (residual != nullptr ? 4u : 0u),
                             bits(scale),
                             residual != nullptr ? residual->stride : 0};
    std::memcpy(d.push, push, sizeof push);
    d.size[0] = count;
    d.size[1] = static_cast<uint32_t>(w.groups);
    d.grid[2] = Grid::kBlocks;
  }
  return kStatusOk;
}

Status Step::add_rms_norm(const Value& weights, float eps, Region x, Region y, bool cache) {
  Dispatch& d = dispatch(Shader::kRmsNorm);
  d.threads = device_->limits().wide_threads;
  uint32_t at;
  d.bindings[1] = x;
  d.bindings[2] = y;
  d.bindings[3] = weight(weights.data, 0, weights.row_elements * 4, 4, &at);
  d.bindings[5] = result_region_;
  d.writes = 1u << 2 | 1u << 5;
  const uint32_t push[] = {
      static_cast<uint32_t>(weights.row_elements), x.stride, y.stride, at, cache ? 1u : 0u, bits(eps)};
  std::memcpy(d.push, push, sizeof push);
  d.grid[0] = Grid::kTokens;
  return kStatusOk;
}

Status Step::add_ffn(const Ffn& w, Region x, Region y, const Region* residual) {
  if (w.experts > kMaxGpuExperts) return unsupported("the GPU takes at most 2048 experts");
  const uint32_t experts = static_cast<uint32_t>(w.experts), width = static_cast<uint32_t>(w.width);
  const uint64_t room = this->room();
  const uint64_t region = w.up_bytes + w.down_tile_bytes * (round_up(w.hidden, kTileRows) / kTileRows);
  if (room < region) return unsupported("an expert exceeds what the GPU can bind");
  const uint32_t window = static_cast<uint32_t>(std::min<uint64_t>((room - region) / w.expert_stride + 1, experts));
  const uint32_t score_stride = pad(experts, kGroupCols), h_stride = pad(width, kGroupCols);
  const Region scores = work(Work::kScores, experts, 0, uint64_t{score_stride} * kMaxTokens, score_stride);
  const Region route =
      work(Work::kRoute, experts, 0, kRouteSlots + uint64_t{experts + kMaxClasses} * (kSlotWords + kMaxTokens), 0);
  const Region hidden = work(Work::kHidden, experts, width, uint64_t{experts} * kMaxTokens * h_stride, h_stride);
  if (hidden.bytes > device_->limits().binding_bytes)
    return unsupported("the experts' hidden values exceed what the GPU can bind");
  // Few workgroups in the down pass: wider ones, but for float32, whose sums then take so much memory that fewer fit.
  const uint32_t wide = device_->limits().wide_threads,
                 down_threads = w.quant == Quant::kFp32 ? device_->limits().threads : wide,
                 classes = down_classes(w, down_threads);
  const uint32_t up_tiles = (width + 7) / 8, down_tiles = static_cast<uint32_t>(w.hidden + 7) / 8;
  if (Status s = add_linear(w.router, nullptr, 1.0f, x, 0, scores, 0, false, nullptr, true); !s.ok()) return s;
  {
    // No barrier between it and the up pass: both read the scores alone.
    Dispatch& d = dispatch(Shader::kCompact);
    uint32_t norm_at;
    d.bindings[1] = scores;
    d.bindings[3] = weight(w.norm_weight, 0, uint64_t{experts} * 4, 4, &norm_at);
    d.bindings[5] = result_region_;
    d.bindings[6] = route;
    d.writes = 1u << 5 | 1u << 6;
    d.threads = wide;
    d.blocks = true;
    const uint32_t push[] = {experts,
                             score_stride,
                             static_cast<uint32_t>(w.norm),
                             classes,
                             norm_at,
                             static_cast<uint32_t>(ffn_experts_.size()),
                             bits(w.eps),
                             bits(w.norm_scale),
                             bits(w.out_scale)};
    std::memcpy(d.push, push, sizeof push);
  }
  ffn_experts_.push_back(w.experts);
  const auto expert_pass = [&](Shader shader, uint32_t e, uint32_t* first) -> Dispatch& {
    const uint32_t count = std::min(window, experts - e);
    Dispatch& d = dispatch(variant(shader, w.quant, options_.arithmetic));
    d.bindings[0] = weight(w.expert_base, w.expert_stride * e, w.expert_stride * (count - 1) + region, 16, first);
    d.writes = 1u << 2;
    d.blocks = true;
    return d;
  };
  for (uint32_t e = 0; e < experts; e += window) {
    uint32_t first;
    Dispatch& d = expert_pass(Shader::kExpertUp, e, &first);
    d.bindings[1] = x;
    d.bindings[2] = hidden;
    d.bindings[3] = scores;
    const uint32_t push[] = {first,
                             static_cast<uint32_t>(w.up_tile_bytes / 16),
                             static_cast<uint32_t>(w.expert_stride / 16),
                             e,
                             width,
                             static_cast<uint32_t>(w.hidden),
                             x.stride / 4,
                             h_stride,
                             score_stride};
    std::memcpy(d.push, push, sizeof push);
    d.size[0] = up_tiles;
    d.size[1] = std::min(window, experts - e);
  }
  for (uint32_t e = 0; e < experts; e += window) {
    uint32_t first;
    Dispatch& d = expert_pass(Shader::kExpertDown, e, &first);
    d.threads = down_threads;
    d.bindings[1] = hidden;
    d.bindings[2] = y;
    d.bindings[3] = route;
    const bool adds = residual != nullptr && e + window >= experts;
    if (adds) d.bindings[5] = *residual;
    const uint32_t push[] = {first + static_cast<uint32_t>(w.up_bytes / 16),
                             static_cast<uint32_t>(w.down_tile_bytes / 16),
                             static_cast<uint32_t>(w.expert_stride / 16),
                             e,
                             std::min(window, experts - e),
                             static_cast<uint32_t>(w.hidden),
                             width,
                             h_stride / 4,
                             y.stride,
                             experts,
                             classes,
                             (e > 0 ? 1u : 0u) | (adds ? 2u : 0u),
                             residual != nullptr ? residual->stride : 0};
    std::memcpy(d.push, push, sizeof push);
    d.size[0] = down_tiles;
    d.grid[1] = Grid::kBlocks;
  }
  return kStatusOk;
}

void Step::add_heads(uint32_t plain, uint32_t rope, int heads, Region x, uint32_t x_head, Region y, uint32_t y_head,
                     uint32_t y_at, Region z, uint32_t z_head, uint32_t z_at, bool cache, uint32_t table,
                     uint32_t x_at) {
  Dispatch& d = dispatch(Shader::kHeads);
  d.bindings[1] = x;
  d.bindings[2] = y;
  d.bindings[3] = z;
  d.writes = (rope > 0 ? 1u << 2 : 0u) | (plain > 0 ? 1u << 3 : 0u);
  const uint32_t push[] = {plain,    rope,   x.stride, x_head,          y.stride, y_head, y_at,
                           z.stride, z_head, z_at,     cache ? 1u : 0u, table,    x_at};
  std::memcpy(d.push, push, sizeof push);
  d.grid[0] = Grid::kTokens;
  d.size[1] = static_cast<uint32_t>(heads);
}

Status Step::add_attend(const AttentionShape& shape, int capacity, Region query, uint32_t q_head, Region keys,
                        uint32_t key_head, Region values, uint32_t value_head, Region y, uint32_t y_head) {
  // Parts as short as a limited number of them allows: many keep a large GPU busy, and their sums take memory.
  const int part_rows = kPartRows * ((capacity + kPartRows * kMaxParts - 1) / (kPartRows * kMaxParts));
  const uint32_t max_parts = static_cast<uint32_t>((capacity + part_rows - 1) / part_rows),
                 heads = static_cast<uint32_t>(shape.heads), value_dim = static_cast<uint32_t>(shape.value_dim),
                 threads = device_->limits().threads;
  if (value_dim > 4 * kMaxColumns * threads) return unsupported("an attention head is too wide for the GPU");
  uint32_t span = 1;
  while (span < threads && span * 4 < value_dim) span *= 2;
  const Region parts = work(Work::kParts, heads * uint64_t{max_parts}, value_dim,
                            uint64_t{kMaxTokens} * heads * max_parts * (value_dim + 2), 0);
  if (parts.bytes > device_->limits().binding_bytes)
    return unsupported("the context is too long for the GPU's attention");
  const auto kind = std::make_pair(shape.heads, part_rows);
  size_t index = 0;
  while (index < attention_kinds_.size() && attention_kinds_[index] != kind) ++index;
  if (index == attention_kinds_.size()) attention_kinds_.push_back(kind);
  if (attention_kinds_.size() > kMaxAttentionKinds)
    return unsupported("the program has too many kinds of attention for the GPU");
  {
    Dispatch& d = dispatch(Shader::kAttend);
    d.bindings[1] = query;
    d.bindings[2] = parts;
    d.bindings[3] = keys;
    d.bindings[5] = values;
    d.writes = 1u << 2;
    const uint32_t push[] = {heads,
                             heads / static_cast<uint32_t>(shape.kv_heads),
                             q_head / 4,
                             value_dim,
                             query.stride / 4,
                             q_head / 4,
                             keys.stride / 4,
                             key_head / 4,
                             values.stride / 4,
                             value_head / 4,
                             max_parts,
                             static_cast<uint32_t>(part_rows),
                             span,
                             bits(shape.scale)};
    std::memcpy(d.push, push, sizeof push);
    d.indirect = step_region_;
    d.indirect.offset = (4 + 3 * index) * 4;
  }
  Dispatch& d = dispatch(Shader::kAttendJoin);
  d.bindings[1] = parts;
  d.bindings[2] = y;
  d.writes = 1u << 2;
  const uint32_t push[] = {heads, value_dim, max_parts, static_cast<uint32_t>(part_rows), y.stride, y_head};
  std::memcpy(d.push, push, sizeof push);
  d.grid[0] = Grid::kTokens;
  d.size[1] = heads;
  return kStatusOk;
}

Status Step::state(const Value& value, int32_t id, uint32_t stride, Region* out) {
  const uint64_t bytes = static_cast<uint64_t>(value.dims[0]) * stride * 4;
  if (bytes > device_->limits().binding_bytes) return unsupported("the context is too long for the GPU");
  states_.push_back(std::make_unique<Buffer>());
  if (Status s = device_->allocate(bytes, Memory::kDevice, states_.back().get()); !s.ok()) return s;
  *out = {states_.back().get(), 0, bytes, stride, resources_++};
  (void)id;
  Dispatch& d = dispatch(Shader::kKeepRows);
  d.bindings[2] = *out;
  d.writes = 1u << 2;
  d.push[0] = d.push[1] = stride;
  d.size[0] = (stride + device_->limits().threads - 1) / device_->limits().threads;
  keeps_.push_back(d);
  dispatches_.pop_back();
  return kStatusOk;
}

Status Step::add_op(const Program& program, const Op& op) {
  const auto& values = program.values();
  const auto arg = [&](size_t i) -> const Value& { return values[op.args[i]]; };
  const auto in = [&](size_t i) { return regions_[op.args[i]]; };
  const Sum& sum = sums_[static_cast<size_t>(op_)];
  if (sum.skip) return kStatusOk;
  const Region y = regions_[sum.out >= 0 ? sum.out : op.outs[0]];
  const Region* residual = sum.out >= 0 ? &regions_[sum.other] : nullptr;
  const auto same = [](int32_t* seen, int32_t id) {
    if (*seen < 0) *seen = id;
    return *seen == id;
  };
  // An attention operator may have the rows of a tree as its last argument; then all must.
  const auto same_tree = [&](size_t at) {
    const int32_t id = op.args.size() > at ? op.args[at] : -1;
    if (states_.empty()) tree_ = id;
    return tree_ == id;
  };
  const Status no_int8_cache = unsupported("the GPU keeps no int8 cache");
  const Status two_inputs = unsupported("the GPU takes one chunk description for all operators");
  const uint32_t threads = device_->limits().threads;
  switch (op.code) {
    case Opcode::kEmbedding: {
      if (!same(&ids_, op.args[0])) return two_inputs;
      const Matrix& m = arg(1).matrix;
      const uint32_t tiles = static_cast<uint32_t>(m.tiles_per_group());
      const uint32_t window = static_cast<uint32_t>(std::min<uint64_t>(room() / m.tile_bytes, tiles));
      if (window == 0) return unsupported("a matrix exceeds what the GPU can bind");
      for (uint32_t t = 0; t < tiles; t += window) {
        const uint32_t count = std::min(window, tiles - t);
        Dispatch& d = dispatch(variant(Shader::kEmbedding, m.quant));
        uint32_t first;
        d.bindings[0] = weight(m.tiles, m.tile_bytes * t, m.tile_bytes * count, 16, &first);
        d.bindings[2] = y;
        d.writes = 1u << 2;
        const uint32_t push[] = {
            first,    static_cast<uint32_t>(m.tile_bytes / 16), t, count, static_cast<uint32_t>(m.cols),
            y.stride, bits(static_cast<float>(op.attrs[0].f))};
        std::memcpy(d.push, push, sizeof push);
        d.size[0] = (static_cast<uint32_t>(m.cols) + threads - 1) / threads;
        d.grid[1] = Grid::kTokens;
      }
      return kStatusOk;
    }
    case Opcode::kRmsNorm:
      return add_rms_norm(arg(1), static_cast<float>(op.attrs[0].f), in(0), y, false);
    case Opcode::kLinear:
    case Opcode::kLogits: {
      const Matrix& m = arg(1).matrix;
      if (m.groups > 1 && m.cols % kGroupCols != 0)
        return unsupported("the GPU takes grouped layers of whole groups of 32 columns only");
      const bool logits = op.code == Opcode::kLogits;
      if (logits && !same(&logits_first_, op.args[2])) return two_inputs;
      if (logits) logits_outputs_.push_back(op.outs[0]);
      const Value* bias = !logits && op.args[2] >= 0 ? &arg(2) : nullptr;
      return add_linear(m, bias, static_cast<float>(op.attrs[0].f), in(0), static_cast<uint32_t>(m.cols), y,
                        static_cast<uint32_t>(m.rows), logits, residual);
    }
    case Opcode::kSiluMul:
    case Opcode::kAdd: {
      Dispatch& d = dispatch(Shader::kElementwise);
      d.bindings[1] = in(0);
      d.bindings[2] = y;
      d.bindings[3] = in(1);
      d.writes = 1u << 2;
      const uint32_t cols = static_cast<uint32_t>(values[op.outs[0]].row_elements);
      const uint32_t push[] = {cols, in(0).stride, in(1).stride, y.stride, op.code == Opcode::kSiluMul ? 1u : 0u};
      std::memcpy(d.push, push, sizeof push);
      d.size[0] = (cols + threads - 1) / threads;
      d.grid[1] = Grid::kTokens;
      return kStatusOk;
    }
    case Opcode::kChunkSparseFfn:
      return add_ffn(arg(1).ffn, in(0), y, residual);
    case Opcode::kMlaAttention: {
      if (!same(&positions_, op.args[7]) || !same(&past_, op.args[8]) || !same(&mask_, op.args[9]) ||
          !same(&kv_src_, op.args[10]) || !same_tree(11))
        return two_inputs;
      const MlaWeights w = program.mla_weights(op);
      if (w.int8_cache) return no_int8_cache;
      const uint32_t heads = static_cast<uint32_t>(w.heads), nope = static_cast<uint32_t>(w.nope),
                     rope = static_cast<uint32_t>(w.rope), latent = static_cast<uint32_t>(w.latent);
      const uint32_t row = pad(latent + rope, 4), plain = pad(nope, kGroupCols), wide = pad(latent, kGroupCols);
      Region cache;
      if (Status s = state(arg(6), op.args[6], row, &cache); !s.ok()) return s;
      const Region query = work(Work::kQuery, heads, row, uint64_t{kMaxTokens} * heads * row, heads * row);
      const Region nopes = work(Work::kPlain, heads, nope, uint64_t{kMaxTokens} * heads * plain, heads * plain);
      const Region context = work(Work::kContext, heads, latent, uint64_t{kMaxTokens} * heads * wide, heads * wide);
      const uint32_t table = rope_table(w.inv_freq, w.rope, positions_);
      add_heads(0, rope, 1, in(1), 0, cache, 0, latent, cache, 0, 0, true, table, latent);
      add_heads(nope, rope, w.heads, in(0), nope + rope, query, row, latent, nopes, plain, 0, false, table, 0);
      // Behind the rotations, whose barrier it shares: they write other columns of the same cache.
      if (Status s = add_rms_norm(arg(2), w.kv_norm_eps, in(1), cache, true); !s.ok()) return s;
      if (Status s = add_linear(w.absorb_k, nullptr, 1.0f, nopes, plain, query, row, false); !s.ok()) return s;
      const AttentionShape shape{w.heads, 1, w.latent + w.rope, w.latent,
                                 1.0f / std::sqrt(static_cast<float>(w.nope + w.rope))};
      if (Status s = add_attend(shape, arg(6).dims[0], query, row, cache, 0, cache, 0, context, wide); !s.ok())
        return s;
      return add_linear(w.expand_v, nullptr, 1.0f, context, wide, y, static_cast<uint32_t>(w.v_dim), false);
    }
    case Opcode::kGqaAttention: {
      if (!same(&positions_, op.args[6]) || !same(&past_, op.args[7]) || !same(&mask_, op.args[8]) ||
          !same(&kv_src_, op.args[9]) || !same_tree(10))
        return two_inputs;
      const GqaWeights w = program.gqa_weights(op);
      if (w.int8_cache) return no_int8_cache;
      const uint32_t dim = static_cast<uint32_t>(w.head_dim), wide = pad(dim, 4),
                     heads = static_cast<uint32_t>(w.heads);
      Region keys, cached;
      if (Status s = state(arg(4), op.args[4], static_cast<uint32_t>(w.kv_heads) * wide, &keys); !s.ok()) return s;
      if (Status s = state(arg(5), op.args[5], static_cast<uint32_t>(w.kv_heads) * wide, &cached); !s.ok()) return s;
      const Region query = work(Work::kQuery, heads, wide, uint64_t{kMaxTokens} * heads * wide, heads * wide);
      const uint32_t table = rope_table(w.inv_freq, w.head_dim, positions_);
      add_heads(0, dim, w.heads, in(0), dim, query, wide, 0, query, 0, 0, false, table, 0);
      add_heads(0, dim, w.kv_heads, in(1), dim, keys, wide, 0, keys, 0, 0, true, table, 0);
      add_heads(dim, 0, w.kv_heads, in(2), dim, cached, 0, 0, cached, wide, 0, true, table, 0);
      const AttentionShape shape{w.heads, w.kv_heads, w.head_dim, w.head_dim,
                                 1.0f / std::sqrt(static_cast<float>(w.head_dim))};
      return add_attend(shape, arg(4).dims[0], query, wide, keys, wide, cached, wide, y, dim);
    }
  }
  return unsupported("the program has an operator that the GPU does not know");
}

Binding Step::bound(const Region& region) const {
  const Region& r = region.buffer != nullptr ? region : step_region_;  // unused: anything valid
  return {r.buffer == &inputs_ && upload_.local ? &upload_ : r.buffer, r.offset,
          r.buffer == &result_ ? result_region_.bytes : r.bytes};
}

Status Step::record(int bucket, bool keep, Stamps stamps, std::unique_ptr<Recording>* out, std::string* listing) {
  std::vector<const Dispatch*> all;
  if (keep)
    for (const Dispatch& d : keeps_) all.push_back(&d);
  for (const Dispatch& d : dispatches_) all.push_back(&d);
  const uint32_t count = static_cast<uint32_t>(all.size());
  std::unique_ptr<Recording> r;
  const uint32_t times = stamps == Stamps::kAll ? count + 1 : stamps == Stamps::kEnds ? 2 : 0;
  if (Status s = device_->record(count, times, &r); !s.ok()) return s;
  if (Status s = r->begin(); !s.ok()) return s;
  // Behind the previous step, which the host has waited for: only caches have to be ordered.
  r->barrier(kCompute | kTransfer, kCompute | kTransfer);
  r->clear(result_);
  if (!upload_.local) r->copy(upload_, inputs_, {{0, 0, upload_.bytes}});
  r->barrier(kTransfer, kCompute);
  if (stamps != Stamps::kNone) r->stamp();

  // A barrier where a dispatch touches what an earlier one wrote, or writes what an earlier one read, since the last
  // one.
  std::vector<bool> written(resources_, false), read(resources_, false);
  int last_op = -1;
  barriers_ = 0;
  for (const Dispatch* next : all) {
    const Dispatch& dispatch = *next;
    bool needed = options_.serialize && dispatch.op != last_op;
    last_op = dispatch.op;
    for (int b = 0; b <= kBindings; ++b) {
      const Region& region = b < kBindings ? dispatch.bindings[b] : dispatch.indirect;
      if (region.buffer == nullptr || region.resource < 0) continue;
      const bool writes = b < kBindings && (dispatch.writes >> b & 1) != 0;
      needed = needed || written[region.resource] || (writes && read[region.resource]);
    }
    if (needed) {
      if (barriers_++ != options_.skip_barrier) r->barrier(kCompute, kCompute);
      std::fill(written.begin(), written.end(), false);
      std::fill(read.begin(), read.end(), false);
    }
    for (int b = 0; b <= kBindings; ++b) {
      const Region& region = b < kBindings ? dispatch.bindings[b] : dispatch.indirect;
      if (region.buffer == nullptr || region.resource < 0) continue;
      (b < kBindings && (dispatch.writes >> b & 1) != 0 ? written : read)[region.resource] = true;
    }
    const uint32_t block = block_of(bucket);
    Launch launch{};
    launch.shader = dispatch.shader;
    launch.threads = dispatch.threads;
    launch.tokens = dispatch.blocks ? block : 1;
    for (int b = 0; b < kBindings; ++b) launch.bindings[b] = bound(dispatch.bindings[b]);
    uint32_t push[kPushBytes / 4];
    std::memcpy(push, dispatch.push, sizeof push);
    launch.push = push;
    for (int i = 0; i < 3; ++i)
      launch.groups[i] = dispatch.grid[i] == Grid::kFixed    ? dispatch.size[i]
                         : dispatch.grid[i] == Grid::kTokens ? static_cast<uint32_t>(bucket)
                                                             : (static_cast<uint32_t>(bucket) + block - 1) / block;
    if (dispatch.indirect.buffer != nullptr) launch.indirect = bound(dispatch.indirect);
    if (Status s = r->dispatch(launch); !s.ok()) return s;
    if (stamps == Stamps::kAll) r->stamp();
    if (listing == nullptr) continue;
    const auto place = [&](const Region& region) {
      const auto all = buffers();
      const auto at =
          region.buffer == nullptr ? -1 : std::find(all.begin(), all.end(), bound(region).buffer) - all.begin();
      return "[" + std::to_string(at) + ", " + std::to_string(region.offset) + "]";
    };
    const auto list = [](const auto* from, int n) {
      std::string text;
      for (int i = 0; i < n; ++i) text += (i > 0 ? ", " : "") + std::to_string(from[i]);
      return "[" + text + "]";
    };
    *listing += std::string(listing->empty() ? "" : ",\n") + "{\"shader\": \"" + shader_name(launch.shader) +
                "\", \"threads\": " + std::to_string(launch.threads) +
                ", \"tokens\": " + std::to_string(launch.tokens) + ", \"barrier\": " + (needed ? "true" : "false") +
                ", \"push\": " + list(push, kPushBytes / 4) +
                ", \"groups\": " + (dispatch.indirect.buffer != nullptr ? "null" : list(launch.groups, 3)) +
                ", \"indirect\": " + place(dispatch.indirect) + ", \"bindings\": [";
    for (int b = 0; b < kBindings; ++b) *listing += (b > 0 ? ", " : "") + place(dispatch.bindings[b]);
    *listing += "]}";
  }
  r->barrier(kCompute, kTransfer);
  if (stamps == Stamps::kEnds) r->stamp();
  if (Status s = r->end(); !s.ok()) return s;
  *out = std::move(r);
  return kStatusOk;
}

Status Step::write_step(const Program& program, int tokens) {
  const auto ints = [&](int32_t id) { return static_cast<const int64_t*>(program.values()[id].data); };
  uint32_t words[kStepRope] = {};
  words[0] = static_cast<uint32_t>(tokens);
  const int64_t past = past_ >= 0 ? *ints(past_) : 0;
  words[1] = static_cast<uint32_t>(past);
  words[2] = logits_first_ >= 0 ? static_cast<uint32_t>(*ints(logits_first_)) : 0;
  words[13] = tree_ >= 0 ? static_cast<uint32_t>(*ints(tree_)) : 0;
  for (size_t i = 0; i < attention_kinds_.size(); ++i) {
    const auto [heads, part_rows] = attention_kinds_[i];
    words[4 + 3 * i] = static_cast<uint32_t>(tokens);
    words[5 + 3 * i] = static_cast<uint32_t>(heads);
    words[6 + 3 * i] = static_cast<uint32_t>((past + tokens + part_rows - 1) / part_rows);
  }
  for (int t = 0; t < tokens; ++t) {
    if (ids_ >= 0) words[16 + t] = static_cast<uint32_t>(ints(ids_)[t]);
    if (mask_ < 0) continue;
    const uint64_t mask = static_cast<uint64_t>(ints(mask_)[t]);
    words[80 + t] = static_cast<uint32_t>(mask);
    words[144 + t] = static_cast<uint32_t>(mask >> 32);
  }
  if (kv_src_ >= 0)
    for (int i = 0; i < kMaxTokens && ints(kv_src_)[i] >= 0; ++i) {
      words[208 + i] = static_cast<uint32_t>(ints(kv_src_)[i]);
      words[3] = static_cast<uint32_t>(i + 1);
    }
  auto* to = static_cast<uint8_t*>(upload_.mapped);
  std::memcpy(to, words, sizeof words);
  std::vector<float> angles;
  for (const Table& table : tables_) {
    angles.resize(static_cast<size_t>(table.rope) * tokens);
    for (int t = 0; t < tokens; ++t)
      blockffn::rope_table(table.inv_freq, table.rope, ints(positions_)[t],
                           angles.data() + static_cast<size_t>(t) * table.rope);
    std::memcpy(to + (kStepRope + table.offset) * 4, angles.data(), angles.size() * 4);
  }
  for (const Input& input : float_inputs_) {
    const Value& v = program.values()[input.value];
    for (int t = 0; t < tokens; ++t)
      std::memcpy(to + input.offset + static_cast<uint64_t>(t) * input.stride * 4,
                  static_cast<const float*>(v.data) + t * v.row_elements, v.row_elements * 4);
  }
  return kStatusOk;
}

int Step::first_row(const Program& program, uint32_t output) const {
  const bool logits =
      std::find(logits_outputs_.begin(), logits_outputs_.end(), static_cast<int32_t>(output)) != logits_outputs_.end();
  if (!logits || logits_first_ < 0) return 0;
  return static_cast<int>(*static_cast<const int64_t*>(program.values()[logits_first_].data));
}

Status Step::record_outputs(const Program& program, int tokens) {
  if (Status s = outputs_->begin(); !s.ok()) return s;
  uint64_t at = 0;
  for (uint32_t id : program.outputs()) {
    const Value& v = program.values()[id];
    std::vector<Span> rows;
    for (int t = first_row(program, id); t < tokens; ++t)
      rows.push_back({regions_[id].offset + static_cast<uint64_t>(t) * regions_[id].stride * 4,
                      at + t * v.row_elements * 4, v.row_elements * 4});
    outputs_->copy(arena_, readback_, rows);
    at += round_up(v.elements(tokens) * 4, kAlign);
  }
  outputs_->copy(result_, readback_, {{0, result_at_, result_region_.bytes}});
  outputs_->barrier(kTransfer, kHost);
  return outputs_->end();
}

bool Step::moves_rows(const Program& program) const {
  if (kv_src_ < 0) return false;
  const auto* from = static_cast<const int64_t*>(program.values()[kv_src_].data);
  for (int i = 0; i < kMaxTokens && from[i] >= 0; ++i)
    if (from[i] != i) return true;
  return false;
}

Status Step::run(const Program& program, int tokens, ReadStats* read) {
  const std::lock_guard<std::mutex> lock(device_->mutex());
  const int index = bucket_index(tokens);
  Status s = kStatusOk;
  const bool keep = moves_rows(program);
  std::unique_ptr<Recording>& step = recorded_[keep ? 1 : 0][index];
  if (step == nullptr) s = record(1 << index, keep, Stamps::kNone, &step);
  if (s.ok()) s = write_step(program, tokens);
  if (s.ok()) s = record_outputs(program, tokens);
  if (s.ok()) s = device_->submit_and_wait({step.get(), outputs_.get()});
  if (!s.ok()) return {Status::kLost, s.message};

  const auto* result = reinterpret_cast<const uint32_t*>(static_cast<const uint8_t*>(readback_.mapped) + result_at_);
  if (result[0] != 0) return {Status::kNonFinite, "an activation is not finite; the weights or the input are damaged"};
  for (size_t i = 0; i < ffn_experts_.size(); ++i) {
    read->ffn_calls += 1;
    read->experts_read += result[1 + i];
    read->experts_total += ffn_experts_[i];
  }
  uint64_t at = 0;
  for (uint32_t id : program.outputs()) {
    const Value& v = program.values()[id];
    const size_t skip = static_cast<size_t>(first_row(program, id)) * v.row_elements * 4,
                 bytes = v.elements(tokens) * 4;
    auto* to = static_cast<uint8_t*>(v.data);
    std::memset(to, 0, skip);
    std::memcpy(to + skip, static_cast<const uint8_t*>(readback_.mapped) + at + skip, bytes - skip);
    at += round_up(bytes, kAlign);
  }
  return kStatusOk;
}

std::vector<const Buffer*> Step::buffers() const {
  std::vector<const Buffer*> all;
  for (const auto& b : blocks_) all.push_back(b.get());
  for (const auto& b : states_) all.push_back(b.get());
  for (const Buffer* b : {&arena_, &result_, upload_.local ? &upload_ : &inputs_}) all.push_back(b);
  return all;
}

Status Step::trace(const Program& program, int tokens, const std::string& prefix) {
  const std::lock_guard<std::mutex> lock(device_->mutex());
  std::string listing;
  std::unique_ptr<Recording> commands;
  if (Status s = record(1 << bucket_index(tokens), moves_rows(program), Stamps::kNone, &commands, &listing); !s.ok())
    return s;
  if (Status s = write_step(program, tokens); !s.ok()) return s;
  const auto write = [](const std::string& path, const void* data, size_t bytes) {
    FILE* file = std::fopen(path.c_str(), "wb");
    const bool written = file != nullptr && std::fwrite(data, 1, bytes, file) == bytes;
    return (file == nullptr || std::fclose(file) == 0) && written;
  };
  const auto write_all = [&](const char* when) {
    const auto all = buffers();
    for (size_t i = 0; i < all.size(); ++i)
      if (all[i]->mapped == nullptr ||
          !write(prefix + "." + when + "." + std::to_string(i), all[i]->mapped, all[i]->bytes))
        return false;
    return true;
  };
  const Status failed = {Status::kInvalidArgument, "the step's memory cannot be written to files"};
  const std::string text =
      "{\"buffers\": " + std::to_string(buffers().size()) + ", \"dispatches\": [\n" + listing + "\n]}\n";
  if (!write(prefix + ".json", text.data(), text.size()) || !write_all("before")) return failed;
  if (Status s = device_->submit_and_wait({commands.get()}); !s.ok()) return s;
  return write_all("after") ? kStatusOk : failed;
}

Status Step::time(int tokens, int repeat, std::vector<double>* nanoseconds, std::vector<double>* wall) {
  const std::lock_guard<std::mutex> lock(device_->mutex());
  std::unique_ptr<Recording> commands;
  if (Status s = record(1 << bucket_index(tokens), false, Stamps::kEnds, &commands); !s.ok()) return s;
  nanoseconds->clear();
  // An idle GPU lowers its clock and needs some time to raise it again.
  const auto warm = std::chrono::steady_clock::now() + std::chrono::milliseconds(40);
  do {
    if (Status s = device_->submit_and_wait({commands.get()}); !s.ok()) return s;
  } while (std::chrono::steady_clock::now() < warm);
  for (int i = 0; i < repeat; ++i) {
    std::vector<double> one;
    const auto start = std::chrono::steady_clock::now();
    if (Status s = device_->submit_and_wait({commands.get()}); !s.ok()) return s;
    if (wall != nullptr)
      wall->push_back(std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count());
    if (Status s = commands->between_stamps(&one); !s.ok()) return s;
    nanoseconds->push_back(one[0]);
  }
  return kStatusOk;
}

Status Step::profile(int tokens, std::vector<Pass>* passes) {
  const std::lock_guard<std::mutex> lock(device_->mutex());
  std::unique_ptr<Recording> commands;
  std::vector<double> each;
  if (Status s = record(1 << bucket_index(tokens), false, Stamps::kAll, &commands); !s.ok()) return s;
  if (Status s = device_->submit_and_wait({commands.get()}); !s.ok()) return s;
  if (Status s = commands->between_stamps(&each); !s.ok()) return s;
  passes->clear();
  for (size_t i = 0; i < dispatches_.size(); ++i)
    passes->push_back({dispatches_[i].shader, dispatches_[i].op, each[i]});
  return kStatusOk;
}

}  // namespace blockffn::gpu
