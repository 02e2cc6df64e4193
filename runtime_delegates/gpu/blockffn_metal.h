/* Metal as an app lends it to the library, which itself names nothing of Apple's: BlockFFNKit fills the table in
   (MetalDevice.swift). Everything that differs between programs, passes and chunks stays in the library; the app makes
   buffers and pipelines, and encodes a list of commands. One thread at a time calls these functions. */
#ifndef BLOCKFFN_METAL_H
#define BLOCKFFN_METAL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A buffer and where in it something begins; null: nothing. */
typedef struct {
  void* buffer;
  uint64_t offset;
} blockffn_metal_place;

enum {
  BLOCKFFN_METAL_CLEAR,    /* `bytes` at `to` become zero */
  BLOCKFFN_METAL_COPY,     /* `bytes` from `from` to `to` */
  BLOCKFFN_METAL_BARRIER,  /* what follows sees what was written before; without one, dispatches may overlap */
  BLOCKFFN_METAL_DISPATCH, /* `groups` threadgroups of `threads` threads, or as many as 3 uint32 at `from` say */
  BLOCKFFN_METAL_PUSH_BYTES = 128,
  BLOCKFFN_METAL_BINDINGS = 7
};

typedef struct {
  int32_t kind;
  uint32_t threads, groups[3];
  void* pipeline;
  const void* push;                     /* PUSH_BYTES for the kernel's buffer 0 */
  const blockffn_metal_place* bindings; /* BINDINGS, for its buffers 1 to 7; none is null */
  blockffn_metal_place from, to;
  uint64_t bytes;
} blockffn_metal_command;

/* Functions that fail return null, or a number that is not 0, and leave a sentence (zero-terminated) in sentence[]. */
typedef struct {
  void* context;
  const char *name, *version;   /* of the GPU, and of the system that brings its compiler and driver */
  uint64_t buffer_bytes;        /* of the largest buffer */
  uint32_t threadgroup_threads, threadgroup_bytes; /* the most that a threadgroup may have */
  /* A buffer that GPU and CPU share; the CPU sees it at *contents. */
  void* (*make_buffer)(void* context, uint64_t bytes, void** contents);
  /* A buffer over memory of the CPU, which kernels only read: whole pages of a mapped file, which stay mapped until the
     buffer is released. Null: not possible, and the library copies what is there. The function may be null. */
  void* (*map_buffer)(void* context, const void* start, uint64_t bytes);
  /* Compiles `source` without fast math, with the macros BLOCKFFN_THREADS and BLOCKFFN_TOKENS; `name` is its kernel. */
  void* (*make_pipeline)(void* context, const char* source, const char* name, uint32_t threads, uint32_t tokens,
                         char* sentence, size_t sentence_bytes);
  void (*release)(void* object); /* a buffer or pipeline that nothing uses any more */
  /* Encodes, commits and waits. */
  int (*run)(void* context, const blockffn_metal_command* commands, size_t count, char* sentence,
             size_t sentence_bytes);
} blockffn_metal;

/* From now on device=gpu means this (copied; texts and context have to stay); null: no more. While it is set, Vulkan is
   not used. */
__attribute__((visibility("default"))) void blockffn_set_metal(const blockffn_metal* metal);

#ifdef __cplusplus
}
#endif
#endif
