// A sparse FFN with random weights in packed form, inputs that its router maps to chosen experts, what it must compute
// in float64, and a pool of threads. For programs that know nothing of Python.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "../runtime_delegates/kernels/ops.h"

namespace blockffn {

// Threads that take the numbers of a loop one by one, as ExecuTorch's pool hands them out.
class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 1; i < threads; ++i) threads_.emplace_back([this] { work(); });
  }
  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ending_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }
  static void run(void* self, int64_t n, void (*task)(void*, int64_t), void* context) {
    static_cast<Pool*>(self)->loop(n, task, context);
  }

 private:
  void loop(int64_t n, void (*task)(void*, int64_t), void* context) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = task, context_ = context, n_ = n, next_ = 0, busy_ = static_cast<int>(threads_.size()), ++generation_;
    }
    wake_.notify_all();
    for (int64_t i; (i = next_++) < n;) task(context, i);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
  }
  void work() {
    for (uint64_t seen = 0;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return ending_ || generation_ != seen; });
      if (ending_) return;
      seen = generation_;
      lock.unlock();
      for (int64_t i; (i = next_++) < n_;) task_(context_, i);
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  void (*task_)(void*, int64_t) = nullptr;
  void* context_ = nullptr;
  int64_t n_ = 0;
  std::atomic<int64_t> next_{0};
  int busy_ = 0;
  uint64_t generation_ = 0;
  bool ending_ = false;
};

// Small pages, as of a mapped file.
template <class T>
struct Buffer {
  T* data;
  size_t n;
  explicit Buffer(size_t count) : n(count) {
    void* p = mmap(nullptr, n * sizeof(T) + 64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
      std::fprintf(stderr, "no memory for %zu bytes\n", n * sizeof(T));
      std::exit(1);
    }
    data = static_cast<T*>(p);
  }
  ~Buffer() { munmap(data, n * sizeof(T) + 64); }
  Buffer(const Buffer&) = delete;
};

inline uint16_t half_bits(float f) {  // of a normal half
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  return static_cast<uint16_t>((bits >> 13) - (112u << 10));
}

// One packed layer with random weights, in the format of export/pack.py.
struct Layer {
  Quant quant;
  int hidden, width, experts;
  size_t bytes;
  std::unique_ptr<Buffer<uint8_t>> data;
  Ffn ffn;

  static void put_int8_row_sums(uint8_t* tile, int cols) {
    for (int r = 0; r < kTileRows; ++r) {
      int32_t sum = 0;
      for (int k = 0; k < cols; ++k) sum += static_cast<int8_t>(tile[k / 8 * 64 + r * 8 + k % 8]);
      std::memcpy(tile + static_cast<size_t>(cols) * 8 + 16 + 4 * r, &sum, 4);
    }
  }
  static void fill_tile(uint8_t* tile, Quant quant, int cols, std::mt19937_64& random) {
    const size_t body = static_cast<size_t>(cols) * (quant == Quant::kInt8 ? 8 : 4);
    for (size_t i = 0; i < body; i += 8) {
      const uint64_t v = random();
      std::memcpy(tile + i, &v, 8);
    }
    const int scales = quant == Quant::kInt8 ? 8 : cols / 32 * 8;
    const float unit = 1 / std::sqrt(static_cast<float>(cols)) / (quant == Quant::kInt8 ? 74 : 4.6f);
    for (int i = 0; i < scales; ++i) {
      const uint16_t h = half_bits(unit * (0.75f + (random() & 255) / 512.0f));
      std::memcpy(tile + body + 2 * i, &h, 2);
    }
    if (quant == Quant::kInt8) put_int8_row_sums(tile, cols);
  }

  // Expert e's router row is +-127 on its own columns [e * span, (e + 1) * span): a token that has the same signs there
  // uses it, a token with the opposite ones does not.
  int span() const { return hidden / experts; }
  static int sign(int e, int k) { return ((e * 2654435761u + k * 40503u) >> 7 & 1) != 0 ? 1 : -1; }

  Layer(Quant q, int d, int f, int e, uint64_t seed) : quant(q), hidden(d), width(f), experts(e) {
    std::mt19937_64 random(seed);
    const int router_cols = static_cast<int>(padded_cols(Quant::kInt8, d)), router_tiles = (e + 7) / 8;
    const size_t router_tile = tile_bytes(Quant::kInt8, d), router = 64 + router_tile * router_tiles;
    const size_t norm_at = 128 + router, base = round_up(norm_at + 4 * e, 16384);
    const size_t up = tile_bytes(q, d), down = tile_bytes(q, f);
    const size_t region = up * (f / 8) + down * (d / 8), stride = round_up(region, 16384);
    bytes = base + stride * e;
    data = std::make_unique<Buffer<uint8_t>>(bytes);
    uint8_t* p = data->data;
    const auto put = [&](size_t at, auto v) { std::memcpy(p + at, &v, sizeof v); };
    std::memcpy(p, "BFFF", 4);
    put(4, kPackVersion);
    p[6] = static_cast<uint8_t>(q), p[7] = 1;
    put(8, uint32_t(d)), put(12, uint32_t(f)), put(16, uint32_t(e));
    put(20, 1e-5f), put(24, 1.0f), put(28, 1.0f);
    put(32, uint64_t{128}), put(40, uint64_t{norm_at}), put(48, uint64_t{base}), put(56, uint64_t{stride});
    std::memcpy(p + 128, "BFMX", 4);
    put(132, kPackVersion);
    p[134] = 1;
    put(136, uint32_t{1}), put(140, uint32_t(e)), put(144, uint32_t(d));
    for (int t = 0; t < router_tiles; ++t) {
      uint8_t* tile = p + 128 + 64 + router_tile * t;
      for (int r = 0; r < 8 && t * 8 + r < e; ++r) {
        for (int k = 0; k < span(); ++k) {
          const int column = (t * 8 + r) * span() + k;
          tile[column / 8 * 64 + r * 8 + column % 8] = static_cast<uint8_t>(127 * sign(t * 8 + r, k));
        }
        const uint16_t h = half_bits(0.01f);
        std::memcpy(tile + static_cast<size_t>(router_cols) * 8 + 2 * r, &h, 2);
      }
      put_int8_row_sums(tile, router_cols);
    }
    for (int i = 0; i < e; ++i) put(norm_at + 4 * i, i % 5 == 4 ? -0.9f : 1.1f);
    for (int i = 0; i < e; ++i) {
      for (int t = 0; t < f / 8; ++t) fill_tile(p + base + stride * i + up * t, q, d, random);
      for (int t = 0; t < d / 8; ++t) fill_tile(p + base + stride * i + up * (f / 8) + down * t, q, f, random);
    }
    const Status s = parse_ffn(p, bytes, &ffn);
    if (!s.ok()) {
      std::fprintf(stderr, "%s\n", s.message);
      std::exit(1);
    }
  }
};

// Active experts [T][E]: E * 0.2 at a token; every token swaps some, so that the union grows as 1 - 0.8 *
// (0.7/0.8)^((T-1)/7).
inline std::vector<std::vector<bool>> routing(int experts, int tokens, uint64_t seed) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::vector<int> order(experts);
  for (int i = 0; i < experts; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);
  const int k = std::max(1, static_cast<int>(std::lround(experts * 0.2)));
  std::vector<int> active(order.begin(), order.begin() + k), used = active;
  int fresh = k;
  std::vector<std::vector<bool>> out;
  for (int t = 0; t < tokens; ++t) {
    const int target = std::max(k, static_cast<int>(std::lround(experts * (1 - 0.8 * std::pow(0.875, t / 7.0)))));
    for (; t > 0 && fresh < target; ++fresh) {
      active[random() % k] = order[fresh];
      used.push_back(order[fresh]);
    }
    if (t > 0 && random() % 2 == 0) {  // one returns
      const int back = used[random() % used.size()];
      if (std::find(active.begin(), active.end(), back) == active.end()) active[random() % k] = back;
    }
    std::vector<bool> row(experts);
    for (int e : active) row[e] = true;
    out.push_back(row);
  }
  return out;
}

inline std::vector<float> inputs(const Layer& layer, const std::vector<std::vector<bool>>& active, uint64_t seed) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::uniform_real_distribution<float> size(0.2f, 1.8f);
  std::vector<float> x(active.size() * layer.hidden);
  for (size_t t = 0; t < active.size(); ++t)
    for (int c = 0; c < layer.hidden; ++c) {
      const int e = c / layer.span(), k = c % layer.span();
      const int sign = e >= layer.experts ? 1 : active[t][e] ? Layer::sign(e, k) : -Layer::sign(e, k);
      x[t * layer.hidden + c] = sign * size(random);
    }
  return x;
}

inline double half_value(const uint8_t* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  return std::ldexp(1024 + (h & 1023), (h >> 10 & 31) - 25) * (h >> 15 ? -1 : 1);
}

inline double weight(const uint8_t* tiles, Quant quant, int cols, int row, int k) {
  const uint8_t* tile = tiles + tile_bytes(quant, cols) * (row / 8);
  const int r = row % 8;
  if (quant == Quant::kInt8)
    return static_cast<int8_t>(tile[k / 8 * 64 + r * 8 + k % 8]) *
           half_value(tile + static_cast<size_t>(cols) * 8 + 2 * r);
  const int g = k / 32, i = k % 32, byte = tile[g * 128 + i % 16 / 8 * 64 + r * 8 + i % 8];
  return ((i < 16 ? byte & 15 : byte >> 4) - 8) * half_value(tile + static_cast<size_t>(cols) * 4 + (g * 8 + r) * 2);
}

// Relative RMS error of one token against float64 without quantized activations.
inline double error_of(const Layer& layer, const float* x, const std::vector<bool>& active, const float* y) {
  const int D = layer.hidden, F = layer.width, E = layer.experts;
  std::vector<double> scores(E), want(D);
  double squares = 0;
  for (int e = 0; e < E; ++e) {
    if (!active[e]) continue;
    for (int k = 0; k < layer.span(); ++k) scores[e] += x[e * layer.span() + k] * Layer::sign(e, k);
    squares += scores[e] * scores[e];
  }
  const double unit =
      127 * half_value(reinterpret_cast<const uint8_t*>(layer.ffn.router.tiles) + padded_cols(Quant::kInt8, D) * 8);
  const double norm = 1 / std::sqrt(squares * unit * unit / E + 1e-5);
  for (int e = 0; e < E; ++e) {
    if (!active[e]) continue;
    const double gate = scores[e] * unit * norm * (e % 5 == 4 ? -0.9f : 1.1f);
    for (int f = 0; f < F; ++f) {
      double h = 0;
      for (int k = 0; k < D; ++k) h += weight(layer.ffn.up(e), layer.quant, D, f, k) * x[k];
      h = gate * h / (1 + std::exp(-h));
      for (int d = 0; d < D; ++d) want[d] += h * weight(layer.ffn.down(e), layer.quant, F, d, f);
    }
  }
  double off = 0, size = 0;
  for (int d = 0; d < D; ++d) off += (y[d] - want[d]) * (y[d] - want[d]), size += want[d] * want[d];
  return std::sqrt(off / size);
}

}  // namespace blockffn
