#include "model.h"

#include <executorch/extension/data_loader/mmap_data_loader.h>
#include <executorch/extension/memory_allocator/malloc_memory_allocator.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/platform/runtime.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace et = executorch::runtime;
using executorch::aten::ScalarType;
using executorch::extension::MallocMemoryAllocator;
using executorch::extension::MmapDataLoader;

namespace blockffn::runner {
namespace {

constexpr int64_t kFormatVersion = 1;  // of the programs that this runner runs
constexpr int64_t kMaxVocab = 1 << 24;

std::string code_text(et::Error error) {
  char text[32];
  std::snprintf(text, sizeof text, "ExecuTorch error 0x%x", static_cast<unsigned>(error));
  return text;
}

// Why the file cannot be a whole program, or "". ExecuTorch maps the file, so a segment beyond its end
// would kill the process.
std::string check_file(const char* path) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "rb"), std::fclose);
  if (file == nullptr) return std::string(std::strerror(errno)) + "; name a .pte file";
  uint8_t head[48];
  if (std::fread(head, 1, sizeof head, file.get()) < sizeof head || std::memcmp(head + 4, "ET12", 4) != 0)
    return "not an ExecuTorch program; name a .pte file written by export/to_executorch.py";
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
  if (std::fseek(file.get(), 0, SEEK_END) != 0) return "cannot be read";
  const auto size = static_cast<uint64_t>(std::ftell(file.get()));
  if (size < end) return "truncated, " + std::to_string(size) + " of " + std::to_string(end) + " bytes; copy or export it again";
  return "";
}

}  // namespace

struct Model::File {
  MmapDataLoader loader;
  std::unique_ptr<et::Program> program;
  explicit File(MmapDataLoader&& from) : loader(std::move(from)) {}
};

// A method with the memory that it runs in.
struct Model::Loaded {
  MallocMemoryAllocator method_memory, temporary_memory;
  std::vector<std::unique_ptr<uint8_t[]>> planned;
  std::vector<et::Span<uint8_t>> spans;
  std::unique_ptr<et::HierarchicalAllocator> hierarchy;
  std::unique_ptr<et::MemoryManager> manager;
  std::unique_ptr<et::Method> method;
};

void Model::bad_program(const std::string& why) const { throw Failure{BLOCKFFN_BAD_PROGRAM, path_ + ": " + why}; }

Model::Model(const std::string& path) : path_(path) {
  et::runtime_init();
  blockffn_register_backend();  // if another copy is registered already, that one will do
  if (const std::string problem = check_file(path.c_str()); !problem.empty()) bad_program(problem);
  // Not locked: experts that no token needs are then never read from storage.
  auto loader = MmapDataLoader::from(path.c_str(), MmapDataLoader::MlockConfig::NoMlock);
  if (!loader.ok()) bad_program("cannot be mapped (" + code_text(loader.error()) + ")");
  file_ = std::make_unique<File>(std::move(loader.get()));
  auto program = et::Program::load(&file_->loader, et::Program::Verification::InternalConsistency);
  if (!program.ok())
    bad_program("ExecuTorch cannot load this program, it is damaged or needs another version (" +
                code_text(program.error()) + "); export it again");
  file_->program = std::make_unique<et::Program>(std::move(program.get()));
  if (!file_->program->method_meta("forward").ok() || !file_->program->method_meta("get_blockffn_format_version").ok())
    bad_program("not exported by export/to_executorch.py (it lacks our metadata); export the checkpoint with that command");
  const auto one = [&](const char* name) {
    const auto values = constant(name);
    if (values.size() != 1) bad_program(std::string(name) + " is damaged; export it again");
    return values[0];
  };
  if (const int64_t version = one("get_blockffn_format_version"); version != kFormatVersion)
    bad_program("format version " + std::to_string(version) + ", this runner runs version " +
                std::to_string(kFormatVersion) + "; export the checkpoint again");
  max_context_ = one("get_max_context_len");
  const int64_t vocab = one("get_vocab_size"), bos = one("get_bos_id");
  if (one("get_max_seq_len") != kMaxRows || max_context_ < 1 || vocab < 1 || vocab > kMaxVocab || bos >= vocab)
    bad_program("its metadata are damaged; export it again");
  vocab_size_ = static_cast<int32_t>(vocab);
  bos_id_ = bos < 0 ? -1 : static_cast<int32_t>(bos);
  for (const int64_t id : constant("get_eos_ids"))
    if (id >= 0 && id < vocab) eos_ids_.push_back(static_cast<int32_t>(id));
  forward_ = load_method("forward");
  const auto meta = forward_->method->method_meta();
  if (meta.num_inputs() != 6 || meta.num_outputs() != 2) bad_program("forward has other inputs or outputs; export it again");
  const auto logits = meta.output_tensor_meta(0), hidden = meta.output_tensor_meta(1);
  if (!logits.ok() || !hidden.ok() || logits->sizes().size() != 3 || hidden->sizes().size() != 3 ||
      logits->sizes()[2] != vocab || logits->scalar_type() != ScalarType::Float)
    bad_program("forward's outputs do not match its metadata; export it again");
  hidden_size_ = hidden->sizes()[2];
}

Model::~Model() {
  forward_.reset();  // before the program that it points into
}

std::unique_ptr<Model::Loaded> Model::load_method(const char* name) {
  auto loaded = std::make_unique<Loaded>();
  const auto meta = file_->program->method_meta(name);
  if (!meta.ok()) bad_program(std::string("it has no ") + name + "; export it again");
  for (size_t i = 0; i < meta->num_memory_planned_buffers(); ++i) {
    const auto bytes = meta->memory_planned_buffer_size(i);
    if (!bytes.ok() || *bytes < 0 || *bytes > (int64_t{1} << 36)) bad_program("its memory plan is damaged; export it again");
    loaded->planned.emplace_back(new uint8_t[static_cast<size_t>(*bytes)]);
    loaded->spans.emplace_back(loaded->planned.back().get(), static_cast<size_t>(*bytes));
  }
  loaded->hierarchy = std::make_unique<et::HierarchicalAllocator>(
      et::Span<et::Span<uint8_t>>(loaded->spans.data(), loaded->spans.size()));
  loaded->manager =
      std::make_unique<et::MemoryManager>(&loaded->method_memory, loaded->hierarchy.get(), &loaded->temporary_memory);
  blockffn_last_error();
  auto method = file_->program->load_method(name, loaded->manager.get());
  if (!method.ok()) {
    const char* reason = blockffn_last_error();
    bad_program(std::string("cannot load ") + name + " (" + (*reason ? reason : code_text(method.error())) + "); export it again");
  }
  loaded->method = std::make_unique<et::Method>(std::move(method.get()));
  return loaded;
}

std::vector<int64_t> Model::constant(const char* name) {
  auto loaded = load_method(name);
  if (loaded->method->execute() != et::Error::Ok) bad_program(std::string("cannot read ") + name + "; export it again");
  std::vector<int64_t> values;
  for (size_t i = 0; i < loaded->method->outputs_size(); ++i) {
    const auto& value = loaded->method->get_output(i);
    if (value.isInt()) {
      values.push_back(value.toInt());
    } else if (value.isBool()) {
      values.push_back(value.toBool());
    } else if (value.isTensor() && value.toTensor().scalar_type() == ScalarType::Long) {
      const auto& tensor = value.toTensor();
      values.insert(values.end(), tensor.const_data_ptr<int64_t>(), tensor.const_data_ptr<int64_t>() + tensor.numel());
    } else {
      bad_program(std::string(name) + " is damaged; export it again");
    }
  }
  return values;
}

const float* Model::step(Chunk* chunk, blockffn_stats* read) {
  using executorch::aten::TensorImpl;
  using Dim = executorch::aten::DimOrderType;
  using Size = executorch::aten::SizesType;
  using Stride = executorch::aten::StridesType;
  et::Method& method = *forward_->method;
  struct Input {
    int64_t* data;
    Size size;
  };
  const auto tokens = static_cast<Size>(chunk->tokens);
  const Input inputs[6] = {{chunk->ids, tokens},       {chunk->positions, tokens},    {&chunk->n_past, 1},
                           {chunk->tree_mask, tokens}, {chunk->kv_src, kMaxRows}, {&chunk->logits_start, 1}};
  et::Error error = et::Error::Ok;
  for (size_t i = 0; i < 6 && error == et::Error::Ok; ++i) {
    Size sizes[2] = {1, inputs[i].size};
    Stride strides[2] = {static_cast<Stride>(inputs[i].size), 1};
    Dim order[2] = {0, 1};
    const int skip = i == 0 ? 0 : 1;  // the ids alone have a batch dimension
    TensorImpl impl(ScalarType::Long, 2 - skip, sizes + skip, inputs[i].data, order, strides + skip);
    error = method.set_input(executorch::aten::Tensor(&impl), i);
  }
  blockffn_last_error();
  if (error == et::Error::Ok) error = method.execute();
  blockffn_last_call(read);
  if (error != et::Error::Ok) {
    const char* reason = blockffn_last_error();
    throw Failure{BLOCKFFN_FAILED, std::string("the program failed: ") + (*reason ? reason : code_text(error))};
  }
  const auto& logits = method.get_output(0).toTensor();
  if (logits.numel() != static_cast<ssize_t>(chunk->tokens) * vocab_size_)
    throw Failure{BLOCKFFN_FAILED, "the program gave logits of another shape; export it again"};
  return logits.const_data_ptr<float>();
}

}  // namespace blockffn::runner
