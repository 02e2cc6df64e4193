// A host of ONNX Runtime in C++, as an application on a phone has it: loads a model, registers the operators, runs
// chunks with the caches bound in place, and writes the logits and hidden states.
//
//   host RUNTIME.so MODEL.onnx REGISTER OUTPUT < steps
//
// REGISTER  a path: an operator library, loaded by the runtime; "call": RegisterCustomOps is linked in and called;
//           "name": it is linked in and the runtime looks its name up, as bindings with a function's name or address do.
// steps     per step: T, the ids, the positions, n_past, the masks, 64 rows of kv_src, logits_start
// OUTPUT    per step: logits [T, V], hidden [T, D], float32
// The interface is declared by hand, slot by slot, as in runtime_delegates/onnxruntime/ort_abi.h.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "ort_abi.h"

#ifdef LINKED_IN
extern "C" OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base);
#endif

namespace {

const OrtApi* table;

template <class... A>
OrtStatus* call(size_t slot, A... arguments) {
  return reinterpret_cast<OrtStatus* (*)(A...)>(const_cast<void*>(table[slot]))(arguments...);
}

void check(OrtStatus* status) {
  if (status == nullptr) return;
  std::fprintf(stderr, "%s\n", reinterpret_cast<const char* (*)(OrtStatus*)>(const_cast<void*>(table[2]))(status));
  std::exit(1);
}

struct Named {
  std::string name;
  std::vector<int64_t> dims;
};

// Names and shapes of the inputs (count slot 30, name 36, type 33) or outputs (31, 37, 34).
std::vector<Named> described(void* session, void* allocator, bool inputs) {
  size_t count = 0;
  check(call(inputs ? 30 : 31, session, &count));
  std::vector<Named> found(count);
  for (size_t i = 0; i < count; ++i) {
    char* name = nullptr;
    void* type = nullptr;
    const void* shape = nullptr;
    size_t rank = 0;
    check(call(inputs ? 36 : 37, session, i, allocator, &name));
    check(call(inputs ? 33 : 34, session, i, &type));
    check(call(55, static_cast<const void*>(type), &shape));
    check(call(61, shape, &rank));
    found[i].name = name;
    found[i].dims.resize(rank);
    check(call(62, shape, found[i].dims.data(), rank));
  }
  return found;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  void* runtime = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
  if (runtime == nullptr) return std::fprintf(stderr, "%s\n", dlerror()), 1;
  const auto base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(runtime, "OrtGetApiBase"))();
  table = base->get_api(blockffn::ort::kApiVersion);
  const std::string how = argv[3];
  void *env = nullptr, *session = nullptr, *allocator = nullptr, *memory = nullptr;
  OrtSessionOptions* options = nullptr;
  check(call(3, 4, "host", &env));  // errors are reported by status
  check(call(10, &options));
  check(call(24, options, 2));
  if (how == "name") {
    check(call(229, options, "RegisterCustomOps"));
  } else if (how == "call") {
#ifdef LINKED_IN
    check(RegisterCustomOps(options, base));
#else
    return 2;
#endif
  } else {
    check(call(228, options, how.c_str()));
  }
  check(call(7, env, static_cast<const char*>(argv[2]), options, &session));
  check(call(78, &allocator));
  check(call(69, 0, 0, &memory));

  const auto inputs = described(session, allocator, true), outputs = described(session, allocator, false);
  std::vector<const char*> input_names, output_names;
  for (const auto& input : inputs) input_names.push_back(input.name.c_str());
  for (const auto& output : outputs) output_names.push_back(output.name.c_str());
  std::vector<std::vector<float>> caches(inputs.size());
  const auto tensor = [&](void* data, size_t bytes, const std::vector<int64_t>& dims, int type) {
    OrtValue* value = nullptr;
    check(call(49, memory, data, bytes, dims.data(), dims.size(), type, &value));
    return value;
  };
  std::ofstream out(argv[4], std::ios::binary);
  int64_t T = 0;
  while (std::cin >> T) {
    const auto read = [](size_t n) {
      std::vector<int64_t> values(n);
      for (auto& v : values) std::cin >> v;
      return values;
    };
    const auto rows = static_cast<size_t>(T);
    std::vector<std::vector<int64_t>> fed = {read(rows), read(rows), read(1), read(rows), read(64), read(1)};
    std::vector<OrtValue*> values, results = {nullptr, nullptr};
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (i < fed.size()) {
        auto dims = inputs[i].dims;
        for (auto& d : dims)
          if (d < 0) d = T;
        values.push_back(tensor(fed[i].data(), fed[i].size() * sizeof(int64_t), dims, blockffn::ort::kInt64));
        continue;
      }
      size_t count = 1;
      for (const int64_t d : inputs[i].dims) count *= static_cast<size_t>(d);
      caches[i].resize(count);
      values.push_back(tensor(caches[i].data(), count * sizeof(float), inputs[i].dims, blockffn::ort::kFloat));
      results.push_back(values.back());
    }
    check(call(9, session, static_cast<const void*>(nullptr), input_names.data(), values.data(), values.size(),
               output_names.data(), output_names.size(), results.data()));
    for (int i = 0; i < 2; ++i) {
      const void* info = nullptr;
      size_t count = 0;
      float* data = nullptr;
      check(call(65, results[i], &info));
      check(call(64, info, &count));
      check(call(51, results[i], &data));
      out.write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(count * sizeof(float)));
    }
  }
  std::printf("%s\n", base->version_string());
  return out.flush() ? 0 : 1;
}
