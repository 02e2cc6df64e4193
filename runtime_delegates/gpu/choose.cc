#include "choose.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "step.h"

namespace blockffn::gpu {
namespace {

// Milliseconds of a step of 1, 8, 32 and 64 tokens that begins a text.
struct Times {
  double of[4] = {};
  double estimate() const { return 4 * of[3] + 64 * of[0] + 16 * of[1]; }
};
constexpr int kSizes[4] = {1, 8, 32, 64};

bool is_attention(const Op& op) { return op.code == Opcode::kMlaAttention || op.code == Opcode::kGqaAttention; }

Status measure(Program& program, const Parallel& parallel, Times* times) {
  // Every input that is not one of the chunk's may be zero.
  const auto& values = program.values();
  std::vector<std::vector<int64_t>> buffers(values.size());
  std::vector<std::vector<float>> outputs(static_cast<size_t>(program.output_count()));
  for (uint32_t id : program.inputs()) buffers[id].assign(values[id].elements(kMaxTokens), 0);
  for (const Op& op : program.ops()) {
    if (!is_attention(op)) continue;
    const size_t n = op.code == Opcode::kMlaAttention ? 11 : 10;  // positions, n_past, tree_mask and kv_src end here
    for (int t = 0; t < kMaxTokens; ++t) {
      buffers[static_cast<size_t>(op.args[n - 4])][static_cast<size_t>(t)] = t;
      buffers[static_cast<size_t>(op.args[n - 2])][static_cast<size_t>(t)] = t < 63 ? (int64_t{1} << (t + 1)) - 1 : -1;
      buffers[static_cast<size_t>(op.args[n - 1])][static_cast<size_t>(t)] = -1;
    }
  }
  for (int i = 0; i < program.input_count(); ++i)
    program.bind_input(i, buffers[program.inputs()[static_cast<size_t>(i)]].data());
  for (int i = 0; i < program.output_count(); ++i) {
    outputs[static_cast<size_t>(i)].resize(program.output(i).elements(kMaxTokens));
    program.bind_output(i, outputs[static_cast<size_t>(i)].data());
  }
  Status status = kStatusOk;
  for (int i = 0; i < 4 && status.ok(); ++i) {
    times->of[i] = 1e30;
    for (int repeat = 0; repeat < 3 && status.ok(); ++repeat) {  // the first one also compiles, or reads from the file
      ReadStats stats;
      const auto start = std::chrono::steady_clock::now();
      status = program.run(kSizes[i], parallel, {}, &stats);
      times->of[i] = std::min(
          times->of[i], std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    }
  }
  program.forget();
  return status;
}

constexpr Status kNoHalf{Status::kInvalidArgument, "this GPU does not multiply in float16"};

Status parse(const char* wanted, Arithmetic* out) {
  *out = wanted != nullptr && std::strcmp(wanted, "fp16") == 0 ? Arithmetic::kFp16 : Arithmetic::kFp32;
  if (wanted == nullptr || *wanted == '\0' || std::strcmp(wanted, arithmetic_name(*out)) == 0) return kStatusOk;
  return {Status::kInvalidArgument,
          "the GPU's arithmetic must be fp32 or fp16 (BLOCKFFN_GPU_ARITHMETIC, or the runtime spec `gpu_arithmetic`)"};
}

// Behind a GPU's name: nothing for what runs if nobody asks.
std::string said(Arithmetic wanted, const Status& half) {
  if (wanted == Arithmetic::kFp32) return "";
  return half.ok() ? ", fp16 arithmetic" : std::string(", fp32 arithmetic: ") + half.message;
}

}  // namespace

std::string describe_gpu(bool cpu_too, const char* wanted_arithmetic) {
  std::shared_ptr<Device> device;
  if (const Status s = Device::shared(cpu_too, &device); !s.ok()) return std::string("none: ") + s.message;
  Arithmetic arithmetic;
  if (const Status s = parse(wanted_arithmetic, &arithmetic); !s.ok()) return std::string("none: ") + s.message;
  return device->name() + said(arithmetic, device->limits().half ? kStatusOk : kNoHalf);
}

Status choose_device(const char* wanted, const char* wanted_arithmetic, const Parallel& parallel, Program* program,
                     std::string* report) {
  *report = "cpu";
  Arithmetic arithmetic;
  if (const Status s = parse(wanted_arithmetic, &arithmetic); !s.ok()) return s;
  if (wanted == nullptr || *wanted == '\0' || std::strcmp(wanted, "cpu") == 0) return kStatusOk;
  const bool automatic = std::strcmp(wanted, "auto") == 0, cpu_too = !automatic;
  if (!automatic && std::strcmp(wanted, "gpu") != 0)
    return {Status::kInvalidArgument,
            "the device must be cpu, gpu or auto (BLOCKFFN_DEVICE, or the runtime spec `device`)"};
  const auto stay = [&](const char* why) {
    *report = std::string("cpu: ") + why;
    return kStatusOk;
  };
  std::unique_ptr<Step> step;
  bool used[3] = {};
  for (const Value& v : program->values()) {
    if (v.dtype == DType::kMatrix) used[static_cast<int>(v.matrix.quant)] = true;
    if (v.dtype == DType::kFfn) used[static_cast<int>(v.ffn.quant)] = true;
  }
  std::shared_ptr<Device> device;
  if (const Status s = Device::shared(cpu_too, &device); !s.ok()) return stay(s.message);
  const auto trusted_in = [&](Arithmetic a) {
    for (int q = 0; q < 3; ++q)
      if (used[q])
        if (const Status s = trusted(cpu_too, static_cast<Quant>(q), a); !s.ok()) return s;
    return kStatusOk;
  };
  // The passes of float32 are part of either program.
  if (const Status s = trusted_in(Arithmetic::kFp32); !s.ok()) return stay(s.message);
  Status half = kStatusOk;
  if (arithmetic == Arithmetic::kFp16) half = device->limits().half ? trusted_in(arithmetic) : kNoHalf;
  if (half.code == Status::kLost || half.code == Status::kNoMemory) return stay(half.message);
  Times cpu, gpu;
  if (automatic)
    if (const Status s = measure(*program, parallel, &cpu); !s.ok())
      return stay("the program cannot be timed without an input of its own");
  StepOptions options;
  options.cpu_too = cpu_too;
  options.arithmetic = half.ok() ? arithmetic : Arithmetic::kFp32;
  if (const Status s = Step::create(*program, options, &step); !s.ok()) return stay(s.message);
  const std::string name = step->name() + said(arithmetic, half);
  program->set_accelerator(std::move(step));
  if (!automatic) {
    *report = "gpu " + name;
    return kStatusOk;
  }
  const Status s = measure(*program, parallel, &gpu);
  const bool faster = s.ok() && program->accelerator() != nullptr && gpu.estimate() < cpu.estimate();
  if (!faster) program->take_accelerator();
  char text[256];
  std::snprintf(text, sizeof text, "%s (ms for 1, 8, 32, 64 tokens: cpu %.2f %.2f %.2f %.2f, gpu %.2f %.2f %.2f %.2f)",
                faster   ? ("gpu " + name).c_str()
                : s.ok() ? "cpu: it is faster here"
                         : s.message,
                cpu.of[0], cpu.of[1], cpu.of[2], cpu.of[3], gpu.of[0], gpu.of[1], gpu.of[2], gpu.of[3]);
  *report = text;
  return kStatusOk;
}

}  // namespace blockffn::gpu
