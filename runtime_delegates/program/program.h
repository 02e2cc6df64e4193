// A decoder step as a flat list of operators over packed weights: what one delegated partition holds.
//
// export/program.py writes the bytes; Program::parse checks all of them, so that run() only has to
// check what depends on its inputs. parse() allocates once; run() allocates nothing. A program holds
// the caches and the scratch memory of one sequence: two threads must not run the same one at once.
//
// Layout, little-endian: magic "BFPG", u16 version, u16 zero, u32 values, u32 ops, u32 inputs,
// u32 outputs, u32 weights_key_bytes, u32 zero; the key of the weights segment, padded to 8;
// value records (48 bytes); op records; u32 input ids; u32 output ids.
//   value  u8 kind, u8 dtype, u16 rank, i32 dims[4] (-1 = T), u32 zero, u64 offset, u64 bytes, u64 zero
//   op     u16 opcode, u16 args, u16 outs, u16 attrs, u32 arg ids (0xffffffff = none), u32 out ids,
//          padded to 8, then 8 bytes per attribute: int64 or float64
#pragma once

#include <memory>
#include <vector>

#include "../kernels/ops.h"

namespace blockffn {

enum class Kind : uint8_t { kTemporary = 0, kInput = 1, kOutput = 2, kWeight = 3, kState = 4 };
enum class DType : uint8_t { kFloat = 0, kInt64 = 1, kMatrix = 2, kFfn = 3 };

enum class Opcode : uint16_t {
  kEmbedding = 1,
  kRmsNorm = 2,
  kLinear = 3,
  kLogits = 4,
  kSiluMul = 5,
  kAdd = 6,
  kChunkSparseFfn = 7,
  kMlaAttention = 8,
  kGqaAttention = 9,
};

constexpr int64_t kMaxDim = int64_t{1} << 24;  // also keeps every product of two sizes within 64 bits

struct Value {
  Kind kind = Kind::kTemporary;
  DType dtype = DType::kFloat;
  int rank = 0;
  int32_t dims[4] = {};     // -1 stands for T
  size_t row_elements = 0;  // product of the dims that are not T
  bool dynamic = false;     // one dim is T
  void* data = nullptr;     // set by parse, for inputs and outputs by bind_*
  Matrix matrix;
  Ffn ffn;
  int64_t rows_written = 0;  // states: rows of the cache that calls have completed

  size_t elements(int tokens) const { return row_elements * (dynamic ? static_cast<size_t>(tokens) : 1); }
};

union Attr {
  int64_t i;
  double f;
};

struct Op {
  Opcode code;
  std::vector<int32_t> args, outs;  // -1 = none
  std::vector<Attr> attrs;
};

// What the FFN operators of a run read; summed over layers and calls until taken.
struct ReadStats {
  int64_t calls = 0, tokens = 0, ffn_calls = 0, experts_read = 0, experts_total = 0;
};

// Receives one event per operator; union_size is -1 for operators without experts.
struct Observer {
  void* context = nullptr;
  void (*begin)(void* context, const char* name) = nullptr;
  void (*end)(void* context, const char* name, int tokens, int union_size) = nullptr;
};

class Program;

// Runs the operators of a program elsewhere, for example on a GPU; owns the caches it uses instead of the program's.
class Accelerator {
 public:
  virtual ~Accelerator() = default;
  virtual const char* name() const = 0;
  // What the loop over operators in Program::run does; inputs are checked, and outputs are bound. After kLost the
  // caches are gone and the accelerator must not be used again.
  virtual Status run(const Program& program, int tokens, ReadStats* read) = 0;
};

class Program {
 public:
  // Looks up the weights segment by key; its memory must outlive the program.
  using FindWeights = Status (*)(void* context, const char* key, const uint8_t** data, size_t* bytes);
  static constexpr size_t kMaxWorkingBytes = size_t{1} << 36;
  // Chooses the kernels too. The blob may be freed afterwards. Activations, scratch and caches together may take
  // max_working_bytes. Throws nothing: kNoMemory if an allocation fails.
  static Status parse(const uint8_t* blob, size_t bytes, FindWeights find, void* find_context,
                      std::unique_ptr<Program>* out, size_t max_working_bytes = kMaxWorkingBytes);
  // The same where every weight is a tensor of its own: the offset in its record is 64 times its place in `tensors`,
  // which is not needed afterwards; what its tensors point to is.
  struct WeightTensor {
    const uint8_t* data;
    size_t bytes;
  };
  static Status parse(const uint8_t* blob, size_t bytes, const WeightTensor* tensors, size_t tensor_count,
                      std::unique_ptr<Program>* out, size_t max_working_bytes = kMaxWorkingBytes);

  int input_count() const { return static_cast<int>(inputs_.size()); }
  int output_count() const { return static_cast<int>(outputs_.size()); }
  int state_count() const { return static_cast<int>(states_.size()); }
  const Value& input(int i) const { return values_[inputs_[i]]; }
  const Value& output(int i) const { return values_[outputs_[i]]; }
  const Value& state(int i) const { return values_[states_[i]]; }

  void bind_input(int i, const void* data) { values_[inputs_[i]].data = const_cast<void*>(data); }
  void bind_output(int i, void* data) { values_[outputs_[i]].data = data; }
  // Runs from now on use a cache of the caller, who alone knows which of its rows hold data. Without a call the
  // program's own memory is used; its pages cost nothing until then.
  void bind_state(int i, void* data) {
    values_[states_[i]].data = data;
    values_[states_[i]].rows_written = values_[states_[i]].dims[0];
  }
  // Inputs and outputs must be bound to memory for `tokens` tokens. Wrong inputs are refused before
  // anything changes. On success every output is finite. On kNonFinite the rows of every cache from
  // n_past - (rows kept by kv_src) on are lost: the caller goes on with an n_past of at most that.
  Status run(int tokens, const Parallel& parallel, const Observer& observer, ReadStats* stats);

  // From now on runs go to the accelerator; no run may have written a cache yet.
  void set_accelerator(std::unique_ptr<Accelerator> accelerator) { accelerator_ = std::move(accelerator); }
  std::unique_ptr<Accelerator> take_accelerator() { return std::move(accelerator_); }
  const Accelerator* accelerator() const { return accelerator_.get(); }
  // Whether runs on the CPU read and compute all experts (ops.h); an accelerator knows nothing of it.
  void set_all_experts(bool all) { all_experts_ = all; }
  // No row of any cache counts as written any more.
  void forget() {
    for (uint32_t id : states_) values_[id].rows_written = 0;
  }

  const Kernels& kernels() const { return *kernels_; }
  const std::vector<Value>& values() const { return values_; }
  const std::vector<Op>& ops() const { return ops_; }
  const std::vector<uint32_t>& inputs() const { return inputs_; }
  const std::vector<uint32_t>& outputs() const { return outputs_; }
  MlaWeights mla_weights(const Op& op) const;
  GqaWeights gqa_weights(const Op& op) const;
  int64_t weights_bytes() const { return weights_bytes_; }
  int64_t working_bytes() const { return static_cast<int64_t>(arena_bytes_ + scratch_bytes_ + state_bytes_); }

 private:
  // Where weights are: by key in one segment (find), or each in a tensor of its own.
  struct WeightSource {
    FindWeights find = nullptr;
    void* find_context = nullptr;
    const WeightTensor* tensors = nullptr;
    size_t count = 0;
    WeightTensor segment{nullptr, 0};
    // The weight of a record; null data if it lies outside.
    const uint8_t* at(uint64_t offset, uint64_t bytes) const;
  };
  static Status parse(const uint8_t* blob, size_t bytes, WeightSource source, std::unique_ptr<Program>* out,
                      size_t max_working_bytes);
  Status parse_checked(const uint8_t* blob, size_t bytes, WeightSource& source, size_t max_working_bytes);
  Status parse_values(const uint8_t* records, uint32_t n, const WeightSource& source);
  Status check_op(const Op& op, size_t* scratch) const;
  Status check_lives(std::vector<int>* first, std::vector<int>* last) const;
  size_t state_bytes(const Value& v, int op) const;
  Status plan_memory(size_t max_working_bytes);
  Status check_inputs(int tokens) const;
  Status run_ops(int tokens, const Parallel& parallel, const Observer& observer, ReadStats* read);
  Status run_op(const Op& op, const Context& ctx, int tokens, int* union_size);
  Chunk chunk_of(const Op& op, int tokens) const;
  const Value& arg(const Op& op, size_t i) const { return values_[op.args[i]]; }

  const Kernels* kernels_ = nullptr;
  std::vector<Value> values_;
  std::vector<Op> ops_;
  std::vector<uint32_t> inputs_, outputs_, states_;
  std::unique_ptr<Accelerator> accelerator_;
  bool all_experts_ = false;
  std::unique_ptr<uint8_t[], void (*)(uint8_t*)> memory_{nullptr, nullptr};
  uint8_t* scratch_ = nullptr;
  size_t arena_bytes_ = 0, scratch_bytes_ = 0, state_bytes_ = 0;
  int64_t weights_bytes_ = 0;
};

const char* opcode_name(Opcode code);

}  // namespace blockffn
