// Feeds damaged programs and weights to the parser and runs what it accepts.
//
//   blockffn_fuzz SEEDS MUTATIONS RANDOM_SEED
//
// SEEDS is a directory of valid cases, each NAME.program, NAME.weights and NAME.steps, as written by
// test_fuzz.py. Each is tried with its weights in one segment, as ExecuTorch has them, and in tensors of their own, as
// ONNX Runtime has them. Buffers have exactly their size, so that a sanitizer sees every step outside. The unchanged
// cases must parse and run, give the same bits however their work is cut, and survive every allocation that fails.
// Prints one JSON line; a defect ends the process.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "../../runtime_delegates/program/program.h"

namespace {

long allocations_left = -1;  // operator new fails when it reaches 0; negative: never

}  // namespace

void* operator new(size_t bytes) {
  if (allocations_left == 0) throw std::bad_alloc();
  if (allocations_left > 0) --allocations_left;
  if (void* p = std::malloc(bytes > 0 ? bytes : 1)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace {

using blockffn::Program;
using blockffn::Status;
using Bytes = std::vector<uint8_t>;

constexpr size_t kMaxWorkingBytes = 32 << 20, kMaxTensorBytes = 8 << 20;

struct Step {
  uint32_t tokens = 0;
  std::vector<Bytes> inputs;
};

struct Case {
  std::string name;
  Bytes program;
  std::vector<Bytes> weights;  // one segment, or a tensor each
  bool split;                  // into tensors
  std::vector<Step> steps;
};

// How a case runs.
struct Setting {
  const char* kernels;
  int threads = 1;
  bool all_experts = false;
};

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    std::exit(2);
  }
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

// u32 steps; per step u32 tokens, u32 inputs, per input u32 bytes and the bytes.
std::vector<Step> parse_steps(const Bytes& data) {
  size_t at = 0;
  const auto u32 = [&] {
    uint32_t v;
    std::memcpy(&v, data.data() + at, sizeof v);
    at += sizeof v;
    return v;
  };
  std::vector<Step> steps(u32());
  for (Step& step : steps) {
    step.tokens = u32();
    step.inputs.resize(u32());
    for (Bytes& input : step.inputs) {
      const uint32_t n = u32();
      input.assign(data.begin() + at, data.begin() + at + n);
      at += n;
    }
  }
  return steps;
}

// The same case with every weight in a tensor of its own: a record's offset is then 64 times the tensor's place.
Case split(const Case& whole) {
  Case c = whole;
  c.name += "-tensors";
  c.split = true;
  c.weights.clear();
  uint32_t values, key_bytes;
  std::memcpy(&values, &c.program[8], sizeof values);
  std::memcpy(&key_bytes, &c.program[24], sizeof key_bytes);
  uint8_t* record = &c.program[(32 + key_bytes + 7) / 8 * 8];
  for (uint32_t i = 0; i < values; ++i, record += 48) {
    if (record[0] != static_cast<uint8_t>(blockffn::Kind::kWeight)) continue;
    uint64_t offset, bytes;
    std::memcpy(&offset, record + 24, sizeof offset);
    std::memcpy(&bytes, record + 32, sizeof bytes);
    const auto first = whole.weights[0].begin() + static_cast<ptrdiff_t>(offset);
    offset = 64 * c.weights.size();
    c.weights.emplace_back(first, first + static_cast<ptrdiff_t>(bytes));
    std::memcpy(record + 24, &offset, sizeof offset);
  }
  return c;
}

using Random = std::mt19937_64;

size_t below(Random& random, size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); }

// Where damage does most: in the headers of packed weights and in a program, or anywhere.
size_t position(Random& random, const Bytes& data) {
  std::vector<size_t> headers;
  for (size_t i = 0; i + 4 <= data.size(); i += 64)
    if (std::memcmp(&data[i], "BFMX", 4) == 0 || std::memcmp(&data[i], "BFFF", 4) == 0) headers.push_back(i);
  if (headers.empty() || below(random, 4) == 0) return below(random, data.size());
  return std::min(data.size() - 1, headers[below(random, headers.size())] + below(random, 64));
}

// A number that a careless check might let pass: a limit, a neighbour of the old value, or near the file's end.
uint64_t tempting(Random& random, uint64_t old, size_t file_bytes) {
  static const uint64_t kLimits[] = {0,
                                     1,
                                     2,
                                     7,
                                     8,
                                     63,
                                     64,
                                     65,
                                     255,
                                     0xffff,
                                     1u << 17,
                                     1u << 24,
                                     (1u << 24) + 1,
                                     1u << 30,
                                     0x7fffffff,
                                     0x80000000,
                                     0xfffffffe,
                                     0xffffffff,
                                     uint64_t{1} << 40,
                                     uint64_t{1} << 62,
                                     0x7fffffffffffffff,
                                     0x8000000000000000,
                                     0xffffffffffffffff,
                                     0x7fc00000 /* NaN */,
                                     0x7f800000 /* inf */,
                                     0xff800000,
                                     0x7f7fffff,
                                     0x7ff8000000000000};
  switch (below(random, 6)) {
    case 0:
      return kLimits[below(random, std::size(kLimits))];
    case 1:
      return old + 1 + below(random, 8);
    case 2:
      return old - 1 - below(random, 8);
    case 3:
      return old * 2;
    case 4:
      return old / 2;
    default:
      return file_bytes - below(random, 128);
  }
}

void mutate_once(Random& random, Bytes& data, const Bytes& other) {
  if (data.empty()) return;
  const size_t at = position(random, data);
  switch (below(random, 9)) {
    case 0:
      data[at] ^= 1u << below(random, 8);
      break;
    case 1:
      data[at] = static_cast<uint8_t>(random());
      break;
    case 2:
    case 3:
    case 4:
    case 5: {  // a whole field
      const size_t width = size_t{1} << below(random, 4), aligned = at / width * width,
                   n = std::min(width, data.size() - aligned);
      uint64_t value = 0;
      std::memcpy(&value, &data[aligned], n);
      value = tempting(random, value, data.size());
      std::memcpy(&data[aligned], &value, n);
      break;
    }
    case 6: {  // one word copied over another: ids, offsets and sizes that exist, in the wrong place
      const size_t from = below(random, data.size()) / 4 * 4, to = at / 4 * 4;
      std::memmove(&data[to], &data[from], std::min<size_t>(4, data.size() - std::max(from, to)));
      break;
    }
    case 7:
      data.resize(below(random, 2) == 0 ? at : data.size() - std::min<size_t>(data.size(), 1 + below(random, 64)));
      break;
    case 8: {  // a stretch of another file
      if (other.empty()) break;
      const size_t from = below(random, other.size());
      const size_t n = std::min({size_t{1} << below(random, 12), other.size() - from, data.size() - at});
      std::memcpy(&data[at], &other[from], n);
      break;
    }
  }
}

struct Counts {
  long parsed = 0, steps_ok = 0, steps_refused = 0, steps_skipped = 0;
};

Status find_segment(void* segment, const char*, const uint8_t** data, size_t* bytes) {
  const auto& found = *static_cast<Program::WeightTensor*>(segment);
  *data = found.data;
  *bytes = found.bytes;
  return blockffn::kStatusOk;
}

void fail(const std::string& what, const char* message) {
  std::fprintf(stderr, "%s: %s\n", what.c_str(), message);
  std::abort();
}

// Copies at a multiple of 64 without slack behind their last byte.
class Exact {
 public:
  explicit Exact(const std::vector<Bytes>& all) {
    for (const Bytes& b : all) {
      void* copy = nullptr;
      if (posix_memalign(&copy, 64, std::max<size_t>(b.size(), 1)) != 0) std::abort();
      if (!b.empty()) std::memcpy(copy, b.data(), b.size());
      copies_.emplace_back(static_cast<uint8_t*>(copy), std::free);
      tensors.push_back({copies_.back().get(), b.size()});
    }
  }
  std::vector<Program::WeightTensor> tensors;

 private:
  std::vector<std::unique_ptr<uint8_t, void (*)(void*)>> copies_;
};

Status parse(const Program::WeightTensor& program, bool split, std::vector<Program::WeightTensor>& weights,
             size_t max_working_bytes, std::unique_ptr<Program>* out) {
  return split ? Program::parse(program.data, program.bytes, weights.data(), weights.size(), out, max_working_bytes)
               : Program::parse(program.data, program.bytes, find_segment, weights.data(), out, max_working_bytes);
}

// Parsing must report every allocation that fails, and a program that is too large, and leak nothing.
void exhaust_memory(const Case& c) {
  Exact weights(c.weights);
  std::unique_ptr<Program> program;
  const auto parse_with = [&](size_t max_working_bytes) {
    return parse({c.program.data(), c.program.size()}, c.split, weights.tensors, max_working_bytes, &program);
  };
  if (const Status s = parse_with(kMaxWorkingBytes); !s.ok()) fail(c.name + ": refused", s.message);
  if (const int64_t needed = program->working_bytes(); needed > 0) {
    program.reset();
    if (const Status s = parse_with(needed - 1); s.code != Status::kNoMemory) fail("a limit was ignored", s.message);
  }
  program.reset();
  for (long n = 0;; ++n) {
    allocations_left = n;
    const Status s = parse_with(kMaxWorkingBytes);
    allocations_left = -1;
    if (s.ok()) return;
    if (s.code != Status::kNoMemory || program != nullptr) fail("a failed allocation was not reported", s.message);
  }
}

// The items in the reverse order, on one thread.
void backwards(void*, int64_t n, void (*task)(void*, int64_t), void* context) {
  while (n > 0) task(context, --n);
}

// Parses and runs. With `outputs` the case is valid: it must work, and its outputs are appended there.
void exercise(const Case& c, const Setting& setting, Random& random, Counts* counts, std::vector<Bytes>* outputs) {
  const bool valid = outputs != nullptr;
  setenv("BLOCKFFN_KERNELS", setting.kernels, 1);
  Exact weights(c.weights);
  std::unique_ptr<Program> program;
  {
    const Exact blob({c.program});  // freed before the run, as ExecuTorch does
    const Status status = parse(blob.tensors[0], c.split, weights.tensors, kMaxWorkingBytes, &program);
    if (!status.ok()) {
      if (valid) fail(c.name + ": a valid program was refused", status.message);
      if (*status.message == 0) fail("a program was refused without a sentence", "");
      return;
    }
  }
  ++counts->parsed;
  program->set_all_experts(setting.all_experts);
  for (const Step& step : c.steps) {
    // Damaged programs also meet other chunk sizes and, sometimes, random integers.
    const int tokens =
        valid || below(random, 4) != 0 ? static_cast<int>(step.tokens) : 1 + static_cast<int>(below(random, 64));
    const bool garbage = !valid && below(random, 8) == 0;
    std::vector<Bytes> buffers;
    size_t total = 0;
    const auto buffer = [&](const blockffn::Value& v) {
      const size_t bytes = v.elements(tokens) * (v.dtype == blockffn::DType::kInt64 ? 8 : 4);
      total += bytes;
      buffers.emplace_back(total > kMaxTensorBytes ? 0 : bytes);
    };
    for (int i = 0; i < program->input_count(); ++i) {
      buffer(program->input(i));
      Bytes& b = buffers.back();
      if (static_cast<size_t>(i) < step.inputs.size())
        std::copy_n(step.inputs[i].begin(), std::min(b.size(), step.inputs[i].size()), b.begin());
      if (garbage)
        for (uint8_t& byte : b) byte = below(random, 3) == 0 ? static_cast<uint8_t>(random()) : byte;
    }
    for (int i = 0; i < program->output_count(); ++i) buffer(program->output(i));
    if (total > kMaxTensorBytes) {
      ++counts->steps_skipped;
      continue;
    }
    const auto inputs = static_cast<size_t>(program->input_count());
    for (size_t i = 0; i < buffers.size(); ++i)
      i < inputs ? program->bind_input(static_cast<int>(i), buffers[i].data())
                 : program->bind_output(static_cast<int>(i - inputs), buffers[i].data());
    blockffn::ReadStats stats;
    const Status status = program->run(tokens, {backwards, nullptr, setting.threads}, {}, &stats);
    ++(status.ok() ? counts->steps_ok : counts->steps_refused);
    if (!valid) continue;
    if (!status.ok()) fail(c.name + ": a valid step was refused", status.message);
    outputs->insert(outputs->end(), buffers.begin() + static_cast<ptrdiff_t>(inputs), buffers.end());
  }
}

// The names of the kernels that this processor runs.
std::vector<const char*> kernel_names() {
  std::vector<const char*> names;
  bool supported = false;
  for (int i = 0; const blockffn::Kernels* kernels = blockffn::kernels_variant(i, &supported); ++i)
    if (supported) names.push_back(kernels->name);
  return names;
}

// What a case gives must not depend on how its work is cut, nor on the experts that are computed for nothing.
void check_valid(const Case& c, const std::vector<const char*>& kernels, Random& random, Counts* counts) {
  for (const char* name : kernels) {
    std::vector<Bytes> plain, other;
    exercise(c, {name}, random, counts, &plain);
    for (const bool all_experts : {false, true})
      for (const int threads : {2, 7, 64}) {
        other.clear();
        exercise(c, {name, threads, all_experts}, random, counts, &other);
        if (other != plain) fail(c.name + ": the outputs depend on how the work is cut", name);
      }
  }
  exhaust_memory(c);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: blockffn_fuzz SEEDS MUTATIONS RANDOM_SEED\n");
    return 2;
  }
  std::vector<Case> cases;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    if (entry.path().extension() != ".program") continue;
    auto base = entry.path();
    const auto with = [&](const char* extension) { return read_file(base.replace_extension(extension)); };
    const Case whole{base.stem(), with(".program"), {with(".weights")}, false, parse_steps(with(".steps"))};
    cases.push_back(whole);
    cases.push_back(split(whole));
  }
  std::sort(cases.begin(), cases.end(), [](const Case& a, const Case& b) { return a.name < b.name; });
  if (cases.empty()) {
    std::fprintf(stderr, "no cases in %s\n", argv[1]);
    return 2;
  }
  const long mutations = std::atol(argv[2]);
  Random random(std::strtoull(argv[3], nullptr, 10));
  const std::vector<const char*> kernels = kernel_names();
  Counts valid, counts;
  for (const Case& c : cases) check_valid(c, kernels, random, &valid);
  for (long i = 0; i < mutations; ++i) {
    const Case& other = cases[below(random, cases.size())];
    Case c = cases[below(random, cases.size())];
    if (below(random, 16) == 0) c.weights = other.weights;  // mislabelled
    const size_t target = below(random, 8);                 // 0..3 program, 4..6 weights, 7 both
    for (size_t n = 1 + below(random, 4); n > 0; --n) {
      if (target < 4 || target == 7) mutate_once(random, c.program, other.program);
      if (target >= 4 && !c.weights.empty())
        mutate_once(random, c.weights[below(random, c.weights.size())], other.program);
    }
    const Setting setting{kernels[below(random, kernels.size())], 1 + static_cast<int>(below(random, 9)),
                          below(random, 4) == 0};
    exercise(c, setting, random, &counts, nullptr);
  }
  std::printf(
      "{\"cases\": %zu, \"mutations\": %ld, \"parsed\": %ld, \"steps_ok\": %ld, \"steps_refused\": %ld, "
      "\"steps_skipped\": %ld}\n",
      cases.size(), mutations, counts.parsed, counts.steps_ok, counts.steps_refused, counts.steps_skipped);
  return 0;
}
