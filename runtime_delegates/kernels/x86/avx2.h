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

// What multiplies some tokens with some tiles, from `tile` and `token` on, and prefetches as many tiles at `ahead`.
using Block = void (*)(const TileArgs& a, int tile, int token, const uint8_t* ahead);

// For one number of tokens: the number of tiles whose sums fit into the registers, and the code for it.
struct Shape {
  int tiles;
  Block many, one;
};

// All tokens with all tiles; shapes[n - 1] serves n tokens, up to token_block.
static inline void multiply(const Shape* shapes, int token_block, const TileArgs& a) {
  constexpr int kTileBlock = 8;  // tiles that pass through the caches together
  const int blocks = (a.tokens + token_block - 1) / token_block;
  for (int first = 0; first < a.tile_count; first += kTileBlock) {
    const int last = first + kTileBlock < a.tile_count ? first + kTileBlock : a.tile_count;
    const uint8_t* ahead = last < a.tile_count || a.next == nullptr ? a.tiles + a.tile_bytes * last : a.next;
    for (int i = 0, token = 0; i < blocks; ++i) {
      const int tokens = (a.tokens - token + blocks - i - 1) / (blocks - i);  // blocks of about equal size
      const Shape& shape = shapes[tokens - 1];
      for (int tile = first; tile < last;) {
        const bool many = tile + shape.tiles <= last;
        // What an earlier block of tokens has fetched need not be fetched again.
        const uint8_t* fetch = i == 0 ? ahead + a.tile_bytes * (tile - first) : a.tiles + a.tile_bytes * tile;
        (many ? shape.many : shape.one)(a, tile, token, fetch);
        tile += many ? shape.tiles : 1;
      }
      token += tokens;
    }
  }
}

// The scale of a row whose largest magnitude has the given bits, and its reciprocal; false if all of
// the row becomes zero (see contract.h).
static inline bool quantized_scale(int32_t peak_bits, float* scale, float* inverse) {
  float peak;
  std::memcpy(&peak, &peak_bits, sizeof peak);
  if (!(peak >= kSmallestPeak) || std::isinf(peak)) {
    *scale = std::isfinite(peak) ? 0.0f : NAN;
    return false;
  }
  *inverse = 127.0f / peak;
  *scale = peak / 127.0f;
  return true;
}

}  // namespace blockffn
