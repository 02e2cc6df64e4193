// A Metal for blockffn_set_metal that runs the kernels of a library made by tests/gpu/test_metal.py (metal_on_cpu.h),
// one command after the other: what metal.cc asks of an app, without an app. Barriers have nothing to do here.
#pragma once
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "../../runtime_delegates/gpu/blockffn_metal.h"

namespace metal_lender {

using Run = int (*)(void**, const uint32_t*);

inline uint8_t* at(const blockffn_metal_place& place) { return static_cast<uint8_t*>(place.buffer) + place.offset; }

inline void* make_buffer(void*, uint64_t bytes, void** contents) {
  return *contents = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
}

inline void* make_pipeline(void* library, const char*, const char* name, uint32_t threads, uint32_t tokens,
                           char* sentence, size_t sentence_bytes) {
  const std::string symbol =
      std::string("run_") + name + "_" + std::to_string(threads) + "_" + std::to_string(tokens);
  void* run = dlsym(library, symbol.c_str());
  if (run == nullptr) std::snprintf(sentence, sentence_bytes, "there is no kernel %s", symbol.c_str());
  // Pipelines are released like buffers.
  return run == nullptr ? nullptr : new (std::malloc(sizeof(void*))) void*(run);
}

inline int run(void*, const blockffn_metal_command* commands, size_t count, char* sentence, size_t sentence_bytes) {
  for (const auto* c = commands; c != commands + count; ++c) {
    if (c->kind == BLOCKFFN_METAL_CLEAR) std::memset(at(c->to), 0, c->bytes);
    if (c->kind == BLOCKFFN_METAL_COPY) std::memcpy(at(c->to), at(c->from), c->bytes);
    if (c->kind != BLOCKFFN_METAL_DISPATCH) continue;
    void* buffers[1 + BLOCKFFN_METAL_BINDINGS] = {const_cast<void*>(c->push)};
    for (int b = 0; b < BLOCKFFN_METAL_BINDINGS; ++b) buffers[1 + b] = at(c->bindings[b]);
    const auto* groups = c->from.buffer != nullptr ? reinterpret_cast<const uint32_t*>(at(c->from)) : c->groups;
    if ((*static_cast<Run*>(c->pipeline))(buffers, groups) == 0) continue;
    std::snprintf(sentence, sentence_bytes, "threads part before a barrier");
    return 1;
  }
  return 0;
}

inline bool lend(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return false;
  const blockffn_metal metal = {library,     "lender",      "1",   uint64_t{1} << 30, 1024, 32768,
                                make_buffer, nullptr, make_pipeline, std::free, run};
  blockffn_set_metal(&metal);
  return true;
}

}  // namespace metal_lender
