// A whole decoder step on a GPU: the operators of a Program as command buffers that are recorded once.
//
// The number of tokens, n_past, ids, masks and rotary angles are in one small buffer, so a step is: write it, submit,
// wait, copy the outputs. There is one command buffer per bucket of 1, 2, 4 ... 64 tokens. Weights are copied once, in
// the bytes that the CPU reads. Activations stay float32, also for int8 and int4 weights, which the kernels dequantize:
// results are closer to the checkpoint's than the CPU's, whose activations are int8, and differ from them by that
// rounding.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "../program/program.h"
#include "device.h"

namespace blockffn::gpu {

struct StepOptions {
  bool cpu_too = false;     // admit a software driver
  bool serialize = false;   // for measurements: a barrier between all operators
  uint32_t threads = 0;     // of a workgroup; 0 chooses
  uint64_t window = 0;      // for tests: bytes of weights that one binding may hold; 0 is the device's limit
  Faults faults;            // for tests; with any, the step has a device of its own
  bool own_device = false;  // not the one that programs share
  int skip_barrier = -1;    // for tests of the validation: leaves out one barrier
  Arithmetic arithmetic = Arithmetic::kFp32;  // float32 where the device has no float16: Step::arithmetic()
};

class Step : public Accelerator {
 public:
  // kInvalidArgument if there is no usable GPU or the program holds something that it cannot do; kNoMemory.
  static Status create(const Program& program, const StepOptions& options, std::unique_ptr<Step>* out);
  ~Step() override;

  const char* name() const override { return device_->name(); }
  Status run(const Program& program, int tokens, ReadStats* read) override;

  // For measurements: submits the recorded step for `tokens` again, `repeat` times, and returns the GPU's nanoseconds
  // of each, without reading outputs, and those of the host's clock from submission to the end, if `wall` is not null.
  // The caches keep growing at the same place.
  Status time(int tokens, int repeat, std::vector<double>* nanoseconds, std::vector<double>* wall);
  // Likewise once, with a time stamp behind every dispatch, which itself costs a little: nanoseconds of each.
  struct Pass {
    Shader shader;
    int op;
    double nanoseconds;
  };
  Status profile(int tokens, std::vector<Pass>* passes);
  // For tests of the passes elsewhere: runs a step and writes PREFIX.json (its dispatches in order, with bindings as
  // [buffer, offset], push words and workgroups) and every buffer's bytes before and after, PREFIX.before.N, .after.N.
  // Only where the CPU reaches all memory.
  Status trace(const Program& program, int tokens, const std::string& prefix);
  Device& device() { return *device_; }
  Arithmetic arithmetic() const { return options_.arithmetic; }
  int barriers() const { return barriers_; }

 private:
  struct Region {
    const Buffer* buffer = nullptr;
    uint64_t offset = 0, bytes = 0;
    uint32_t stride = 0;    // floats of a row
    int32_t resource = -1;  // what barriers are counted by; -1 is never written
  };
  struct Place {
    size_t block;
    uint64_t offset, bytes;
  };
  enum class Grid : uint8_t { kFixed, kTokens, kBlocks };  // a number, one per token, one per block of tokens
  struct Dispatch {
    Shader shader;
    bool blocks = false;  // the pipeline depends on the tokens of a block
    Region bindings[kBindings];
    uint32_t writes = 0;  // bit i: binding i is written
    uint32_t push[kPushBytes / 4] = {};
    Grid grid[3] = {Grid::kFixed, Grid::kFixed, Grid::kFixed};
    uint32_t size[3] = {1, 1, 1};
    Region indirect;
    int op = 0;
    uint32_t threads = 0;
  };

  enum class Work : uint8_t { kScores, kRoute, kHidden, kQuery, kPlain, kContext, kParts };

  Step() = default;
  Status plan(const Program& program);
  void join_sums(const Program& program);
  Status place_values(const Program& program);
  Status place_weights(const Program& program);
  Status add_op(const Program& program, const Op& op);
  Status add_linear(const Matrix& w, const Value* bias, float scale, Region x, uint32_t x_group, Region y,
                    uint32_t y_group, bool logits, const Region* residual = nullptr, bool router = false);
  Status add_ffn(const Ffn& w, Region x, Region y, const Region* residual);
  Status add_attend(const AttentionShape& shape, int capacity, Region query, uint32_t q_head, Region keys,
                    uint32_t key_head, Region values, uint32_t value_head, Region y, uint32_t y_head);
  void add_heads(uint32_t plain, uint32_t rope, int heads, Region x, uint32_t x_head, Region y, uint32_t y_head,
                 uint32_t y_at, Region z, uint32_t z_head, uint32_t z_at, bool cache, uint32_t table, uint32_t x_at);
  Status add_rms_norm(const Value& weight, float eps, Region x, Region y, bool cache);
  Binding bound(const Region& region) const;
  Status state(const Value& value, int32_t id, uint32_t stride, Region* out);
  enum class Stamps : uint8_t { kNone, kEnds, kAll };
  // `keep`: compact the caches first, which depends on inputs alone and so needs no barrier between the caches.
  Status record(int bucket, bool keep, Stamps stamps, std::unique_ptr<Recording>* out, std::string* listing = nullptr);
  bool moves_rows(const Program& program) const;
  std::vector<const Buffer*> buffers() const;
  // Rows before it are skipped: the program is asked for the logits of the later tokens only.
  int first_row(const Program& program, uint32_t output) const;
  Status record_outputs(const Program& program, int tokens);
  Status write_step(const Program& program, int tokens);
  uint32_t rope_table(const float* inv_freq, int rope, int32_t positions);
  // The window [from, from + bytes) of a weight as a binding; *first is its place in it, in units of `unit` bytes.
  Region weight(const void* data, uint64_t from, uint64_t bytes, uint32_t unit, uint32_t* first) const;
  // Working memory that operators of one shape take turns on: `kind` and the two sizes name it.
  Region work(Work kind, uint64_t a, uint64_t b, uint64_t floats, uint32_t stride);
  Region slot(uint64_t floats, uint32_t stride);
  Dispatch& dispatch(Shader shader);
  Region region(const Program& program, int32_t id) const;

  std::shared_ptr<Device> device_;
  uint64_t room() const;  // bytes of weights that a binding may hold
  StepOptions options_;
  std::vector<std::unique_ptr<Buffer>> blocks_;  // weights
  std::map<const void*, Place> places_;
  Buffer arena_, readback_, result_;
  Buffer upload_,
      inputs_;  // what the CPU writes for a step, and its copy in the GPU's memory where that is another one
  uint64_t result_at_ = 0;  // in readback_
  std::vector<std::unique_ptr<Buffer>> states_;
  // Of every operator: the sum that it writes instead of its output, and what it adds; or nothing is left to do for it.
  struct Sum {
    int32_t out = -1, other = -1;
    bool skip = false;
  };
  std::vector<Sum> sums_;
  std::vector<Region> regions_;  // of every value
  uint64_t arena_bytes_ = 0;
  int32_t resources_ = 0;
  std::map<std::tuple<Work, uint64_t, uint64_t>, Region> work_;
  Region step_region_, result_region_;
  struct Input {
    int32_t value;
    uint64_t offset;
    uint32_t stride;
  };
  std::vector<Input> float_inputs_;
  struct Table {
    const float* inv_freq;
    int rope;
    uint32_t offset;  // words behind STEP_ROPE
  };
  std::vector<Table> tables_;
  uint32_t table_words_ = 0;
  // Heads and rows of a part of the attention operators: one set of dispatch arguments each.
  std::vector<std::pair<int, int>> attention_kinds_;
  int32_t ids_ = -1, positions_ = -1, past_ = -1, mask_ = -1, kv_src_ = -1, tree_ = -1, logits_first_ = -1;
  std::vector<int32_t> logits_outputs_;
  std::vector<int> ffn_experts_;
  std::vector<Dispatch> keeps_, dispatches_;
  int op_ = 0;
  std::unique_ptr<Recording> recorded_[2][7], outputs_;  // without and with compaction of the caches, per bucket
  int barriers_ = 0;
};

}  // namespace blockffn::gpu
