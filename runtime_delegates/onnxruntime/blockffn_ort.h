/* C interface of the operator library for ONNX Runtime, beside RegisterCustomOps, which the runtime calls. */
#ifndef BLOCKFFN_ORT_H
#define BLOCKFFN_ORT_H

#include <stdint.h>

#if defined(__GNUC__)
#define BLOCKFFN_ORT_API __attribute__((visibility("default")))
#else
#define BLOCKFFN_ORT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What this thread's last run of a model read, whatever other threads run; zeros after one that failed, and when asked
   again. experts_read / experts_total is the share of the experts' weights that its chunk of `tokens` tokens used, over
   the ffn_calls layers that have experts. Sessions that execute in parallel (ORT_PARALLEL) run elsewhere: zeros. */
typedef struct {
  int64_t calls, tokens, ffn_calls, experts_read, experts_total;
} blockffn_ort_stats;
BLOCKFFN_ORT_API void blockffn_ort_last_call(blockffn_ort_stats* out);

/* Whether this thread's runs from now on read and compute all experts (1) or only those that the chunk uses (0, as at
   first): dense beside sparse on one file. The output is the same to the bit, unless an inactive expert overflows. */
BLOCKFFN_ORT_API void blockffn_ort_all_experts(int all);

#ifdef __cplusplus
}
#endif
#endif /* BLOCKFFN_ORT_H */
