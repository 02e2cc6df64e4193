/* C interface to the runner's parts, each alone and without a program: for tests, and for programs that
   bring their own decoding loop. Every function returns 0, or -1 if an argument is out of range. */
#ifndef BLOCKFFN_RUNNER_PARTS_H
#define BLOCKFFN_RUNNER_PARTS_H

#include "blockffn_runner.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The first n numbers in [0, 1) that a seed gives. */
BLOCKFFN_RUNNER_API int blockffn_parts_uniform(uint64_t seed, int64_t n, double* out);

/* The distribution p[vocab] that the options' sampling settings make of logits[vocab]; the repetition
   penalty applies to seen[n_seen]. */
BLOCKFFN_RUNNER_API int blockffn_parts_distribution(const blockffn_runner_options* options, const float* logits,
                                                    int32_t vocab, const int32_t* seen, int64_t n_seen, double* p);

/* Multi-candidate rejection sampling, `trials` times from one seed. p[vocab] is the target's
   distribution. In each trial: draw_candidates(user, trial, tokens[count], q[count]) fills in the
   candidates, and tokens_out[trial] is the token accepted. */
typedef void (*blockffn_candidates_fn)(void* user, int64_t trial, int32_t* tokens, const double** q);
BLOCKFFN_RUNNER_API int blockffn_parts_accept(const double* p, int32_t vocab, int32_t count, uint64_t seed,
                                              int64_t trials, blockffn_candidates_fn draw_candidates, void* user,
                                              int32_t* tokens_out);

/* Proposals of the n-gram drafter; returns their number, or -1. The arrays hold max_tokens entries. */
BLOCKFFN_RUNNER_API int blockffn_parts_ngram(const int32_t* context, int64_t n, int32_t max_tokens, int32_t max_depth,
                                             int32_t width, int32_t* tokens, int32_t* parents, float* confidence);

/* Which rows of a tree (row 0 without parent; parents[row] < row) the cost model verifies, for chunks
   that take chunk_ms[7] (1, 2, 4 ... 64 tokens), after n_seen observations. */
BLOCKFFN_RUNNER_API int blockffn_parts_choose(const double* chunk_ms, const float* seen_confidence,
                                              const uint8_t* seen_followed, int64_t n_seen, const int32_t* parents,
                                              const float* confidence, int32_t rows, uint8_t* keep);

/* A tokenizer without a program; NULL with a sentence in error. config may be NULL. */
typedef struct blockffn_parts_tokenizer blockffn_parts_tokenizer;
BLOCKFFN_RUNNER_API blockffn_parts_tokenizer* blockffn_parts_tokenizer_load(const blockffn_file* json,
                                                                            const blockffn_file* config, char* error,
                                                                            size_t error_bytes);
BLOCKFFN_RUNNER_API void blockffn_parts_tokenizer_free(blockffn_parts_tokenizer* tokenizer);
BLOCKFFN_RUNNER_API int blockffn_parts_tokenizer_size(const blockffn_parts_tokenizer* tokenizer);
/* Ids of a text, or of a conversation with the name of the chat template; their number, of which the first
   `capacity` are stored, or -1 with a sentence. */
BLOCKFFN_RUNNER_API int64_t blockffn_parts_encode(const blockffn_parts_tokenizer* tokenizer, const char* utf8, size_t bytes,
                                                  int32_t* ids, int64_t capacity);
BLOCKFFN_RUNNER_API int64_t blockffn_parts_chat(const blockffn_parts_tokenizer* tokenizer, const blockffn_message* messages,
                                                int32_t count, int32_t* ids, int64_t capacity, int* add_bos, char* name,
                                                size_t name_bytes, char* error, size_t error_bytes);
/* Text of ids as a run streams it, one call of on_text for every id (also without text) and one at the end. */
BLOCKFFN_RUNNER_API int blockffn_parts_stream(const blockffn_parts_tokenizer* tokenizer, const int32_t* ids, int64_t n,
                                              int at_start, const char* const* stop_strings, int32_t stop_count,
                                              blockffn_text_fn on_text, void* user);

#ifdef __cplusplus
}
#endif
#endif
