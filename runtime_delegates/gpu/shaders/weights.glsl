// Packed weights as export/pack.py writes them, read 16 bytes at a time. QUANT is 0 fp32, 1 int8, 2 int4.
//
// load_unit also gives the halves of its rows' scales, as one word, so that they arrive together.
//
// decode_unit gives float32, decode_half float16 (FP16): pairs of columns (0, 2) and (1, 3) of every four, and of
// float32 weights 64 times their value, because they are small.
//
// A unit is what one thread multiplies at once: ROWS output rows of a tile by 4 * XV columns. Units of a tile are
// numbered so that neighbouring threads read neighbouring bytes, and unit j has rows ROWS * (j % CLASSES) ...
#if QUANT == 0
#define ROWS 4
#define CLASSES 2
#define XV 1
#define RAW 4
#define UNROLL 2
uint unit_count(uint cols) { return (cols + 3) / 4 * 2; }
uint x_index(uint j, uint v) { return j >> 1; }
void load_unit(uint tile, uint j, uint cols, uint units, out uvec4 raw[RAW], out uint pair) {
  pair = 0;
  const uint k = (j >> 1) * 4, at = tile + 2 * k + (j & 1);
  [[unroll]] for (uint i = 0; i < 4; ++i) raw[i] = k + i < cols ? weights[at + 2 * i] : uvec4(0);
}
void decode_unit(uvec4 raw[RAW], out vec4 w[ROWS * XV]) {
  [[unroll]] for (uint r = 0; r < 4; ++r)
    w[r] = vec4(uintBitsToFloat(raw[0][r]), uintBitsToFloat(raw[1][r]), uintBitsToFloat(raw[2][r]),
                uintBitsToFloat(raw[3][r]));
}
#if FP16
#define WEIGHT_FACTOR 64.0
void decode_half(uvec4 raw[RAW], out f16vec2 w[ROWS * XV * 2]) {
  vec4 f[ROWS * XV];
  decode_unit(raw, f);
  [[unroll]] for (uint r = 0; r < 4; ++r) {
    const vec4 scaled = f[r] * WEIGHT_FACTOR;
    w[2 * r] = f16vec2(scaled.xz);
    w[2 * r + 1] = f16vec2(scaled.yw);
  }
}
#endif
#else
#define ROWS 2
#define CLASSES 4
#define RAW 1
#define UNROLL 4
// A small integer as a float without a conversion: the bits of 2^23 + n, minus 2^23 and the offset that n carries.
float small_float(uint n, float offset) { return uintBitsToFloat(n | 0x4b000000u) - (8388608.0 + offset); }
#if QUANT == 1
void load_unit(uint tile, uint j, uint cols, uint units, out uvec4 raw[RAW], out uint pair) {
  raw[0] = weights[tile + j];
  pair = weights[tile + units][j & 3];
}
#define XV 2
uint unit_count(uint cols) { return (cols + 7) / 8 * 4; }
uint x_index(uint j, uint v) { return (j >> 2) * 2 + v; }
vec4 bytes(uint packed) {
  const uint u = packed ^ 0x80808080u;
  return vec4(small_float(u & 255, 128), small_float(u >> 8 & 255, 128), small_float(u >> 16 & 255, 128),
              small_float(u >> 24, 128));
}
void decode_unit(uvec4 raw[RAW], out vec4 w[ROWS * XV]) {
  [[unroll]] for (uint i = 0; i < 4; ++i) w[i] = bytes(raw[0][i]);
}
#if FP16
// The bits of 1024 + n for two small integers at once, minus 1024 and the offset that n carries: exact.
void decode_half(uvec4 raw[RAW], out f16vec2 w[ROWS * XV * 2]) {
  const f16vec2 offset = f16vec2(1024.0 + 128.0);
  [[unroll]] for (uint i = 0; i < 4; ++i) {
    const uint u = raw[0][i] ^ 0x80808080u;
    w[2 * i] = unpackFloat2x16((u & 0x00ff00ffu) | 0x64006400u) - offset;
    w[2 * i + 1] = unpackFloat2x16((u >> 8 & 0x00ff00ffu) | 0x64006400u) - offset;
  }
}
#endif
#else
#define XV 4
void load_unit(uint tile, uint j, uint cols, uint units, out uvec4 raw[RAW], out uint pair) {
  raw[0] = weights[tile + j];
  pair = weights[tile + units + (j >> 3)][j & 3];
}
uint unit_count(uint cols) { return (cols + 31) / 32 * 8; }
// Low nibbles are columns 8h .. 8h+7 of a group of 32, high ones 16 more.
uint x_index(uint j, uint v) { return (j >> 3) * 8 + (j >> 2 & 1) * 2 + (v & 1) + (v >> 1) * 4; }
vec4 nibbles(uint packed) {
  return vec4(small_float(packed & 15, 8), small_float(packed >> 8 & 15, 8), small_float(packed >> 16 & 15, 8),
              small_float(packed >> 24 & 15, 8));
}
void decode_unit(uvec4 raw[RAW], out vec4 w[ROWS * XV]) {
  [[unroll]] for (uint r = 0; r < 2; ++r)
    [[unroll]] for (uint v = 0; v < 2; ++v) {
      w[r * XV + v] = nibbles(raw[0][2 * r + v]);
      w[r * XV + 2 + v] = nibbles(raw[0][2 * r + v] >> 4);
    }
}
#if FP16
// As for int8; high nibbles stay where they are, as 1024 + 16 n.
void decode_half(uvec4 raw[RAW], out f16vec2 w[ROWS * XV * 2]) {
  const f16vec2 offset = f16vec2(1024.0 + 8.0), high_offset = f16vec2(-64.0 - 8.0), sixteenth = f16vec2(0.0625);
  [[unroll]] for (uint r = 0; r < 2; ++r)
    [[unroll]] for (uint v = 0; v < 2; ++v)
      [[unroll]] for (uint i = 0; i < 2; ++i) {
        const uint u = raw[0][2 * r + v] >> (8 * i);
        w[(r * XV + v) * 2 + i] = unpackFloat2x16((u & 0x000f000fu) | 0x64006400u) - offset;
        w[(r * XV + 2 + v) * 2 + i] = fma(unpackFloat2x16((u & 0x00f000f0u) | 0x64006400u), sixteenth, high_offset);
      }
}
#endif
#endif
#endif

// Half to float, exact for subnormal halves too, which unpackHalf2x16 may flush.
float half_float(uint h) {
  const uint magnitude = h & 0x7fffu;
  const float tiny = uintBitsToFloat((113u << 23) | (magnitude << 13)) - 6.103515625e-05;
  const float normal = uintBitsToFloat((magnitude << 13) + (magnitude < 0x7c00u ? 112u << 23 : 224u << 23));
  const float f = magnitude < 0x400u ? tiny : normal;
  return (h & 0x8000u) != 0 ? -f : f;
}

// Scales of the rows of a unit from what load_unit gave beside it: int4 has one per group of 32 columns, int8 one per row.
void unit_scales(uint pair, out float scale[ROWS]) {
#if QUANT == 0
  [[unroll]] for (uint r = 0; r < ROWS; ++r) scale[r] = 1.0;
#else
  scale[0] = half_float(pair & 0xffffu);
  scale[1] = half_float(pair >> 16);
#endif
}

// Of one row of an int8 tile, which multiplies whole sums; 1 otherwise.
float row_scale(uint tile, uint row, uint cols) {
#if QUANT == 1
  const uint pair = weights[tile + unit_count(cols)][row / 2];
  return half_float((row & 1) == 0 ? pair & 0xffffu : pair >> 16);
#else
  return 1.0;
#endif
}
