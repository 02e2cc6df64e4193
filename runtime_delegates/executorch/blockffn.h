/* C interface of the BlockFFN backend library. Every function may be called from any thread.
   A loaded method owns its key/value caches and its scratch memory: different methods may run in
   different threads at once (they take turns on ExecuTorch's pool), but one method in one at a time. */
#ifndef BLOCKFFN_H
#define BLOCKFFN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BLOCKFFN_API __attribute__((visibility("default")))

/* Registers "BlockFFNBackend" with ExecuTorch; 0 if it is registered, also when it was before. */
BLOCKFFN_API int blockffn_register_backend(void);

/* Name of the kernels that the next loaded program uses, for example "avx512_vnni": the best that the
   processor runs, or those that the environment variable BLOCKFFN_KERNELS names. Null, with a
   blockffn_last_error, if it names none that can run. */
BLOCKFFN_API const char* blockffn_kernels(void);

/* Number i of the kernels in this library, best first: 1 if the processor runs them, 0 if not, -1 past
   the last. */
BLOCKFFN_API int blockffn_variant(int i, const char** name);

/* Sentence for this thread's last error since the previous call of this function; empty if there was
   none, for example because ExecuTorch refused an input before the backend saw it. */
BLOCKFFN_API const char* blockffn_last_error(void);

/* Sets the size of ExecuTorch's shared pool, 1 to 1024. Not while a program runs. 0 on success. A process that was
   forked after this library had loaded a program has no pool: it runs on one thread. */
BLOCKFFN_API int blockffn_set_threads(int threads);

/* Threads that pay on this machine: the fast cores among those that the process may use. */
BLOCKFFN_API int blockffn_default_threads(void);

/* Device of the program that this thread loaded last: "cpu", "gpu NAME", or "cpu: " and why the GPU that the environment
   variable BLOCKFFN_DEVICE (cpu, gpu or auto) or the runtime spec `device` asked for is not used. Where
   BLOCKFFN_GPU_ARITHMETIC or the runtime spec `gpu_arithmetic` is fp16, NAME is followed by ", fp16 arithmetic", or by
   ", fp32 arithmetic: " and why. */
BLOCKFFN_API const char* blockffn_device(void);

/* The GPU of this machine that a program would run on, or "none: " and why. */
BLOCKFFN_API const char* blockffn_gpu(void);

/* Device of the programs that this thread loads from now on: cpu, gpu or auto (copied), before what BLOCKFFN_DEVICE
   says; null: as BLOCKFFN_DEVICE says. */
BLOCKFFN_API void blockffn_set_device(const char* device);

/* [data, data + bytes) lies in one mapping of a file, with all pages that it touches, and stays mapped until
   blockffn_unmapped(data): a GPU that shares the CPU's memory reads the weights of programs loaded from there where they
   lie. Those programs are destroyed first. */
BLOCKFFN_API void blockffn_mapped(const void* data, size_t bytes);
BLOCKFFN_API void blockffn_unmapped(const void* data);

/* Whether this thread's delegate calls from now on read and compute all experts (1) or only those that the chunk uses
   (0, as at first): dense beside sparse on one program. The output is the same to the bit, so the context stays valid,
   unless an inactive expert overflows. A program loaded under BLOCKFFN_EXPERTS=all (active or all), or with the
   runtime spec `experts`, always computes all. On the CPU only: a program on the GPU refuses. */
BLOCKFFN_API void blockffn_all_experts(int all);

/* What the delegates of this process read since the last call. experts_read / experts_total is the
   share of the experts' weights that was read. */
typedef struct {
  int64_t calls, tokens, ffn_calls, experts_read, experts_total;
} blockffn_stats;
BLOCKFFN_API void blockffn_take_stats(blockffn_stats* out);

/* The same for this thread's last delegate call alone, whatever other threads run; zeros after one that
   failed, and when asked again. */
BLOCKFFN_API void blockffn_last_call(blockffn_stats* out);

#ifdef __cplusplus
}
#endif
#endif
