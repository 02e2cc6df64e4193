/* C interface of the runner: generates text from an exported program, with speculative decoding.

   A runner is one loaded program with its context. One call at a time may run on a runner, except
   blockffn_runner_cancel, which any thread may call at any time; different runners may run in
   different threads. No exception and no abort leaves these functions; a NULL where there must be
   something is BLOCKFFN_BAD_ARGUMENT. Functions that return int return a blockffn_runner_code, and
   blockffn_runner_last_error, called by the same thread, then holds a sentence.

   Greedy output is the same, token for token, in every mode and with every drafter. Sampled output
   follows the model's distribution exactly; with a drafter that draws nothing itself (all but those
   that fill in `draft_probs`) it is even the same, token for token, as without drafting. */
#ifndef BLOCKFFN_RUNNER_H
#define BLOCKFFN_RUNNER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BLOCKFFN_RUNNER_API __attribute__((visibility("default")))

typedef struct blockffn_runner blockffn_runner;

typedef enum {
  BLOCKFFN_OK = 0,
  BLOCKFFN_BAD_ARGUMENT = 1,
  BLOCKFFN_BAD_PROGRAM = 2,  /* a file is missing, damaged, of another version or of another model */
  BLOCKFFN_CONTEXT_FULL = 3, /* the prompt does not fit; nothing has run */
  BLOCKFFN_FAILED = 4,       /* a step failed; the runner stays usable */
  BLOCKFFN_BUSY = 5,         /* another call runs on this runner */
  BLOCKFFN_NO_MEMORY = 6,
} blockffn_runner_code;

/* A file by its path or, where path is NULL, by an open descriptor: for a file inside an APK, or one
   that the system hands over. `bytes` from byte `offset` on; 0 bytes: to the end. Regular files only. They are
   memory-mapped in place, neither read nor copied nor locked in memory; the descriptor may be closed when the
   call returns. A program must start at a multiple of 64 bytes. */
typedef struct {
  const char* path;
  int fd;
  int64_t offset, bytes;
} blockffn_file;

/* NULL on failure, with a sentence in error[error_bytes] and its code in *code (either may be NULL). */
BLOCKFFN_RUNNER_API blockffn_runner* blockffn_runner_load(const blockffn_file* program, char* error, size_t error_bytes,
                                                          int* code);

/* Runs one chunk of a decoder that another runtime holds: inputs and outputs of `forward` (export/README.md), of
   which kv_src has 64 entries; all_experts is 1 where the options ask for all. *logits and *hidden must stay valid until the next call. experts[0] is how many
   experts the chunk read out of experts[1], over all layers; left at zero, they are not counted. 0: done; anything else
   ends the run with an error, and the runner's context then ends before what this step may have touched. */
typedef int (*blockffn_step_fn)(void* user, int32_t tokens, const int64_t* token_ids, const int64_t* positions,
                                int64_t n_past, const int64_t* tree_mask, const int64_t* kv_src, int64_t logits_start,
                                int32_t all_experts, const float** logits, const float** hidden, int64_t experts[2]);
typedef struct {
  blockffn_step_fn step;
  void* user;
  int64_t max_context, vocab_size, hidden_size;
  int64_t fingerprint; /* get_model_fingerprint, which a draft head must name too; 0: no head fits */
  int64_t tokenizer_fingerprint; /* get_tokenizer_fingerprint, which a drafting language model must have too; 0: unknown */
  int32_t bos_id;      /* -1: none */
  int32_t eos_ids[8];  /* then -1 */
} blockffn_steps;
/* As blockffn_runner_load, with the program's place taken by a function: drafters, trees, cost model, sampling and
   text are the same over any runtime. blockffn_runner_info then names no kernels. */
BLOCKFFN_RUNNER_API blockffn_runner* blockffn_runner_load_steps(const blockffn_steps* steps, char* error,
                                                                size_t error_bytes, int* code);
/* tokenizer.json, needed for text: byte-level BPE, or BPE as SentencePiece makes it. tokenizer_config.json
   (or NULL) names the chat template. Another tokenizer than the model's is refused as far as one can see it:
   if it has more tokens than the model. */
BLOCKFFN_RUNNER_API int blockffn_runner_load_tokenizer(blockffn_runner* runner, const blockffn_file* tokenizer_json,
                                                       const blockffn_file* tokenizer_config);
/* A draft model; NULL removes it. Either a draft head, exported by export/to_executorch.py HEAD --target CKPT: one that
   was made for another model (vocabulary, hidden size, weights) is refused. Or a language model, smaller than this one, exported
   as it is: one with another vocabulary or tokenizer is refused. */
BLOCKFFN_RUNNER_API int blockffn_runner_load_draft(blockffn_runner* runner, const blockffn_file* draft_program);
/* NULL is allowed. Not while a call runs on it. */
BLOCKFFN_RUNNER_API void blockffn_runner_free(blockffn_runner* runner);
/* Sentence for the last call that failed on this runner, else "". Valid until the next call. */
BLOCKFFN_RUNNER_API const char* blockffn_runner_last_error(const blockffn_runner* runner);

typedef struct {
  int64_t max_context, vocab_size, hidden_size;
  int32_t bos_id;     /* -1: none */
  int32_t eos_ids[8]; /* then -1 */
  char kernels[32];   /* name of the kernels in use */
  int32_t has_tokenizer, has_draft_head;
  char chat_template[16]; /* "chatml", "minicpm", "llama3"; "": none, or none that this runner knows */
} blockffn_runner_info;
BLOCKFFN_RUNNER_API void blockffn_runner_get_info(const blockffn_runner* runner, blockffn_runner_info* out);

typedef enum {
  BLOCKFFN_PLAIN = 0, /* one token a cycle */
  BLOCKFFN_SPEC = 1,  /* always verify what the drafter proposes */
  BLOCKFFN_AUTO = 2,  /* choose the chunk by measured times and acceptance; may be plain for a while */
} blockffn_mode;

typedef enum {
  BLOCKFFN_DRAFT_BEST = 0,  /* n-gram look-up, together with the draft model if one is loaded */
  BLOCKFFN_DRAFT_NGRAM = 1, /* what followed the end of the text earlier in it */
  BLOCKFFN_DRAFT_HEAD = 2,  /* the draft model alone */
} blockffn_drafter;

typedef enum {
  BLOCKFFN_EXPERTS_ACTIVE = 0, /* read and compute the experts that a chunk uses */
  BLOCKFFN_EXPERTS_ALL = 1,    /* all of them: the cost of a dense model, for comparisons */
} blockffn_experts;

typedef struct {
  int32_t max_tokens; /* new tokens, at least 1 */
  int32_t mode;
  int32_t drafter;      /* unless blockffn_runner_set_drafter has replaced it */
  int32_t draft_tokens; /* most proposed tokens of a chunk, 1 to 63 */
  int32_t draft_width;  /* most continuations of one token, and tokens of one depth that a head continues (a language
                           model continues one); 1: a chain */
  int32_t draft_depth;  /* most calls of a draft model in one cycle, which is how deep its tree is */
  int32_t experts;      /* may change from run to run: the output is the same to the bit, and so the context
                           stays. All: of ExecuTorch programs on the CPU */
  double temperature;   /* 0: greedy */
  int32_t top_k;        /* 0: off */
  double top_p;         /* 1: off */
  double repetition_penalty; /* 1: off */
  uint64_t seed;
} blockffn_runner_options;
/* Greedy, 256 tokens, mode auto, the best drafter, 31 proposed tokens, width 3, depth 6, active experts. */
BLOCKFFN_RUNNER_API void blockffn_runner_default_options(blockffn_runner_options* out);

/* Receives every new token as it is decided; end-of-text tokens are not reported. Return 0 to go on,
   anything else to end after this token. */
typedef int (*blockffn_token_fn)(void* user, int32_t token);

/* Proposes continuations of context[n], whose last token is row 0 of the chunk. Proposal i becomes row
   i + 1 and continues row parents[i] <= i. At most max_tokens proposals, none deeper than max_depth (a
   child of row 0 has depth 1). Returns how many, or -1 to end the run with an error.
   confidence[i] in [0, 1]: the drafter's own estimate that the token follows its parent (filled with
   0.5 beforehand). Mode auto learns what each confidence is worth, and leaves out rows by it.
   draft_probs[i], for drafters that draw their proposals: the distribution over the vocabulary, double
   [vocab_size], that proposal i was drawn from given its parent and its earlier siblings; valid until
   the next call (NULL beforehand: the proposal is not random). The shape of such a tree must not depend
   on the drawn values, and all of it is verified. */
typedef int (*blockffn_draft_fn)(void* user, const int32_t* context, int64_t n, int32_t max_tokens, int32_t max_depth,
                                 int32_t* tokens, int32_t* parents, float* confidence, const double** draft_probs);
/* Replaces the built-in drafters; NULL brings them back. */
BLOCKFFN_RUNNER_API int blockffn_runner_set_drafter(blockffn_runner* runner, blockffn_draft_fn draft, void* user);

/* Receives every cycle after it has run: the rows of the drafted tree, row 0 first, as tokens, parents (row 0: -1)
   and confidence; flags[i] is the sum of 1 if row i was verified and 2 if it was accepted. For displays and
   measurements; it must not call the runner. */
typedef void (*blockffn_cycle_fn)(void* user, int32_t rows, const int32_t* tokens, const int32_t* parents,
                                  const float* confidence, const uint8_t* flags);
/* NULL: nobody watches. */
BLOCKFFN_RUNNER_API int blockffn_runner_set_observer(blockffn_runner* runner, blockffn_cycle_fn on_cycle, void* user);

/* Continues prompt[n] (n >= 1, bos included where the model has one). The part that equals what the
   context already holds, for example earlier turns, is not computed again. */
BLOCKFFN_RUNNER_API int blockffn_runner_generate(blockffn_runner* runner, const int32_t* prompt, int64_t n,
                                                 const blockffn_runner_options* options, blockffn_token_fn on_token,
                                                 void* user);
/* The ids of a UTF-8 text, after the model's bos if add_bos is not 0. *count is their number, of which the
   first `capacity` are stored. Broken UTF-8 is read as U+FFFD. No special token is recognised in the text. */
BLOCKFFN_RUNNER_API int blockffn_runner_encode(blockffn_runner* runner, const char* utf8, size_t bytes, int add_bos,
                                               int32_t* tokens, int64_t capacity, int64_t* count);

/* Receives text as it is decided: one or more whole UTF-8 characters, not zero-terminated; what may become a
   stop string is held back until it is decided. Return 0 to go on, anything else to end the run. */
typedef int (*blockffn_text_fn)(void* user, const char* utf8, size_t bytes);
/* Continues a text (the model's bos is put before it). The run ends before the first stop string. */
BLOCKFFN_RUNNER_API int blockffn_runner_generate_text(blockffn_runner* runner, const char* prompt, size_t bytes,
                                                      const blockffn_runner_options* options,
                                                      const char* const* stop_strings, int32_t stop_count,
                                                      blockffn_text_fn on_text, void* user);
typedef struct {
  const char* role; /* "system", "user" or "assistant" */
  const char* content; /* zero-terminated UTF-8; special tokens in it are plain text */
} blockffn_message;
/* Answers as the assistant, by the chat template of tokenizer_config.json. Earlier turns are not computed
   again as long as their text stays the same. */
BLOCKFFN_RUNNER_API int blockffn_runner_generate_chat(blockffn_runner* runner, const blockffn_message* messages,
                                                      int32_t count, const blockffn_runner_options* options,
                                                      const char* const* stop_strings, int32_t stop_count,
                                                      blockffn_text_fn on_text, void* user);
/* Ends the running generation within one cycle (or one chunk of the prompt). Without one: no effect. */
BLOCKFFN_RUNNER_API void blockffn_runner_cancel(blockffn_runner* runner);
/* Forgets the context, and what mode auto has measured. */
BLOCKFFN_RUNNER_API int blockffn_runner_reset(blockffn_runner* runner);

typedef enum {
  BLOCKFFN_STOP_NONE = 0, /* nothing has run, or the run failed */
  BLOCKFFN_STOP_END_OF_TEXT = 1,
  BLOCKFFN_STOP_MAX_TOKENS = 2,
  BLOCKFFN_STOP_CALLBACK = 3,
  BLOCKFFN_STOP_CANCELLED = 4,
  BLOCKFFN_STOP_CONTEXT_FULL = 5,
  BLOCKFFN_STOP_STRING = 6,
} blockffn_stop;

/* Of the last run. Index T of an array stands for chunks of T tokens. */
typedef struct {
  int32_t stopped_by;
  int64_t prompt_tokens, reused_tokens, generated_tokens; /* reused: of the prompt, already in the context */
  int64_t cycles, drafted_tokens, accepted_tokens;        /* decoding only; drafted: verified proposals */
  double ttft_ms, prefill_ms, decode_ms;                  /* decode: after the first token, without calibrate */
  double draft_ms, verify_ms, other_ms;                   /* parts of decode_ms; other: sampling, callbacks */
  double calibrate_ms;                                    /* measuring chunk times, in the first run of mode auto */
  int64_t emitted_histogram[65];                          /* [k]: cycles that yielded k tokens */
  int64_t chunks[65], experts_read[65], experts_total[65]; /* decoding; read / total: share of the union */
  int64_t prefill_experts_read, prefill_experts_total;
  double chunk_ms[65]; /* what mode auto expects a chunk of T tokens to take; 0: not measured */
  int64_t peak_rss_bytes; /* of the process, mapped files included */
} blockffn_runner_stats;
BLOCKFFN_RUNNER_API void blockffn_runner_get_stats(const blockffn_runner* runner, blockffn_runner_stats* out);

#ifdef __cplusplus
}
#endif
#endif
