// The contract between the operators (ops.h) and the micro-kernels (one file per instruction set).
//
// Axes: T tokens of a chunk (1..64), N output rows, K input columns, D hidden, E experts, F expert width.
// Weights are tiles of 8 output rows, packed by export/pack.py; packed.h holds their byte layout.
// A micro-kernel only computes: it allocates nothing, starts no thread, logs nothing, and for one
// token does the same arithmetic in the same order whatever the number of tokens in the call. That
// makes a chunk bit-identical to decoding its tokens one by one, which speculative decoding relies on.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace blockffn {

static_assert(sizeof(size_t) == 8, "sizes are checked against 64-bit overflow; 32-bit targets are not supported");

constexpr int kMaxTokens = 64;  // tokens of one chunk; a tree mask is one bit per token
constexpr int kTileRows = 8;    // output rows of one weight tile
constexpr int kGroupCols = 32;  // columns that share one int4 scale
constexpr size_t kAlign = 64;   // alignment of every part of a weights file, and of scratch buffers

constexpr int kKeyBlock = 16;  // keys that attention takes at once

constexpr float kSmallestPeak = 1e-36f;  // 127 / peak must stay finite

enum class Quant : uint8_t { kFp32 = 0, kInt8 = 1, kInt4 = 2 };

// Success, or the sentence that says what is wrong. Messages are string literals.
struct Status {
  enum Code : uint8_t { kOk, kInvalidArgument, kCorrupt, kContextFull, kNonFinite, kNoMemory, kLost };
  Code code = kOk;
  const char* message = "";
  bool ok() const { return code == kOk; }
};
constexpr Status kStatusOk{};

constexpr size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Columns of a packed row including its padding: the length of an activation row for that weight.
constexpr size_t padded_cols(Quant quant, size_t cols) {
  return quant == Quant::kFp32 ? cols : quant == Quant::kInt8 ? round_up(cols, 8) : round_up(cols, kGroupCols);
}

// One multiplication of `tokens` activation rows with `tile_count` consecutive weight tiles:
// y[t][n] (+)= factor[t] * sum_k w[n][k] * x[t][k].
struct TileArgs {
  const uint8_t* tiles;  // first tile
  size_t tile_bytes;     // distance between tiles
  int tile_count;
  int rows;                      // valid output rows; only the last tile may be partly valid
  int cols;                      // K without padding
  int tokens;                    // 1..64
  const void* const* x;          // [tokens] rows: float[cols], or int8[padded_cols]
  const int32_t* const* starts;  // [tokens][padded_cols/32] of quantize_row, int4 weights only
  const float* factor;           // [tokens]
  float* const* y;               // [tokens] pointers to the first output row
  bool accumulate;
  const uint8_t* next;  // tiles that the caller multiplies next, worth prefetching; may be null
};

// The functions of one instruction set.
struct Kernels {
  const char* name;
  void (*tiles_fp32)(const TileArgs&);
  void (*tiles_int8)(const TileArgs&);
  void (*tiles_int4)(const TileArgs&);
  // q = round_half_even(x * (127 / max|x|)), zero-padded to `padded`; *scale = max|x| / 127. Rows below
  // kSmallestPeak are zero. A row that holds NaN or infinity gives q = 0 and *scale = NaN, so that what
  // is computed from it is NaN. starts (may be null) receives
  // -8 * sum of q of every 32 columns: where their products start, as int4 weights are stored as value + 8.
  void (*quantize_row)(const float* x, int cols, int padded, int8_t* q, float* scale, int32_t* starts);
  void (*axpy)(float a, const float* x, float* y, int n);  // y += a * x
  void (*scale)(float a, float* y, int n);                 // y *= a
  void (*silu)(float* x, int n);                           // y = x / (1 + exp(-x)), error < 4 * 2^-24 |y| + 2^-126

  // For attention: some queries meet up to kKeyBlock keys. As everywhere, what a query and a key give does not depend
  // on which others share the call. scores[kKeyBlock * q + i] = queries[q] * keys[i], of n values each.
  void (*dots)(const float* const* queries, int query_count, const float* const* keys, int count, int n, float* scores);
  // A softmax that goes on over blocks of scores. *max becomes the largest of itself and scale * scores; the scores
  // become exp(scale * score - *max), error as silu's; *sum becomes itself times the returned factor, plus the new
  // scores. The factor, exp of what *max was minus what it is, is for the weighted sum so far. *max begins as
  // -infinity, *sum as 0.
  float (*softmax)(float* scores, int count, float scale, float* max, float* sum);
  // y += weights[0] * rows[0], then weights[1] * rows[1], ...
  void (*weighted_sum)(const float* weights, const float* const* rows, int count, float* y, int n);
};

// What softmax and quantize_row of every instruction set do with one number. Internal linkage: an inline function that
// two files compile for different processors would be one symbol, with either one's instructions.

// Raises *max to `peak` where that is larger; the factor by which all that was summed up so far shrinks.
static inline float raise_max(float peak, float* max) {
  if (!(peak > *max)) return 1.0f;
  const float shrink = std::exp(*max - peak);
  *max = peak;
  return shrink;
}

// The scale of a row whose largest magnitude has the given bits, and what its values are multiplied by; false, with q
// and starts already zero, if the row has no other quantized values.
static inline bool begin_row(int32_t peak_bits, int padded, int8_t* q, float* scale, int32_t* starts, float* inverse) {
  float peak;
  std::memcpy(&peak, &peak_bits, sizeof peak);
  if (!(peak >= kSmallestPeak) || std::isinf(peak)) {
    *scale = std::isfinite(peak) ? 0.0f : NAN;
    std::memset(q, 0, padded);
    if (starts != nullptr) std::memset(starts, 0, sizeof(int32_t) * (padded / kGroupCols));
    return false;
  }
  *inverse = 127.0f / peak;
  *scale = peak / 127.0f;
  return true;
}

// The best kernels that this CPU runs, or those that the environment variable BLOCKFFN_KERNELS names:
// kInvalidArgument if there are none of that name or the CPU lacks their instructions.
Status select_kernels(const Kernels** out);
// Kernels number i of this library, best first, and whether the CPU runs them; null past the last.
const Kernels* kernels_variant(int i, bool* supported);

extern const Kernels kPortableKernels;
extern const Kernels kNeonKernels, kDotprodKernels, kI8mmKernels;        // 64-bit ARM only
extern const Kernels kAvx2Kernels, kAvxVnniKernels, kAvx512VnniKernels;  // x86-64 only

// CPUs that this process may use and whose highest frequency is at least 80 % of the fastest one's.
int big_cores(const char* sysfs_cpu = "/sys/devices/system/cpu");

// Runs task(context, i) for every i in [0, n), on any threads, and returns when all are done. Tasks
// never start another loop: ExecuTorch's pool would deadlock.
struct Parallel {
  void (*run)(void* pool, int64_t n, void (*task)(void* context, int64_t i), void* context) = nullptr;
  void* pool = nullptr;
  int threads = 4;  // about as many take part: work is cut accordingly, results do not depend on it

  template <class F>
  void operator()(int64_t n, const F& f) const {
    if (run == nullptr || threads <= 1 || n == 1) {
      for (int64_t i = 0; i < n; ++i) f(i);
      return;
    }
    run(pool, n, [](void* c, int64_t i) { (*static_cast<const F*>(c))(i); }, const_cast<F*>(&f));
  }
};

}  // namespace blockffn
