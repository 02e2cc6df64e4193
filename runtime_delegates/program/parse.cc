// Reading a program: every byte is checked here once, so that a run can trust all of it.
#include <algorithm>
#include <cstring>
#include <new>

#include "program.h"

namespace blockffn {
namespace {

constexpr uint16_t kVersion = 1;
constexpr size_t kValueRecord = 48;
constexpr uint32_t kMaxCount = 1u << 14;            // values or operators; planning is quadratic in it
constexpr int64_t kMaxElements = int64_t{1} << 30;  // of a value, for one token
constexpr size_t kMaxArgs = 16, kMaxOuts = 4, kMaxAttrs = 16;

constexpr Status corrupt(const char* message) { return {Status::kCorrupt, message}; }

// Reads the blob front to back; every read is checked, and a failed one leaves zero.
class Reader {
 public:
  Reader(const uint8_t* data, size_t bytes) : p_(data), left_(bytes) {}
  bool ok() const { return ok_; }
  const uint8_t* bytes(size_t n) {
    if (n > left_) {
      ok_ = false;
      left_ = 0;
      return nullptr;
    }
    const uint8_t* at = p_;
    p_ += n;
    left_ -= n;
    consumed_ += n;
    return at;
  }
  template <class T>
  T take() {
    T v{};
    if (const uint8_t* at = bytes(sizeof(T))) std::memcpy(&v, at, sizeof(T));
    return v;
  }
  void pad(size_t multiple) { bytes(round_up(consumed_, multiple) - consumed_); }

 private:
  const uint8_t* p_;
  size_t left_, consumed_ = 0;
  bool ok_ = true;
};

template <class T>
T read(const uint8_t* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

Status read_ops(Reader& in, uint32_t n_ops, uint32_t n_values, std::vector<Op>* ops) {
  const auto exists = [&](int32_t id) { return id >= 0 && id < static_cast<int32_t>(n_values); };
  for (uint32_t i = 0; i < n_ops && in.ok(); ++i) {
    Op op;
    op.code = static_cast<Opcode>(in.take<uint16_t>());
    const uint16_t n_args = in.take<uint16_t>(), n_outs = in.take<uint16_t>(), n_attrs = in.take<uint16_t>();
    if (n_args > kMaxArgs || n_outs > kMaxOuts || n_attrs > kMaxAttrs) return corrupt("an operator record is damaged");
    for (int k = 0; k < n_args; ++k) op.args.push_back(in.take<int32_t>());
    for (int k = 0; k < n_outs; ++k) op.outs.push_back(in.take<int32_t>());
    in.pad(8);
    for (int k = 0; k < n_attrs; ++k) op.attrs.push_back(Attr{in.take<int64_t>()});
    if (!std::all_of(op.args.begin(), op.args.end(), [&](int32_t id) { return id == -1 || exists(id); }) ||
        !std::all_of(op.outs.begin(), op.outs.end(), exists))
      return corrupt("an operator names a value that does not exist");
    ops->push_back(std::move(op));
  }
  return kStatusOk;
}

// Every input and output must be bound before a run: each is listed, and listed once.
bool each_listed_once(const std::vector<Value>& values, const std::vector<uint32_t>& inputs,
                      const std::vector<uint32_t>& outputs) {
  std::vector<bool> listed(values.size(), false);
  const auto list = [&](const std::vector<uint32_t>& ids, Kind kind) {
    for (uint32_t id : ids) {
      if (id >= values.size() || values[id].kind != kind || listed[id]) return false;
      listed[id] = true;
    }
    return true;
  };
  if (!list(inputs, Kind::kInput) || !list(outputs, Kind::kOutput)) return false;
  for (size_t id = 0; id < values.size(); ++id)
    if (!listed[id] && (values[id].kind == Kind::kInput || values[id].kind == Kind::kOutput)) return false;
  return true;
}

}  // namespace

Status Program::parse(const uint8_t* blob, size_t bytes, FindWeights find, void* find_context,
                      std::unique_ptr<Program>* out, size_t max_working_bytes) {
  WeightSource source;
  source.find = find;
  source.find_context = find_context;
  return parse(blob, bytes, source, out, max_working_bytes);
}

Status Program::parse(const uint8_t* blob, size_t bytes, const WeightTensor* tensors, size_t tensor_count,
                      std::unique_ptr<Program>* out, size_t max_working_bytes) {
  WeightSource source;
  source.tensors = tensors;
  source.count = tensor_count;
  return parse(blob, bytes, source, out, max_working_bytes);
}

const uint8_t* Program::WeightSource::at(uint64_t offset, uint64_t bytes) const {
  if (offset % kAlign != 0) return nullptr;
  if (find != nullptr) {
    const bool inside = offset <= segment.bytes && bytes <= segment.bytes - offset;
    return inside && segment.data != nullptr ? segment.data + offset : nullptr;
  }
  const uint64_t i = offset / kAlign;
  return i < count && bytes == tensors[i].bytes ? tensors[i].data : nullptr;
}

Status Program::parse(const uint8_t* blob, size_t bytes, WeightSource source, std::unique_ptr<Program>* out,
                      size_t max_working_bytes) {
  try {
    auto program = std::make_unique<Program>();
    if (Status s = program->parse_checked(blob, bytes, source, max_working_bytes); !s.ok()) return s;
    *out = std::move(program);
    return kStatusOk;
  } catch (const std::bad_alloc&) {
    return {Status::kNoMemory, "not enough memory to load the program"};
  }
}

Status Program::parse_checked(const uint8_t* blob, size_t bytes, WeightSource& source, size_t max_working_bytes) {
  if (Status s = select_kernels(&kernels_); !s.ok()) return s;
  Reader in(blob, bytes);
  const uint8_t* magic = in.bytes(4);
  if (magic == nullptr || std::memcmp(magic, "BFPG", 4) != 0) return corrupt("this is not a BlockFFN program");
  if (in.take<uint16_t>() != kVersion)
    return corrupt("the program has another format version than this library; export the model again");
  in.take<uint16_t>();
  const uint32_t n_values = in.take<uint32_t>(), n_ops = in.take<uint32_t>(), n_inputs = in.take<uint32_t>(),
                 n_outputs = in.take<uint32_t>();
  const uint32_t key_bytes = in.take<uint32_t>();
  in.take<uint32_t>();
  if (!in.ok() || n_values > kMaxCount || n_ops > kMaxCount || n_inputs > n_values || n_outputs > n_values ||
      key_bytes > 255)
    return corrupt("the program's header is damaged");
  char key[256] = {};
  if (const uint8_t* at = in.bytes(key_bytes)) std::memcpy(key, at, key_bytes);
  in.pad(8);
  const uint8_t* records = in.bytes(static_cast<size_t>(n_values) * kValueRecord);
  if (!in.ok()) return corrupt("the program is truncated");

  if (key_bytes > 0 && source.find != nullptr)
    if (Status s = source.find(source.find_context, key, &source.segment.data, &source.segment.bytes); !s.ok())
      return s;

  weights_bytes_ = static_cast<int64_t>(source.segment.bytes);
  for (size_t i = 0; i < source.count; ++i) weights_bytes_ += static_cast<int64_t>(source.tensors[i].bytes);
  if (Status s = parse_values(records, n_values, source); !s.ok()) return s;

  if (Status s = read_ops(in, n_ops, n_values, &ops_); !s.ok()) return s;
  for (uint32_t i = 0; i < n_inputs; ++i) inputs_.push_back(in.take<uint32_t>());
  for (uint32_t i = 0; i < n_outputs; ++i) outputs_.push_back(in.take<uint32_t>());
  if (!in.ok()) return corrupt("the program is truncated");
  if (!each_listed_once(values_, inputs_, outputs_)) return corrupt("the program's inputs or outputs are damaged");

  for (const Op& op : ops_) {
    size_t scratch = 0;
    if (Status s = check_op(op, &scratch); !s.ok()) return s;
    scratch_bytes_ = std::max(scratch_bytes_, round_up(scratch, kAlign));
  }
  return plan_memory(max_working_bytes);
}

Status Program::parse_values(const uint8_t* records, uint32_t n, const WeightSource& source) {
  values_.resize(n);
  for (uint32_t i = 0; i < n; ++i) {
    const uint8_t* r = records + static_cast<size_t>(i) * kValueRecord;
    Value& v = values_[i];
    if (r[0] > static_cast<uint8_t>(Kind::kState) || r[1] > static_cast<uint8_t>(DType::kFfn))
      return corrupt("a value record is damaged");
    v.kind = static_cast<Kind>(r[0]);
    v.dtype = static_cast<DType>(r[1]);
    v.rank = read<uint16_t>(r + 2);
    if (v.rank > 4) return corrupt("a value record is damaged");
    int64_t elements = 1;
    for (int d = 0; d < v.rank; ++d) {
      v.dims[d] = read<int32_t>(r + 4 + 4 * d);
      if (v.dims[d] == -1) {
        if (v.dynamic) return corrupt("a value has two dynamic dimensions");
        v.dynamic = true;
      } else if (v.dims[d] < 1 || v.dims[d] > kMaxDim || (elements *= v.dims[d]) > kMaxElements) {
        return corrupt("a value has an impossible shape");
      }
    }
    v.row_elements = static_cast<size_t>(elements);
    const bool packed = v.dtype == DType::kMatrix || v.dtype == DType::kFfn;
    if (v.kind == Kind::kWeight) {
      const uint64_t offset = read<uint64_t>(r + 24), size = read<uint64_t>(r + 32);
      const uint8_t* data = source.at(offset, size);
      if (v.dynamic || data == nullptr) return corrupt("a weight lies outside the weights segment");
      v.data = const_cast<uint8_t*>(data);
      Status s;
      if (v.dtype == DType::kMatrix)
        s = parse_matrix(data, size, &v.matrix);
      else if (v.dtype == DType::kFfn)
        s = parse_ffn(data, size, &v.ffn);
      else if (v.dtype != DType::kFloat || size != v.row_elements * sizeof(float))
        s = corrupt("a weight has the wrong size");
      if (!s.ok()) return s;
      if (reinterpret_cast<uintptr_t>(data) % alignof(float) != 0) return corrupt("the weights segment is not aligned");
    } else if (packed || (v.dtype == DType::kInt64 && v.kind != Kind::kInput)) {
      return corrupt("a value has a type that its kind cannot have");
    }
    if (v.kind != Kind::kState) continue;
    if (v.dynamic || v.rank < 2) return corrupt("a state needs a fixed shape");
    states_.push_back(i);
  }
  return kStatusOk;
}

}  // namespace blockffn
