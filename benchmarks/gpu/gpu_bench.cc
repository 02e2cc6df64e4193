// Times the Vulkan passes beside the bandwidth of the same GPU and beside dense layers:
//
//     blockffn_gpu_bench OUT.json [--tiny | --layers] [--seconds N]
//
// The layers come in float32 and, under the name fp16, in float16 arithmetic, one after the other. Everything is
// synthetic and made here: weights, routing, and a float64 loop over unpacked weights that every precision's layer is
// checked against. OUT.json receives one JSON object a line; standard output the same. --tiny runs small shapes, for
// software drivers, --layers the FFN of the 2.8B model alone. Work is ordered by importance and stops after --seconds
// (20).
//
// Routing: per chunk of 8 tokens a pool of 30 % of the experts, of which a token uses two thirds: TLS 0.80, CLS8 0.70.
// Half of a pool stays in the next one. The dense rows feed the same layers a token that every expert fires on.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../../runtime_delegates/gpu/step.h"

using namespace blockffn;
using Clock = std::chrono::steady_clock;

namespace {

FILE* out_file;
Clock::time_point start_time;
double budget = 20;

double elapsed() { return std::chrono::duration<double>(Clock::now() - start_time).count(); }

void emit(const char* format, ...) {
  char line[4096];
  va_list args;
  va_start(args, format);
  std::vsnprintf(line, sizeof line, format, args);
  va_end(args);
  std::printf("%s\n", line);
  std::fflush(stdout);
  std::fprintf(out_file, "%s\n", line);
  std::fflush(out_file);
}

const char* kNames[] = {"fp32", "int8", "int4"};

struct Random {
  uint64_t s = 0x9e3779b97f4a7c15ull;
  uint64_t next() {
    s ^= s << 13;
    s ^= s >> 7;
    s ^= s << 17;
    return s;
  }
  float uniform() { return static_cast<float>(static_cast<int32_t>(next() >> 32)) * 0x1p-31f; }  // [-1, 1)
};

uint16_t to_half(float f) {
  const _Float16 h = static_cast<_Float16>(f);
  uint16_t bits;
  std::memcpy(&bits, &h, 2);
  return bits;
}
float from_half(uint16_t bits) {
  _Float16 h;
  std::memcpy(&h, &bits, 2);
  return static_cast<float>(h);
}

template <class T>
void put(std::vector<uint8_t>& to, T value) {
  const auto* p = reinterpret_cast<const uint8_t*>(&value);
  to.insert(to.end(), p, p + sizeof value);
}

// Packs w [rows][cols] into tiles and rounds w to what they hold.
void pack_tiles(std::vector<float>& w, size_t rows, size_t cols, Quant quant, uint8_t* to) {
  const size_t bytes = tile_bytes(quant, static_cast<int>(cols)), padded = padded_cols(quant, cols);
  for (size_t r = 0; r < rows; ++r) {
    uint8_t* tile = to + r / 8 * bytes;
    float* row = w.data() + r * cols;
    const size_t i = r % 8;
    if (quant == Quant::kFp32) {
      for (size_t k = 0; k < cols; ++k) std::memcpy(tile + (k * 8 + i) * 4, row + k, 4);
      continue;
    }
    const size_t group = quant == Quant::kInt8 ? cols : 32;
    int32_t sum = 0;
    for (size_t g = 0; g * group < cols; ++g) {
      float peak = 0;
      for (size_t k = g * group; k < std::min(cols, (g + 1) * group); ++k) peak = std::max(peak, std::fabs(row[k]));
      const uint16_t half = to_half(peak / (quant == Quant::kInt8 ? 127 : 7));
      const float scale = from_half(half);
      for (size_t k = g * group; k < std::min(cols, (g + 1) * group); ++k) {
        const int top = quant == Quant::kInt8 ? 127 : 7;
        const int q = scale == 0 ? 0 : std::clamp(static_cast<int>(std::lround(row[k] / scale)), -top, top);
        row[k] = static_cast<float>(q) * scale;
        sum += q;
        const size_t c = k % 32;
        if (quant == Quant::kInt8)
          tile[k / 8 * 64 + i * 8 + k % 8] = static_cast<uint8_t>(q);
        else
          tile[k / 32 * 128 + c % 16 / 8 * 64 + i * 8 + c % 8] |=
              static_cast<uint8_t>(static_cast<uint8_t>(q + 8) << (c < 16 ? 0 : 4));
      }
      if (quant == Quant::kInt8)
        std::memcpy(tile + padded * 8 + 2 * i, &half, 2);
      else
        std::memcpy(tile + padded * 4 + (g * 8 + i) * 2, &half, 2);
    }
    if (quant == Quant::kInt8) std::memcpy(tile + padded * 8 + 16 + 4 * i, &sum, 4);
  }
}

// A pool of random bytes that weights are cut from: filling gigabytes one number at a time would take too long.
struct Pool {
  std::vector<uint8_t> bytes;
  size_t at = 0;
  explicit Pool(bool floats, float scale) : bytes(size_t{1} << 24) {
    Random random;
    for (size_t i = 0; i < bytes.size(); i += 8) {
      if (floats) {
        const float pair[2] = {scale * random.uniform(), scale * random.uniform()};
        std::memcpy(&bytes[i], pair, 8);
      } else {
        const uint64_t word = random.next();
        std::memcpy(&bytes[i], &word, 8);
      }
    }
  }
  void fill(uint8_t* to, size_t n) {
    while (n > 0) {
      if (at >= bytes.size()) at = (at + 4099 * 64) % 65536 / 64 * 64;
      const size_t m = std::min(n, bytes.size() - at);
      std::memcpy(to, &bytes[at], m);
      to += m;
      n -= m;
      at += m;
    }
  }
};

void random_tiles(uint8_t* to, size_t rows, size_t cols, Quant quant) {
  static Pool integers(false, 0), floats(true, 1);
  const size_t bytes = tile_bytes(quant, static_cast<int>(cols)), padded = padded_cols(quant, cols);
  const float unit = std::sqrt(3.0f / static_cast<float>(cols));
  for (size_t t = 0; t < (rows + 7) / 8; ++t, to += bytes) {
    if (quant == Quant::kFp32) {
      floats.fill(to, cols * 32);
      continue;
    }
    const size_t body = quant == Quant::kInt8 ? padded * 8 : padded * 4;
    integers.fill(to, body);
    const uint16_t half = to_half(unit / (quant == Quant::kInt8 ? 127 : 8));
    const size_t scales = quant == Quant::kInt8 ? 8 : padded / 32 * 8;
    for (size_t i = 0; i < scales; ++i) std::memcpy(to + body + 2 * i, &half, 2);
  }
}

// The bytes of program.h, and the weights segment beside them.
struct Builder {
  std::vector<uint8_t> values, ops;
  uint32_t value_count = 0, op_count = 0;
  std::vector<uint32_t> inputs, outputs;
  std::unique_ptr<uint8_t, void (*)(void*)> weights{nullptr, std::free};
  size_t used = 0, capacity = 0;

  explicit Builder(size_t weight_bytes) : capacity(round_up(weight_bytes + (1 << 20), 4096)) {
    weights.reset(static_cast<uint8_t*>(std::aligned_alloc(4096, capacity)));
    if (weights == nullptr) std::exit(1);
  }
  uint32_t value(Kind kind, DType dtype, std::vector<int32_t> dims, uint64_t offset = 0, uint64_t bytes = 0) {
    put(values, static_cast<uint8_t>(kind));
    put(values, static_cast<uint8_t>(dtype));
    put(values, static_cast<uint16_t>(dims.size()));
    dims.resize(4, 0);
    for (int32_t d : dims) put(values, d);
    put(values, uint32_t{0});
    put(values, offset);
    put(values, bytes);
    put(values, uint64_t{0});
    if (kind == Kind::kInput) inputs.push_back(value_count);
    if (kind == Kind::kOutput) outputs.push_back(value_count);
    return value_count++;
  }
  uint32_t temporary(int32_t width) { return value(Kind::kTemporary, DType::kFloat, {-1, width}); }
  uint32_t op(Opcode code, std::vector<int32_t> args, uint32_t out, std::vector<Attr> attrs = {}) {
    put(ops, static_cast<uint16_t>(code));
    put(ops, static_cast<uint16_t>(args.size()));
    put(ops, uint16_t{1});
    put(ops, static_cast<uint16_t>(attrs.size()));
    for (int32_t a : args) put(ops, a);
    put(ops, out);
    ops.resize(round_up(ops.size(), 8));
    for (Attr a : attrs) put(ops, a);
    ++op_count;
    return out;
  }
  uint8_t* room(size_t bytes) {
    used = round_up(used, 64);
    if (used + bytes > capacity) {
      std::fprintf(stderr, "weights exceed their room\n");
      std::exit(1);
    }
    uint8_t* at = weights.get() + used;
    used += bytes;
    return at;
  }
  static void matrix_header(uint8_t* to, Quant quant, uint32_t groups, uint32_t rows, uint32_t cols) {
    std::memset(to, 0, 64);
    std::memcpy(to, "BFMX", 4);
    to[4] = 1;
    to[6] = static_cast<uint8_t>(quant);
    const uint32_t dims[3] = {groups, rows, cols};
    std::memcpy(to + 8, dims, 12);
  }
  uint32_t matrix(Quant quant, size_t groups, size_t rows, size_t cols) {
    const size_t bytes = tile_bytes(quant, static_cast<int>(cols)) * ((rows + 7) / 8);
    uint8_t* at = room(64 + bytes * groups);
    matrix_header(at, quant, static_cast<uint32_t>(groups), static_cast<uint32_t>(rows), static_cast<uint32_t>(cols));
    for (size_t g = 0; g < groups; ++g) random_tiles(at + 64 + bytes * g, rows, cols, quant);
    return value(Kind::kWeight, DType::kMatrix, {}, static_cast<uint64_t>(at - weights.get()), 64 + bytes * groups);
  }
  uint32_t floats(const std::vector<float>& v) {
    uint8_t* at = room(v.size() * 4);
    std::memcpy(at, v.data(), v.size() * 4);
    return value(Kind::kWeight, DType::kFloat, {static_cast<int32_t>(v.size())},
                 static_cast<uint64_t>(at - weights.get()), v.size() * 4);
  }
  // up and down may be empty: then they are random.
  uint32_t ffn(Quant quant, size_t D, size_t F, size_t E, std::vector<float> router, const std::vector<float>& norm,
               std::vector<float>* up, std::vector<float>* down) {
    const Quant router_quant = quant == Quant::kFp32 ? Quant::kFp32 : Quant::kInt8;
    const size_t router_bytes = round_up(64 + tile_bytes(router_quant, static_cast<int>(D)) * ((E + 7) / 8), 64);
    const size_t norm_at = 128 + router_bytes, experts_at = norm_at + round_up(E * 4, 64);
    const size_t up_bytes = tile_bytes(quant, static_cast<int>(D)) * ((F + 7) / 8),
                 down_bytes = tile_bytes(quant, static_cast<int>(F)) * ((D + 7) / 8);
    const size_t stride = up_bytes + down_bytes, total = experts_at + stride * E;
    uint8_t* at = room(total);
    std::memset(at, 0, experts_at);
    std::memcpy(at, "BFFF", 4);
    at[4] = 1;
    at[6] = static_cast<uint8_t>(quant);
    at[7] = static_cast<uint8_t>(RouterNorm::kRms);
    const uint32_t dims[3] = {static_cast<uint32_t>(D), static_cast<uint32_t>(F), static_cast<uint32_t>(E)};
    std::memcpy(at + 8, dims, 12);
    const float reals[3] = {1e-5f, 1.0f, 1.0f};
    std::memcpy(at + 20, reals, 12);
    const uint64_t offsets[4] = {128, norm_at, experts_at, stride};
    std::memcpy(at + 32, offsets, 32);
    matrix_header(at + 128, router_quant, 1, static_cast<uint32_t>(E), static_cast<uint32_t>(D));
    pack_tiles(router, E, D, router_quant, at + 128 + 64);
    std::memcpy(at + norm_at, norm.data(), E * 4);
    for (size_t e = 0; e < E; ++e) {
      uint8_t* expert = at + experts_at + stride * e;
      if (up == nullptr) {
        random_tiles(expert, F, D, quant);
        random_tiles(expert + up_bytes, D, F, quant);
        continue;
      }
      std::memset(expert, 0, stride);
      pack_tiles(up[e], F, D, quant, expert);
      pack_tiles(down[e], D, F, quant, expert + up_bytes);
    }
    return value(Kind::kWeight, DType::kFfn, {}, static_cast<uint64_t>(at - weights.get()), total);
  }
  std::vector<uint8_t> blob() const {
    std::vector<uint8_t> b;
    for (char c : {'B', 'F', 'P', 'G'}) b.push_back(static_cast<uint8_t>(c));
    put(b, uint16_t{1});
    put(b, uint16_t{0});
    for (uint32_t n :
         {value_count, op_count, static_cast<uint32_t>(inputs.size()), static_cast<uint32_t>(outputs.size()), 1u, 0u})
      put(b, n);
    b.push_back('w');
    b.resize(round_up(b.size(), 8));
    b.insert(b.end(), values.begin(), values.end());
    b.insert(b.end(), ops.begin(), ops.end());
    for (uint32_t i : inputs) put(b, i);
    for (uint32_t i : outputs) put(b, i);
    return b;
  }
};

// A parsed program with its GPU, and buffers for inputs and outputs.
struct Runnable {
  std::unique_ptr<Program> program;
  gpu::Step* step = nullptr;
  std::vector<std::vector<uint8_t>> buffers;

  bool open(const Builder& b, const gpu::StepOptions& options) {
    const auto blob = b.blob();
    auto context = std::make_pair(b.weights.get(), b.used);
    const auto find = [](void* c, const char*, const uint8_t** data, size_t* bytes) {
      auto& w = *static_cast<std::pair<uint8_t*, size_t>*>(c);
      *data = w.first;
      *bytes = w.second;
      return kStatusOk;
    };
    Status s = Program::parse(blob.data(), blob.size(), find, &context, &program);
    std::unique_ptr<gpu::Step> made;
    if (s.ok()) s = gpu::Step::create(*program, options, &made);
    if (!s.ok()) {
      emit("{\"error\": \"%s\"}", s.message);
      return false;
    }
    step = made.get();
    program->set_accelerator(std::move(made));
    return true;
  }
  bool run(int tokens, ReadStats* stats) {
    for (int i = 0; i < program->input_count(); ++i) program->bind_input(i, buffers[static_cast<size_t>(i)].data());
    for (int i = 0; i < program->output_count(); ++i) {
      auto& buffer = buffers[static_cast<size_t>(program->input_count() + i)];
      buffer.resize(program->output(i).elements(tokens) * 4);
      program->bind_output(i, buffer.data());
    }
    if (const Status s = program->run(tokens, {}, {}, stats); !s.ok()) {
      emit("{\"error\": \"%s\"}", s.message);
      return false;
    }
    return true;
  }
  template <class T>
  void input(size_t i, const std::vector<T>& v) {
    if (buffers.size() < static_cast<size_t>(program->input_count() + program->output_count()))
      buffers.resize(static_cast<size_t>(program->input_count() + program->output_count()));
    buffers[i].assign(reinterpret_cast<const uint8_t*>(v.data()),
                      reinterpret_cast<const uint8_t*>(v.data() + v.size()));
  }
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}
double smallest(const std::vector<double>& v) { return *std::min_element(v.begin(), v.end()); }

struct Shape {
  const char* name;
  size_t D, F, E, layers, heads, kv_heads;  // kv_heads 0: latent attention
};

// x [64][D] and a router whose scores are about +-1 as the routing wants; x_dense fires every expert.
struct Routing {
  std::vector<float> x, x_dense, router;
  std::vector<std::vector<bool>> active;  // [64][E]
  Routing(size_t D, size_t E, uint64_t seed)
      : x(64 * D), x_dense(64 * D), router(E * D), active(64, std::vector<bool>(E)) {
    Random random;
    random.s ^= seed * 0x2545f4914f6cdd1dull + seed;
    const size_t pool_size = std::max<size_t>(1, static_cast<size_t>(std::lround(0.30 * static_cast<double>(E))));
    std::vector<size_t> order(E), pool;
    for (size_t e = 0; e < E; ++e) order[e] = e;
    for (size_t chunk = 0; chunk < 8; ++chunk) {
      for (size_t i = E - 1; i > 0; --i) std::swap(order[i], order[random.next() % (i + 1)]);
      std::vector<size_t> next(pool.begin(), pool.begin() + static_cast<long>(pool.size() / 2));
      for (size_t e : order)
        if (next.size() < pool_size && std::find(next.begin(), next.end(), e) == next.end()) next.push_back(e);
      pool = next;
      for (size_t t = chunk * 8; t < chunk * 8 + 8; ++t) {
        for (size_t i = pool.size() - 1; i > 0; --i) std::swap(pool[i], pool[random.next() % (i + 1)]);
        const size_t uses = std::max<size_t>(1, (pool.size() * 2 + 1) / 3);
        for (size_t i = 0; i < uses; ++i) active[t][pool[i]] = true;
      }
    }
    for (auto& v : x) v = 1.7f * random.uniform();
    std::vector<float> u(D);
    for (auto& v : u) v = 1.7f * random.uniform();
    for (size_t t = 0; t < 64; ++t) std::copy(u.begin(), u.end(), x_dense.begin() + static_cast<long>(t * D));
    const float unit = 1.0f / (static_cast<float>(D) * 0.96f);
    for (size_t e = 0; e < E; ++e)
      for (size_t t = 0; t < 65; ++t) {
        const float c = unit * (t == 64 ? 1.5f : active[t][e] ? 1.0f : -1.0f);
        const float* row = t == 64 ? u.data() : x.data() + t * D;
        for (size_t k = 0; k < D; ++k) router[e * D + k] += c * row[k];
      }
  }
};

// Every precision against a float64 loop over the unpacked weights.
bool check_layers(size_t D, size_t F, size_t E, const gpu::StepOptions& options) {
  bool all = true;
  for (Quant quant : {Quant::kFp32, Quant::kInt8, Quant::kInt4}) {
    Random random;
    Routing routing(D, E, 7);
    std::vector<float> norm(E);
    for (size_t e = 0; e < E; ++e) norm[e] = 1.0f + 0.5f * random.uniform() - (e % 7 == 0 ? 2.0f : 0.0f);
    std::vector<std::vector<float>> up(E, std::vector<float>(F * D)), down(E, std::vector<float>(D * F));
    for (auto& w : up)
      for (auto& v : w) v = random.uniform() * std::sqrt(3.0f / static_cast<float>(D));
    for (auto& w : down)
      for (auto& v : w) v = random.uniform() * std::sqrt(3.0f / static_cast<float>(F));
    Builder b(E * F * D * 2 * 4 + E * D * 4 + (size_t{1} << 22));
    const uint32_t x = b.value(Kind::kInput, DType::kFloat, {-1, static_cast<int32_t>(D)});
    const uint32_t w = b.ffn(quant, D, F, E, routing.router, norm, up.data(), down.data());
    const uint32_t y = b.value(Kind::kOutput, DType::kFloat, {-1, static_cast<int32_t>(D)});
    b.op(Opcode::kChunkSparseFfn, {static_cast<int32_t>(x), static_cast<int32_t>(w)}, y);
    // The router as packed: rounded again here, which pack_tiles did on a copy.
    std::vector<float> router = routing.router;
    std::vector<uint8_t> ignored(tile_bytes(Quant::kFp32, static_cast<int>(D)) * (E + 8));
    pack_tiles(router, E, D, quant == Quant::kFp32 ? Quant::kFp32 : Quant::kInt8, ignored.data());

    std::vector<double> want(64 * D), bound(64 * D);
    int wrong_routes = 0;
    for (size_t t = 0; t < 64; ++t) {
      std::vector<double> score(E);
      double square = 0;
      for (size_t e = 0; e < E; ++e) {
        for (size_t k = 0; k < D; ++k) score[e] += static_cast<double>(router[e * D + k]) * routing.x[t * D + k];
        wrong_routes += (score[e] > 0) != routing.active[t][e];
        score[e] = std::max(score[e], 0.0);
        square += score[e] * score[e];
      }
      const double factor = 1 / std::sqrt(square / static_cast<double>(E) + 1e-5f);
      for (size_t e = 0; e < E; ++e) {
        if (score[e] == 0) continue;
        std::vector<double> h(F);
        double size = 0;
        for (size_t f = 0; f < F; ++f) {
          double z = 0;
          for (size_t k = 0; k < D; ++k) z += static_cast<double>(up[e][f * D + k]) * routing.x[t * D + k];
          h[f] = z / (1 + std::exp(-z));
          size += h[f] * h[f];
        }
        for (size_t d = 0; d < D; ++d) {
          double sum = 0, magnitude = 0;
          for (size_t f = 0; f < F; ++f) {
            sum += down[e][d * F + f] * h[f];
            magnitude += std::fabs(down[e][d * F + f] * h[f]);
          }
          want[t * D + d] += score[e] * factor * norm[e] * sum;
          bound[t * D + d] += std::fabs(score[e] * factor * norm[e]) * magnitude;
        }
      }
    }
    Runnable r;
    if (!r.open(b, options)) return false;
    std::vector<float> first;
    for (int tokens : {64, 1, 2, 7, 8, 32}) {
      r.input(0, std::vector<float>(routing.x.begin(),
                                    routing.x.begin() + static_cast<long>(static_cast<size_t>(tokens) * D)));
      ReadStats stats;
      if (!r.run(tokens, &stats)) return false;
      std::vector<float> got(static_cast<size_t>(tokens) * D);
      std::memcpy(got.data(), r.buffers[1].data(), got.size() * 4);
      if (tokens == 64) first = got;
      // Worst error over what float32 sums of this length may be off by, about (D + F) * 2^-24 of the sum of
      // magnitudes. Halves: 6 * 2^-11 of it, five times what their roundings make as long as they are independent.
      const double unit = options.arithmetic == gpu::Arithmetic::kFp16 ? 6 * 0x1p-11
                                                                       : 0x1p-24 * static_cast<double>(D + F + 64);
      double worst = 0, square = 0, error = 0;
      for (size_t i = 0; i < got.size(); ++i) {
        const double e = std::fabs(got[i] - want[i]);
        worst = std::max(worst, e == e ? e / (bound[i] * unit) : 1e30);
        error += e * e;
        square += want[i] * want[i];
      }
      const bool same = std::equal(got.begin(), got.end(), first.begin());
      const bool ok = worst <= 1 && same;
      all = all && ok;
      emit(
          "{\"check\": \"ffn\", \"quant\": \"%s\", \"arithmetic\": \"%s\", \"D\": %zu, \"F\": %zu, \"E\": %zu, "
          "\"T\": %d, \"relative_rms\": "
          "%.2e, \"worst_of_bound\": %.3f, "
          "\"equals_chunk_of_64\": %s, \"wrong_routes\": %d, \"union\": %lld, \"ok\": %s}",
          kNames[static_cast<int>(quant)], gpu::arithmetic_name(options.arithmetic), D, F, E, tokens,
          std::sqrt(error / std::max(square, 1e-300)), worst,
          same ? "true" : "false", wrong_routes, static_cast<long long>(stats.experts_read), ok ? "true" : "false");
    }
  }
  return all;
}

size_t ffn_bytes(const Shape& s, Quant q) {
  return s.E * (tile_bytes(q, static_cast<int>(s.D)) * ((s.F + 7) / 8) +
                tile_bytes(q, static_cast<int>(s.F)) * ((s.D + 7) / 8));
}

// Buffers that the bandwidth pass reads and writes.
class Bandwidth {
 public:
  Bandwidth(gpu::Device& device, size_t bytes) : device_(device), bytes_(bytes) {
    good_ = device.allocate(bytes, gpu::Memory::kDevice, &from_).ok() &&
            device.allocate(bytes, gpu::Memory::kDevice, &to_).ok();
  }
  ~Bandwidth() {
    device_.release(from_);
    device_.release(to_);
  }
  double read_gbs(uint32_t groups) { return static_cast<double>(moved(groups)) / nanoseconds(kRead, groups, 1, true); }
  // Bytes read plus bytes written, by a kernel and by the driver's own command.
  double copy_gbs(uint32_t groups) {
    return 2.0 * static_cast<double>(moved(groups)) / nanoseconds(kCopy, groups, 1, true);
  }
  double driver_copy_gbs() { return 2.0 * static_cast<double>(bytes_) / nanoseconds(kDriver, 1, 1, true); }
  // Of one dispatch of a chain, each behind a barrier and on other bytes, which no cache holds: what a pass that reads as
  // much cannot undercut.
  double chained_read_us(uint64_t window, uint32_t groups) {
    const uint64_t step = uint64_t{groups} * kThreads * 64;
    const uint32_t count = static_cast<uint32_t>(std::min<uint64_t>(bytes_ / window, 64));
    if (window < step || count == 0) return NAN;
    return nanoseconds(kRead, groups, static_cast<int>(count), true, window / step * step) / count / 1e3;
  }
  // Of one of `count` dispatches that do nothing.
  double empty_us(uint32_t groups, bool barriers) { return nanoseconds(kNothing, groups, 200, barriers) / 200e3; }

 private:
  enum Mode : uint32_t { kNothing = 1, kRead = 2, kCopy = 4, kDriver = 8 };
  static constexpr uint32_t kThreads = 128;

  uint64_t moved(uint32_t groups) const {
    const uint64_t step = uint64_t{groups} * kThreads * 64;
    return bytes_ / step * step;
  }
  // The best of several, NaN if there is none. With a window, dispatch i works on bytes [i * window, (i + 1) * window).
  double nanoseconds(Mode mode, uint32_t groups, int count, bool barriers, uint64_t window = 0) {
    std::unique_ptr<gpu::Recording> r;
    double best = NAN;
    if (!good_ || !device_.record(static_cast<uint32_t>(count), 2, &r).ok() || !r->begin().ok()) return best;
    uint32_t push[gpu::kPushBytes / 4] = {static_cast<uint32_t>((window != 0 ? window : moved(groups)) / 16)};
    gpu::Launch launch{};
    launch.shader = gpu::Shader::kBandwidth;
    launch.threads = kThreads;
    launch.tokens = mode;
    launch.push = push;
    launch.groups[0] = groups;
    launch.groups[1] = launch.groups[2] = 1;
    for (int b = 0; b < gpu::kBindings; ++b) launch.bindings[b] = {b == 2 ? &to_ : &from_, 0, bytes_};
    r->stamp();
    for (int i = 0; i < count; ++i) {
      if (window != 0) launch.bindings[1] = {&from_, static_cast<uint64_t>(i) * window, window};
      if (mode == kDriver)
        r->copy(from_, to_, {{0, 0, bytes_}});
      else if (!r->dispatch(launch).ok())
        return best;
      const uint32_t stage = mode == kDriver ? gpu::kTransfer : gpu::kCompute;
      if (barriers) r->barrier(stage, stage);
    }
    r->stamp();
    if (!r->end().ok()) return best;
    for (int i = 0; i < 9; ++i) {
      std::vector<double> ns;
      if (!device_.submit_and_wait({r.get()}).ok() || !r->between_stamps(&ns).ok()) break;
      best = best < ns[0] ? best : ns[0];
    }
    return best;
  }

  gpu::Device& device_;
  size_t bytes_;
  gpu::Buffer from_, to_;
  bool good_ = false;
};

double read_peak = 0, copy_peak = 0;  // GB/s, of kernels that do nothing else

void measure_peaks(gpu::Device& device, bool tiny) {
  for (size_t mib : tiny ? std::vector<size_t>{4} : std::vector<size_t>{8, 16, 32, 64, 128, 1024}) {
    Bandwidth b(device, mib << 20);
    double read = 0, copy = 0;
    for (uint32_t groups : tiny ? std::vector<uint32_t>{8} : std::vector<uint32_t>{256, 512, 1024, 2048}) {
      read = std::max(read, b.read_gbs(groups));
      copy = std::max(copy, b.copy_gbs(groups));
    }
    read_peak = std::max(read_peak, read);
    copy_peak = std::max(copy_peak, copy);
    emit(
        "{\"bandwidth_mib\": %zu, \"read_gbs\": %.0f, \"copy_gbs_read_plus_written\": %.0f, \"driver_copy_gbs\": "
        "%.0f}",
        mib, read, copy, b.driver_copy_gbs());
  }
  emit("{\"read_peak_gbs\": %.0f, \"copy_peak_gbs\": %.0f}", read_peak, copy_peak);
  {
    Bandwidth b(device, tiny ? 1 << 22 : 1 << 30);
    for (uint64_t kib : {256, 1024, 3584, 6656, 26624}) {
      double best = NAN;
      uint32_t with = 0;
      for (uint32_t groups : {32u, 64u, 128u, 256u, 512u, 1024u, 2048u})
        if (const double us = b.chained_read_us(kib << 10, groups); !(us >= best)) {
          if (us == us) with = groups;
          best = us == us ? us : best;
        }
      if (best == best) emit("{\"chained_read_kib\": %llu, \"us\": %.2f, \"gbs\": %.0f, \"groups\": %u}",
           static_cast<unsigned long long>(kib), best, static_cast<double>(kib << 10) / best / 1e3, with);
    }
  }
  Bandwidth b(device, 1 << 20);
  for (uint32_t groups : {1u, 128u, 1024u, 2048u})
    emit("{\"empty_dispatch_us\": %.3f, \"behind_a_barrier_us\": %.3f, \"groups\": %u}", b.empty_us(groups, false),
         b.empty_us(groups, true), groups);
}

// Mean microseconds of every kind of pass over the operators but the first, in the order in which they run.
std::string pass_times(const std::vector<gpu::Step::Pass>& passes, double per) {
  std::vector<std::pair<gpu::Shader, double>> sums;
  for (const auto& p : passes) {
    auto at = std::find_if(sums.begin(), sums.end(), [&](const auto& s) { return s.first == p.shader; });
    if (at == sums.end()) at = sums.insert(sums.end(), {p.shader, 0.0});
    at->second += p.nanoseconds / 1e3 / per;
  }
  std::string text;
  for (const auto& [shader, us] : sums) {
    char item[96];
    std::snprintf(item, sizeof item, "%s\"%s\": %.2f", text.empty() ? "" : ", ", gpu::shader_name(shader), us);
    text += item;
  }
  return text;
}

// One FFN layer, cold: a command buffer holds several, one behind the other, whose weights exceed the caches.
void time_layers(const Shape& s, Quant quant, const gpu::StepOptions& options, double min_bytes) {
  if (elapsed() > budget) return;
  const double layer = static_cast<double>(ffn_bytes(s, quant));
  const size_t layers = std::clamp<size_t>(static_cast<size_t>(std::ceil(min_bytes / (0.2 * layer))), 4, 96);
  Routing routing(s.D, s.E, 3);
  Builder b(layers * (static_cast<size_t>(layer) + s.E * (s.D * 4 + 4096) + 65536) + (1 << 20));
  const uint32_t x = b.value(Kind::kInput, DType::kFloat, {-1, static_cast<int32_t>(s.D)});
  const std::vector<float> norm(s.E, 1.0f);
  for (size_t i = 0; i < layers; ++i) {
    const uint32_t w = b.ffn(quant, s.D, s.F, s.E, routing.router, norm, nullptr, nullptr);
    const uint32_t y = i + 1 < layers ? b.temporary(static_cast<int32_t>(s.D))
                                      : b.value(Kind::kOutput, DType::kFloat, {-1, static_cast<int32_t>(s.D)});
    b.op(Opcode::kChunkSparseFfn, {static_cast<int32_t>(x), static_cast<int32_t>(w)}, y);
  }
  Runnable r;
  gpu::StepOptions serial = options;
  serial.serialize = true;
  if (!r.open(b, serial)) return;
  for (int tokens : s.D < 512 ? std::vector<int>{1, 8} : std::vector<int>{1, 8, 32, 64}) {
    double us[2] = {}, best[2] = {}, share[2] = {}, wall[2] = {};
    std::string passes_text;
    for (int dense = 0; dense < 2; ++dense) {
      const auto& rows = dense ? routing.x_dense : routing.x;
      r.input(0, std::vector<float>(rows.begin(), rows.begin() + static_cast<long>(static_cast<size_t>(tokens) * s.D)));
      ReadStats stats;
      std::vector<double> ns, walls;
      if (!r.run(tokens, &stats)) return;
      if (const Status st = r.step->time(tokens, 9, &ns, &walls); !st.ok()) {
        emit("{\"error\": \"%s\"}", st.message);
        return;
      }
      us[dense] = median(ns) / 1e3 / static_cast<double>(layers);
      wall[dense] = median(walls) / 1e3 / static_cast<double>(layers);
      best[dense] = smallest(ns) / 1e3 / static_cast<double>(layers);
      share[dense] = static_cast<double>(stats.experts_read) / static_cast<double>(stats.experts_total);
      std::vector<gpu::Step::Pass> passes;
      if (dense == 0 && r.step->profile(tokens, &passes).ok())
        passes_text = pass_times(passes, static_cast<double>(layers));
    }
    const double bytes = layer * share[0];
    emit(
        "{\"layer\": \"%s\", \"quant\": \"%s\", \"arithmetic\": \"%s\", \"T\": %d, \"threads\": \"%u/%u\", "
        "\"layers\": %zu, \"sparse_us\": %.2f, "
        "\"sparse_min_us\": %.2f, \"sparse_wall_us\": %.2f, \"share\": %.3f, \"expert_bytes\": %.0f, \"gbs\": %.0f, "
        "\"of_read_peak\": %.3f, \"of_copy_peak\": %.3f, \"all_us\": %.2f, \"all_min_us\": %.2f, \"all_wall_us\": "
        "%.2f, "
        "\"all_share\": %.3f, \"all_gbs\": %.0f, \"all_over_sparse\": %.2f, \"passes_us\": {%s}}",
        s.name, kNames[static_cast<int>(quant)], gpu::arithmetic_name(r.step->arithmetic()), tokens,
        r.step->device().limits().threads, r.step->device().limits().wide_threads, layers, us[0],
        best[0], wall[0], share[0], bytes, bytes / us[0] / 1e3,
        bytes / us[0] / 1e3 / read_peak, bytes / us[0] / 1e3 / copy_peak, us[1], best[1], wall[1], share[1],
        layer * share[1] / us[1] / 1e3, us[1] / us[0], passes_text.c_str());
  }
}

// A plain gated FFN of the same number of parameters: gate and up [2EF/3, D], down back.
void time_gated(const Shape& s, Quant quant, const gpu::StepOptions& options, double min_bytes) {
  if (elapsed() > budget) return;
  const size_t width = round_up(2 * s.E * s.F / 3, 32);
  const double layer = static_cast<double>(3 * width * s.D) * (quant == Quant::kFp32   ? 4
                                                               : quant == Quant::kInt8 ? 1
                                                                                       : 0.5625);
  const size_t layers = std::clamp<size_t>(static_cast<size_t>(std::ceil(min_bytes / layer)), 2, 32);
  Builder b(layers * static_cast<size_t>(layer * 1.05 + 1e6) + (1 << 20));
  const uint32_t x = b.value(Kind::kInput, DType::kFloat, {-1, static_cast<int32_t>(s.D)});
  const auto linear = [&](uint32_t in, uint32_t w, uint32_t out) {
    return b.op(Opcode::kLinear, {static_cast<int32_t>(in), static_cast<int32_t>(w), -1}, out, {Attr{.f = 1.0}});
  };
  for (size_t i = 0; i < layers; ++i) {
    const uint32_t gate = linear(x, b.matrix(quant, 1, width, s.D), b.temporary(static_cast<int32_t>(width)));
    const uint32_t up = linear(x, b.matrix(quant, 1, width, s.D), b.temporary(static_cast<int32_t>(width)));
    const uint32_t h = b.op(Opcode::kSiluMul, {static_cast<int32_t>(gate), static_cast<int32_t>(up)},
                            b.temporary(static_cast<int32_t>(width)));
    const uint32_t down = b.matrix(quant, 1, s.D, width);
    linear(h, down,
           i + 1 < layers ? b.temporary(static_cast<int32_t>(s.D))
                          : b.value(Kind::kOutput, DType::kFloat, {-1, static_cast<int32_t>(s.D)}));
  }
  Runnable r;
  if (!r.open(b, options)) return;
  for (int tokens : s.D < 512 ? std::vector<int>{1, 8} : std::vector<int>{1, 8, 32, 64}) {
    Random random;
    std::vector<float> rows(static_cast<size_t>(tokens) * s.D);
    for (auto& v : rows) v = random.uniform();
    r.input(0, rows);
    ReadStats stats;
    std::vector<double> ns, walls;
    if (!r.run(tokens, &stats) || !r.step->time(tokens, 9, &ns, &walls).ok()) return;
    const double us = median(ns) / 1e3 / static_cast<double>(layers);
    emit(
        "{\"gated_dense\": \"%s\", \"quant\": \"%s\", \"arithmetic\": \"%s\", \"T\": %d, \"threads\": %u, "
        "\"layers\": %zu, \"us\": %.2f, "
        "\"min_us\": %.2f, \"wall_us\": %.2f, \"bytes\": %.0f, \"gbs\": %.0f, \"of_read_peak\": %.3f}",
        s.name, kNames[static_cast<int>(quant)], gpu::arithmetic_name(r.step->arithmetic()), tokens,
        r.step->device().limits().threads, layers, us,
        smallest(ns) / 1e3 / static_cast<double>(layers), median(walls) / 1e3 / static_cast<double>(layers), layer,
        layer / us / 1e3, layer / us / 1e3 / read_peak);
  }
}

// Whole decoder steps. Three fifths of the router rows are zero and the rest fire half of the time: TLS about 0.80. Two
// different tokens alternate in a chunk, so that it uses about 30 % of the experts.
void time_steps(const Shape& s, Quant quant, size_t vocabulary, const gpu::StepOptions& options) {
  if (elapsed() > budget) return;
  const int32_t D = static_cast<int32_t>(s.D), context = 2048;
  const size_t attention = s.kv_heads != 0
                               ? s.D * (2 * s.D + 2 * s.kv_heads * 128)
                               : s.D * 768 + s.heads * 192 * 768 + s.D * 320 + s.heads * 2 * 128 * 256 + s.D * s.D;
  const double unit = quant == Quant::kFp32 ? 4 : quant == Quant::kInt8 ? 1 : 0.5625;
  Builder b(static_cast<size_t>((static_cast<double>(attention) * unit + static_cast<double>(ffn_bytes(s, quant)) +
                                 static_cast<double>(s.E * s.D * 4)) *
                                    static_cast<double>(s.layers) * 1.06 +
                                static_cast<double>(vocabulary * s.D) * unit * 1.05 + 6.4e7));
  const uint32_t ids = b.value(Kind::kInput, DType::kInt64, {1, -1}),
                 positions = b.value(Kind::kInput, DType::kInt64, {-1}),
                 past = b.value(Kind::kInput, DType::kInt64, {1}), mask = b.value(Kind::kInput, DType::kInt64, {-1}),
                 kv_src = b.value(Kind::kInput, DType::kInt64, {64}),
                 logits_start = b.value(Kind::kInput, DType::kInt64, {1});
  const auto id = [](uint32_t v) { return static_cast<int32_t>(v); };
  const uint32_t table = b.matrix(quant, 1, vocabulary, s.D), ones = b.floats(std::vector<float>(s.D, 1.0f));
  const auto norm = [&](uint32_t x, uint32_t w, int32_t width) {
    return b.op(Opcode::kRmsNorm, {id(x), id(w)}, b.temporary(width), {Attr{.f = 1e-5}});
  };
  const auto linear = [&](uint32_t x, size_t rows, size_t cols) {
    const uint32_t w = b.matrix(quant, 1, rows, cols);
    return b.op(Opcode::kLinear, {id(x), id(w), -1}, b.temporary(static_cast<int32_t>(rows)), {Attr{.f = 1.0}});
  };
  const auto add = [&](uint32_t x, uint32_t y) { return b.op(Opcode::kAdd, {id(x), id(y)}, b.temporary(D)); };
  Random random;
  const size_t rope = s.kv_heads != 0 ? 128 : 64;
  std::vector<float> frequencies(rope / 2);
  for (size_t k = 0; k < frequencies.size(); ++k)
    frequencies[k] = std::pow(10000.0f, -2.0f * static_cast<float>(k) / static_cast<float>(rope));
  const uint32_t inv_freq = b.floats(frequencies), latent_norm = b.floats(std::vector<float>(256, 1.0f)),
                 q_norm = b.floats(std::vector<float>(768, 1.0f));
  std::vector<float> expert_norm(s.E, 1.0f);
  uint32_t h = b.op(Opcode::kEmbedding, {id(ids), id(table)}, b.temporary(D), {Attr{.f = 1.0}});
  for (size_t l = 0; l < s.layers; ++l) {
    uint32_t x = norm(h, ones, D), attended;
    const int32_t heads = static_cast<int32_t>(s.heads);
    if (s.kv_heads != 0) {
      const size_t kv = s.kv_heads * 128;
      const uint32_t q = linear(x, s.heads * 128, s.D), k = linear(x, kv, s.D), v = linear(x, kv, s.D);
      const uint32_t kc = b.value(Kind::kState, DType::kFloat, {context, static_cast<int32_t>(kv)}),
                     vc = b.value(Kind::kState, DType::kFloat, {context, static_cast<int32_t>(kv)});
      attended =
          b.op(Opcode::kGqaAttention,
               {id(q), id(k), id(v), id(inv_freq), id(kc), id(vc), id(positions), id(past), id(mask), id(kv_src)},
               b.temporary(heads * 128), {Attr{.i = heads}, Attr{.i = static_cast<int64_t>(s.kv_heads)}});
    } else {
      const uint32_t qa = norm(linear(x, 768, s.D), q_norm, 768), q = linear(qa, s.heads * 192, 768),
                     kv = linear(x, 320, s.D);
      const uint32_t absorb = b.matrix(quant, s.heads, 256, 128), expand = b.matrix(quant, s.heads, 128, 256);
      const uint32_t cache = b.value(Kind::kState, DType::kFloat, {context, 320});
      attended = b.op(Opcode::kMlaAttention,
                      {id(q), id(kv), id(latent_norm), id(absorb), id(expand), id(inv_freq), id(cache), id(positions),
                       id(past), id(mask), id(kv_src)},
                      b.temporary(heads * 128), {Attr{.i = heads}, Attr{.i = 128}, Attr{.f = 1e-6}});
    }
    h = add(h, linear(attended, s.D, s.heads * 128));
    x = norm(h, ones, D);
    std::vector<float> router(s.E * s.D);
    for (size_t e = 0; e < s.E; ++e)
      if (random.next() % 5 < 2)
        for (size_t k = 0; k < s.D; ++k) router[e * s.D + k] = random.uniform();
    const uint32_t w = b.ffn(quant, s.D, s.F, s.E, router, expert_norm, nullptr, nullptr);
    h = add(h, b.op(Opcode::kChunkSparseFfn, {id(x), id(w)}, b.temporary(D)));
  }
  h = norm(h, ones, D);
  b.op(Opcode::kLogits, {id(h), id(table), id(logits_start)},
       b.value(Kind::kOutput, DType::kFloat, {1, -1, static_cast<int32_t>(vocabulary)}), {Attr{.f = 1.0}});
  Runnable r;
  if (!r.open(b, options)) return;
  int64_t at = 0;
  const auto step = [&](int tokens, ReadStats* stats, double* wall) {
    std::vector<int64_t> id_rows(static_cast<size_t>(tokens)), position(static_cast<size_t>(tokens)),
        masks(static_cast<size_t>(tokens));
    for (int t = 0; t < tokens; ++t) {
      id_rows[static_cast<size_t>(t)] = 11 + t % 2 * 6;
      position[static_cast<size_t>(t)] = at + t;
      masks[static_cast<size_t>(t)] = t < 63 ? (int64_t{1} << (t + 1)) - 1 : -1;
    }
    r.input(0, id_rows);
    r.input(1, position);
    r.input(2, std::vector<int64_t>{at});
    r.input(3, masks);
    r.input(4, std::vector<int64_t>(64, -1));
    r.input(5, std::vector<int64_t>{tokens - 1});
    const auto begin = Clock::now();
    const bool ok = r.run(tokens, stats);
    *wall = std::chrono::duration<double>(Clock::now() - begin).count() * 1e6;
    return ok;
  };
  double wall;
  for (; at < (vocabulary < 1000 ? 64 : 512); at += 64) {  // something to attend to
    ReadStats stats;
    if (!step(64, &stats, &wall)) return;
  }
  const double active = (static_cast<double>(attention) * unit + static_cast<double>(ffn_bytes(s, quant)) * 0.2) *
                            static_cast<double>(s.layers) +
                        static_cast<double>(vocabulary * s.D) * unit;
  for (int tokens : vocabulary < 1000 ? std::vector<int>{1, 8} : std::vector<int>{1, 8, 32, 64}) {
    std::vector<double> ns, walls;
    ReadStats stats;
    for (int i = 0; i < 5; ++i) {
      stats = {};
      if (!step(tokens, &stats, &wall)) return;
      walls.push_back(wall);
    }
    if (!r.step->time(tokens, 7, &ns, nullptr).ok()) return;
    emit(
        "{\"step\": \"%s\", \"quant\": \"%s\", \"arithmetic\": \"%s\", \"T\": %d, \"threads\": %u, "
        "\"gpu_us\": %.1f, \"wall_us\": %.1f, "
        "\"tokens_per_s\": %.0f, \"share\": %.3f, \"barriers\": %d, "
        "\"bytes_at_one_token\": %.0f, \"gbs_at_one_token\": %.0f}",
        s.name, kNames[static_cast<int>(quant)], gpu::arithmetic_name(r.step->arithmetic()), tokens,
        r.step->device().limits().threads, median(ns) / 1e3,
        median(walls), tokens / median(walls) * 1e6,
        static_cast<double>(stats.experts_read) / static_cast<double>(stats.experts_total), r.step->barriers(), active,
        active / median(ns));
    std::vector<gpu::Step::Pass> passes;
    if (!r.step->profile(tokens, &passes).ok()) continue;
    emit("{\"step_passes_us\": {%s}, \"step\": \"%s\", \"quant\": \"%s\", \"arithmetic\": \"%s\", \"T\": %d}",
         pass_times(passes, 1).c_str(), s.name, kNames[static_cast<int>(quant)],
         gpu::arithmetic_name(r.step->arithmetic()), tokens);
  }
}

// What a dispatch behind a barrier costs when it has next to nothing to do.
void time_overhead(const gpu::StepOptions& options) {
  Builder b(1 << 20);
  uint32_t x = b.value(Kind::kInput, DType::kFloat, {-1, 64});
  const uint32_t w = b.floats(std::vector<float>(64, 1.0f));
  constexpr int kChain = 200;
  for (int i = 0; i < kChain; ++i)
    x = b.op(Opcode::kRmsNorm, {static_cast<int32_t>(x), static_cast<int32_t>(w)},
             i + 1 < kChain ? b.temporary(64) : b.value(Kind::kOutput, DType::kFloat, {-1, 64}), {Attr{.f = 1e-5}});
  Runnable r;
  if (!r.open(b, options)) return;
  r.input(0, std::vector<float>(64, 1.0f));
  ReadStats stats;
  std::vector<double> ns;
  if (!r.run(1, &stats) || !r.step->time(1, 9, &ns, nullptr).ok()) return;
  emit("{\"dispatch_overhead_us\": %.3f}", median(ns) / kChain / 1e3);
}

}  // namespace

int main(int argc, char** argv) {
  bool tiny = false, layers_only = false;
  for (int i = 2; i < argc; ++i) {
    if (std::strcmp(argv[i], "--tiny") == 0) tiny = true;
    if (std::strcmp(argv[i], "--layers") == 0) layers_only = true;
    if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) budget = std::atof(argv[++i]);
  }
  if (argc < 2 || (out_file = std::fopen(argv[1], "w")) == nullptr) {
    std::fprintf(stderr, "usage: gpu_bench OUT.json [--tiny | --layers] [--seconds N]\n");
    return 2;
  }
  start_time = Clock::now();
  gpu::StepOptions options;
  options.cpu_too = tiny;
  bool good = false;
  // Kept open to the end, so that all rows share it: drivers refuse after some tens of instances in a process.
  std::shared_ptr<gpu::Device> device;
  if (const Status s = gpu::Device::shared(tiny, &device); !s.ok()) {
    emit("{\"error\": \"%s\"}", s.message);
    return 1;
  }
  emit("{\"device\": \"%s\", \"identity\": \"%s\", \"binding_bytes\": %llu, \"threads\": \"%u/%u\"}", device->name(),
       device->identity().c_str(), static_cast<unsigned long long>(device->limits().binding_bytes),
       device->limits().threads, device->limits().wide_threads);
  gpu::StepOptions half = options;
  half.arithmetic = gpu::Arithmetic::kFp16;
  measure_peaks(*device, tiny);
  time_overhead(options);
  if (tiny) {
    good = check_layers(96, 40, 12, options);
    good = check_layers(96, 40, 12, half) && good;
    const Shape small{"tiny-gqa", 256, 32, 16, 2, 2, 1}, latent{"tiny-mla", 256, 64, 16, 2, 2, 0};
    for (Quant q : {Quant::kFp32, Quant::kInt8, Quant::kInt4}) {
      time_layers(small, q, options, 1e5);
      time_layers(small, q, half, 1e5);
      time_gated(small, q, options, 1e5);
      time_gated(small, q, half, 1e5);
      time_steps(small, q, 512, options);
      time_steps(latent, q, 512, options);
    }
    emit("{\"correct\": %s, \"seconds\": %.1f}", good ? "true" : "false", elapsed());
    return good ? 0 : 1;
  }
  if (!layers_only) good = check_layers(768, 64, 48, options) && check_layers(768, 64, 48, half);
  const Shape s28{"2.8B", 2048, 128, 128, 36, 16, 2}, s12{"1.2B", 1792, 128, 56, 35, 14, 0},
      s01{"0.1B", 768, 64, 48, 16, 6, 0};
  constexpr double kCold = 1.2e8;
  for (Quant q : {Quant::kFp32, Quant::kInt8, Quant::kInt4}) {
    time_layers(s28, q, options, kCold);
    time_layers(s28, q, half, kCold);
    time_gated(s28, q, options, 3e8);
    time_gated(s28, q, half, 3e8);
    emit("{\"seconds\": %.1f}", elapsed());
  }
  if (layers_only) return 0;
  time_steps(s28, Quant::kInt8, 73440, options);
  time_steps(s28, Quant::kInt8, 73440, half);
  emit("{\"seconds\": %.1f}", elapsed());
  time_steps(s12, Quant::kInt4, 73440, options);
  time_steps(s01, Quant::kFp32, 73440, options);
  // Other workgroups: the usual ones, and those of the passes that have few.
  const gpu::Limits usual = device->limits();
  for (const auto& [threads, wide] : {std::pair{128u, 128u}, std::pair{256u, 256u}})
    for (Quant q : {Quant::kFp32, Quant::kInt8}) {
      device->set_threads(threads, wide);
      time_layers(s28, q, options, kCold);
    }
  device->set_threads(usual.threads, usual.wide_threads);
  for (const Shape& s : {s12, s01})
    for (Quant q : {Quant::kInt8, Quant::kInt4, Quant::kFp32}) {
      time_layers(s, q, options, kCold);
      time_gated(s, q, options, 3e8);
    }
  emit("{\"correct\": %s, \"seconds\": %.1f}", good ? "true" : "false", elapsed());
  return good ? 0 : 1;
}
