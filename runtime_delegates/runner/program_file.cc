#include "program_file.h"

#include <executorch/extension/data_loader/buffer_data_loader.h>
#include <executorch/extension/memory_allocator/malloc_memory_allocator.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/platform/runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "mapped_file.h"

namespace et = executorch::runtime;
using executorch::aten::ScalarType;
using executorch::extension::MallocMemoryAllocator;

namespace blockffn::runner {
namespace {

constexpr size_t kAlignment = 64;  // of weights inside the file

std::string code_text(et::Error error) {
  char text[32];
  std::snprintf(text, sizeof text, "ExecuTorch error 0x%x", static_cast<unsigned>(error));
  return text;
}

uint32_t crc32(const uint8_t* data, size_t bytes) {
  uint32_t table[256];
  for (uint32_t i = 0; i < 256; ++i) {
    table[i] = i;
    for (int bit = 0; bit < 8; ++bit) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320u : 0);
  }
  uint32_t crc = ~0u;
  for (size_t i = 0; i < bytes; ++i) crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xFF];
  return ~crc;
}

// Our exports end with "BFCHECK1", the bytes of the program's flatbuffer and their CRC-32 (export/lower.py):
// ExecuTorch ends the process when some fields of it are damaged.
constexpr size_t kTrailer = 24;
bool damaged(const MappedFile& file) {
  const uint8_t* trailer = file.data() + file.size() - kTrailer;
  uint64_t bytes, checksum;
  std::memcpy(&bytes, trailer + 8, sizeof bytes);
  std::memcpy(&checksum, trailer + 16, sizeof checksum);
  return std::memcmp(trailer, "BFCHECK1", 8) == 0 && (bytes > file.size() || crc32(file.data(), bytes) != checksum);
}

// Why the bytes cannot be a whole program, or "": ExecuTorch itself does not look for segments that end
// beyond the file.
std::string check(const MappedFile& file) {
  uint8_t head[48];
  if (file.size() >= sizeof head) std::memcpy(head, file.data(), sizeof head);
  if (file.size() < sizeof head || std::memcmp(head + 4, "ET12", 4) != 0)
    return "not an ExecuTorch program; name a .pte file written by export/to_executorch.py";
  if (reinterpret_cast<uintptr_t>(file.data()) % kAlignment != 0)
    return "it starts at a byte of its container that is no multiple of 64; store it uncompressed and aligned there";
  if (damaged(file)) return "damaged, its checksum differs; copy or export it again";
  if (std::memcmp(head + 8, "eh00", 4) != 0) return "";  // without segments; ExecuTorch verifies the rest
  uint32_t length;
  uint64_t sizes[3];  // program bytes, offset of the segments, bytes of the segments
  std::memcpy(&length, head + 12, sizeof length);
  std::memcpy(sizes, head + 16, sizeof sizes);
  uint64_t end = sizes[0];
  if (length >= 32) {
    if (sizes[1] > UINT64_MAX - sizes[2]) return "its header is damaged; copy or export it again";
    end = std::max(end, sizes[1] + sizes[2]);
  }
  if (file.size() < end || (file.size() > end && file.size() < end + kTrailer))
    return "truncated, " + std::to_string(file.size()) + " of " + std::to_string(end) + " bytes; copy or export it again";
  return "";
}

}  // namespace

struct ProgramFile::Impl {
  MappedFile file;
  std::unique_ptr<executorch::extension::BufferDataLoader> loader;
  std::unique_ptr<et::Program> program;
  Impl(const blockffn_file& from, const char* what) : file(from, what) { blockffn_mapped(file.data(), file.size()); }
  ~Impl() { blockffn_unmapped(file.data()); }
};

struct ProgramFile::Method::State {
  MallocMemoryAllocator method_memory, temporary_memory;
  std::vector<std::unique_ptr<uint8_t[]>> planned;
  std::vector<et::Span<uint8_t>> spans;
  std::unique_ptr<et::HierarchicalAllocator> hierarchy;
  std::unique_ptr<et::MemoryManager> manager;
  std::unique_ptr<et::Method> method;
};

void ProgramFile::bad(const std::string& why) const { throw Failure{BLOCKFFN_BAD_PROGRAM, impl_->file.name() + ": " + why}; }

ProgramFile::ProgramFile(const blockffn_file& file, const char* what) {
  et::runtime_init();
  blockffn_register_backend();  // if another copy is registered already, that one will do
  impl_ = std::make_unique<Impl>(file, what);
  if (const std::string problem = check(impl_->file); !problem.empty()) bad(problem);
  impl_->loader = std::make_unique<executorch::extension::BufferDataLoader>(impl_->file.data(), impl_->file.size());
  auto program = et::Program::load(impl_->loader.get(), et::Program::Verification::InternalConsistency);
  if (!program.ok())
    bad("ExecuTorch cannot load this program, it is damaged or needs another version (" + code_text(program.error()) +
        "); export it again");
  impl_->program = std::make_unique<et::Program>(std::move(program.get()));
}

ProgramFile::~ProgramFile() = default;

bool ProgramFile::has(const char* name) const {
  for (size_t i = 0; i < impl_->program->num_methods(); ++i) {  // method_meta logs an error where there is none
    const auto found = impl_->program->get_method_name(i);
    if (found.ok() && std::strcmp(*found, name) == 0) return impl_->program->method_meta(name).ok();
  }
  return false;
}

std::unique_ptr<ProgramFile::Method> ProgramFile::load(const char* name) {
  auto loaded = std::make_unique<Method>();
  loaded->state_ = std::make_unique<Method::State>();
  Method::State& state = *loaded->state_;
  const auto meta = impl_->program->method_meta(name);
  if (!meta.ok()) bad(std::string("it has no ") + name + "; export it again");
  for (size_t i = 0; i < meta->num_memory_planned_buffers(); ++i) {
    const auto bytes = meta->memory_planned_buffer_size(i);
    if (!bytes.ok() || *bytes < 0 || *bytes > (int64_t{1} << 36)) bad("its memory plan is damaged; export it again");
    state.planned.emplace_back(new uint8_t[static_cast<size_t>(*bytes)]);
    state.spans.emplace_back(state.planned.back().get(), static_cast<size_t>(*bytes));
  }
  state.hierarchy =
      std::make_unique<et::HierarchicalAllocator>(et::Span<et::Span<uint8_t>>(state.spans.data(), state.spans.size()));
  state.manager = std::make_unique<et::MemoryManager>(&state.method_memory, state.hierarchy.get(), &state.temporary_memory);
  blockffn_last_error();
  auto method = impl_->program->load_method(name, state.manager.get());
  if (!method.ok()) {
    const char* reason = blockffn_last_error();
    bad(std::string("cannot load ") + name + " (" + (*reason ? reason : code_text(method.error())) + "); export it again");
  }
  state.method = std::make_unique<et::Method>(std::move(method.get()));
  return loaded;
}

std::vector<int64_t> ProgramFile::constants(const char* name) {
  const auto loaded = load(name);
  et::Method& method = *loaded->state_->method;
  if (method.execute() != et::Error::Ok) bad(std::string("cannot read ") + name + "; export it again");
  std::vector<int64_t> values;
  for (size_t i = 0; i < method.outputs_size(); ++i) {
    const auto& value = method.get_output(i);
    if (value.isInt()) {
      values.push_back(value.toInt());
    } else if (value.isBool()) {
      values.push_back(value.toBool());
    } else if (value.isTensor() && value.toTensor().scalar_type() == ScalarType::Long) {
      const auto& tensor = value.toTensor();
      values.insert(values.end(), tensor.const_data_ptr<int64_t>(), tensor.const_data_ptr<int64_t>() + tensor.numel());
    } else {
      bad(std::string(name) + " is damaged; export it again");
    }
  }
  return values;
}

int64_t ProgramFile::constant(const char* name) {
  const auto values = constants(name);
  if (values.size() != 1) bad(std::string(name) + " is damaged; export it again");
  return values[0];
}

ProgramFile::Method::~Method() = default;
int ProgramFile::Method::inputs() const { return static_cast<int>(state_->method->inputs_size()); }
int ProgramFile::Method::outputs() const { return static_cast<int>(state_->method->outputs_size()); }

std::vector<int64_t> ProgramFile::Method::output_sizes(int i) const {
  const auto meta = state_->method->method_meta().output_tensor_meta(static_cast<size_t>(i));
  if (!meta.ok() || meta->scalar_type() != ScalarType::Float) return {};
  return {meta->sizes().begin(), meta->sizes().end()};
}

void ProgramFile::Method::run(const Tensor* inputs, int count, blockffn_stats* read) {
  using executorch::aten::TensorImpl;
  et::Method& method = *state_->method;
  et::Error error = et::Error::Ok;
  for (int i = 0; i < count && error == et::Error::Ok; ++i) {
    const Tensor& from = inputs[i];
    executorch::aten::SizesType sizes[3];
    executorch::aten::StridesType strides[3];
    executorch::aten::DimOrderType order[3] = {0, 1, 2};
    int32_t stride = 1;
    for (int d = from.rank - 1; d >= 0; --d) sizes[d] = from.sizes[d], strides[d] = stride, stride *= from.sizes[d];
    TensorImpl impl(from.is_float ? ScalarType::Float : ScalarType::Long, from.rank, sizes, const_cast<void*>(from.data), order,
                    strides);
    error = method.set_input(executorch::aten::Tensor(&impl), static_cast<size_t>(i));
  }
  blockffn_last_error();
  if (error == et::Error::Ok) error = method.execute();
  blockffn_last_call(read);
  if (error != et::Error::Ok) {
    const char* reason = blockffn_last_error();
    throw Failure{BLOCKFFN_FAILED, std::string("the program failed: ") + (*reason ? reason : code_text(error))};
  }
}

const float* ProgramFile::Method::output(int i, int64_t count) const {
  const auto& value = state_->method->get_output(static_cast<size_t>(i));
  if (!value.isTensor() || value.toTensor().scalar_type() != ScalarType::Float || value.toTensor().numel() != count)
    throw Failure{BLOCKFFN_FAILED, "the program gave an output of another shape; export it again"};
  return value.toTensor().const_data_ptr<float>();
}

}  // namespace blockffn::runner
