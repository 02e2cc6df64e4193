// What the x86 kernel files share. Functions of this header have internal linkage: an inline function
// that two files compile for different processors would be one symbol, with either one's instructions.
#pragma once

#include <cmath>
#include <cstring>

#include "../contract.h"

namespace blockffn {

namespace avx2 {
void tiles_fp32(const TileArgs& a);
}

// exp(z) = 2^k * exp(r), k = round(z / ln 2); exp(r) = 1 + r + r^2 * polynomial with a relative error
// below 3e-9 for |r| <= ln(2) / 2. The high part of ln 2 times any k of interest is exact.
constexpr float kLog2E = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
constexpr float kExp[] = {0x1.6a23dp-10f, 0x1.123a2p-7f, 0x1.5558f2p-5f, 0x1.555492p-3f, 0x1.fffffcp-2f, 1.0f, 1.0f};
constexpr int kExpTerms = sizeof kExp / sizeof kExp[0];

// What multiplies some tokens, from `token` on, with runs of `count` tiles each. The runs lie `step` tiles apart and
// are read side by side; the first begins at `tile`. Blocks of several tokens ask for the weights that lie `ahead`
// bytes behind those that they multiply.
using Block = void (*)(const TileArgs& a, int tile, int step, int count, int token, ptrdiff_t ahead);

// For one number of tokens: the code for `streams` runs, and for one.
struct Shape {
  int streams;
  Block many, one;
};

// The tiles [tile, tile + count) with the tokens of one shape.
static inline void multiply_tiles(const Shape& shape, const TileArgs& a, int tile, int count, int token,
                                  ptrdiff_t ahead) {
  const int run = shape.streams > 1 ? count / shape.streams : 0;
  if (run > 0) shape.many(a, tile, run, run, token, ahead);
  const int done = run * shape.streams;
  if (done < count) shape.one(a, tile + done, 0, count - done, token, ahead);
}

// All tokens with all tiles; shapes[n - 1] serves n tokens, up to token_block.
//
// Where few tokens share a weight, memory is the limit, and what counts is how many lines are on their way. A
// processor's own prefetcher follows every stream of consecutive addresses by itself, and reaches further than
// instructions can. So the tiles are cut into as many runs as the registers have room for, which are read side by side,
// each from its first byte to its last; only the first lines of the next matrix are asked for by name.
//
// With more tokens arithmetic is the limit. Some tiles at a time meet all tokens while they are in the first cache, and
// during that the next ones are brought into the second: the prefetcher alone stops at every page.
static inline void multiply(const Shape* shapes, int token_block, int streamed_tokens, const TileArgs& a) {
  constexpr size_t kFirstLines = 8;      // of every stream of the next matrix
  constexpr size_t kFirstCache = 16384;  // of it, for weights
  const int blocks = (a.tokens + token_block - 1) / token_block;
  const Shape& smallest = shapes[a.tokens / blocks - 1];
  if (a.tokens <= streamed_tokens) {
    if (a.next != nullptr)
      for (int n = 0; n < smallest.streams; ++n)
        for (size_t i = 0; i < kFirstLines; ++i)
          __builtin_prefetch(a.next + a.tile_bytes * (a.tile_count / smallest.streams) * n + 64 * i);
    multiply_tiles(smallest, a, 0, a.tile_count, 0, 0);
    return;
  }
  const int fit = static_cast<int>(kFirstCache / a.tile_bytes) / smallest.streams * smallest.streams;
  const int together = fit > smallest.streams ? fit : smallest.streams;
  for (int tile = 0; tile < a.tile_count; tile += together) {
    const bool last = tile + together >= a.tile_count;
    const int count = last ? a.tile_count - tile : together;
    ptrdiff_t ahead = static_cast<ptrdiff_t>(a.tile_bytes) * together;
    if (last) ahead = a.next == nullptr ? 0 : a.next - (a.tiles + a.tile_bytes * tile);
    for (int i = 0, token = 0; i < blocks; ++i) {
      const int tokens = (a.tokens - token + blocks - i - 1) / (blocks - i);  // blocks of about equal size
      multiply_tiles(shapes[tokens - 1], a, tile, count, token, i == 0 ? ahead : 0);
      token += tokens;
    }
  }
}

}  // namespace blockffn
