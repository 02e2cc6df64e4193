// The operators on pools of 1 to 8 threads: the same bits as without one, whatever the variant, and nothing written
// outside the output. Two callers share the weights. Built with ThreadSanitizer, AddressSanitizer and UBSan by
// test_threads.py.
//
//   threads_test [--plant race|cut|outside]
//
// --plant breaks something on purpose, which this program or its sanitizer must notice. Prints one JSON line; exit 0
// right, 1 wrong, 2 bad arguments.
#include <string>

#include "../../benchmarks/random_layer.h"

using namespace blockffn;

namespace {

constexpr float kGuardValue = 1.25e30f;
constexpr size_t kGuard = 32;
std::atomic<long> checks{0};
std::string fault;
int raced = 0;  // written by all threads, if a race is planted

[[noreturn]] void fail(const Kernels& kernels, const char* what, int threads, int tokens) {
  std::fprintf(stderr, "%s: %s, %d threads, %d tokens\n", kernels.name, what, threads, tokens);
  std::exit(1);
}

using Floats = std::vector<float>;

Floats guarded(size_t n) { return Floats(n + 2 * kGuard, kGuardValue); }

bool guards_hold(const Floats& y) {
  for (size_t i = 0; i < kGuard; ++i)
    if (y[i] != kGuardValue || y[y.size() - 1 - i] != kGuardValue) return false;
  return true;
}

struct Scratch64 {
  std::vector<uint8_t> bytes;
  explicit Scratch64(size_t n) : bytes(n + 64) {}
  uint8_t* data() { return bytes.data() + -reinterpret_cast<uintptr_t>(bytes.data()) % 64; }
};

// Everything that one caller computes from the same inputs: FFN, a linear layer, attention over a cache.
std::vector<Floats> compute(const Kernels& kernels, const Layer& layer, const Parallel& parallel, int tokens) {
  const int D = layer.hidden, E = layer.experts;
  const auto active = routing(E, tokens, 3);
  const Floats x = inputs(layer, active, 11);
  std::vector<Floats> out;
  {
    Scratch64 scratch(ffn_scratch(layer.ffn, tokens));
    out.push_back(guarded(static_cast<size_t>(tokens) * D));
    int size = 0;
    const Status s = chunk_sparse_ffn({&kernels, parallel, scratch.data()}, layer.ffn, x.data(), tokens,
                                      out.back().data() + kGuard, &size);
    if (!s.ok() || size < 1) fail(kernels, s.message, parallel.threads, tokens);
    out.push_back(guarded(static_cast<size_t>(tokens) * D));
    const Status all = chunk_sparse_ffn({&kernels, parallel, scratch.data(), true}, layer.ffn, x.data(), tokens,
                                        out.back().data() + kGuard, &size);
    if (!all.ok() || size != E) fail(kernels, "not all experts were computed", parallel.threads, tokens);
    if (fault != "cut" && out.back() != out.front())
      fail(kernels, "all experts give another result", parallel.threads, tokens);
    if (fault == "outside") out.back()[kGuard - 1] = 0;
  }
  {
    Scratch64 scratch(linear_scratch(layer.ffn.router, tokens));
    out.push_back(guarded(static_cast<size_t>(tokens) * E));
    linear({&kernels, parallel, scratch.data()}, layer.ffn.router, nullptr, 0.5f, x.data(), tokens, 0,
           out.back().data() + kGuard);
  }
  for (const bool int8_cache : {false, true}) {
    constexpr int kHeads = 6, kKvHeads = 2, kDim = 32, kPast = 37;
    const Floats inv_freq(kDim / 2, 0.25f);
    const GqaWeights w{inv_freq.data(), kHeads, kKvHeads, kDim, int8_cache};
    Scratch64 scratch(gqa_scratch(w, tokens));
    Floats cache[2];
    for (auto& values : cache)
      for (int i = 0; i < (kPast + tokens) * kKvHeads * kDim; ++i)
        values.push_back(static_cast<float>(i * 37 % 101) / 64 - 1);
    if (int8_cache) {  // as floats, more than it needs
      const Floats rows = cache[0];
      for (auto& values : cache)
        for (int row = 0; row < kPast; ++row)
          w.cache(values.data()).write(kernels, row, rows.data() + row * kKvHeads * kDim);
    }
    Floats q;
    for (int i = 0; i < tokens * kHeads * kDim; ++i) q.push_back(x[i % x.size()]);
    std::vector<int64_t> positions, mask, source(kMaxTokens, -1);
    for (int t = 0; t < tokens; ++t) {
      positions.push_back(kPast + t);
      mask.push_back(static_cast<int64_t>(t == 63 ? ~uint64_t{0} : (uint64_t{2} << t) - 1));
    }
    out.push_back(guarded(q.size()));
    gqa_attention({&kernels, parallel, scratch.data()}, w,
                  {tokens, kPast, positions.data(), mask.data(), source.data()}, q.data(), x.data(), x.data(),
                  cache[0].data(), cache[1].data(), out.back().data() + kGuard);
  }
  for (const Floats& y : out) {
    if (!guards_hold(y)) fail(kernels, "wrote outside its output", parallel.threads, tokens);
    ++checks;
  }
  return out;
}

// The honest kernels, and tiles whose result depends on how many are cut off for one item.
const Kernels* honest;
void cut_tiles(const TileArgs& a) {
  honest->tiles_int8(a);
  if (a.tile_count == 40) a.y[0][0] *= 1.0001f;  // all rows of an output in one item
}

void run_racing(void* pool, int64_t n, void (*task)(void*, int64_t), void* context) {
  struct Both {
    void (*task)(void*, int64_t);
    void* context;
  } both{task, context};
  Pool::run(
      pool, n,
      [](void* b, int64_t i) {
        if (fault == "race") ++raced;
        static_cast<Both*>(b)->task(static_cast<Both*>(b)->context, i);
      },
      &both);
}

void check(const Kernels& kernels, const Layer& layer, int threads) {
  Pool pool(threads);
  const Parallel parallel{run_racing, &pool, threads};
  for (const int tokens : {1, 7, 64}) {
    const auto want = compute(kernels, layer, Parallel{}, tokens), got = compute(kernels, layer, parallel, tokens);
    for (size_t i = 0; i < want.size(); ++i)
      for (size_t k = 0; k < want[i].size(); ++k)
        if (!(want[i][k] == got[i][k]))
          fail(kernels, "results depend on the threads", threads, tokens);  // NaN is wrong
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--plant") fault = argv[2];
  if (argc != 1 && fault != "race" && fault != "cut" && fault != "outside") {
    std::fprintf(stderr, "usage: threads_test [--plant race|cut|outside]\n");
    return 2;
  }
  const Layer layers[] = {{Quant::kInt8, 320, 64, 10, 1}, {Quant::kInt4, 320, 64, 10, 2}};
  std::string names;
  for (int i = 0;; ++i) {
    bool supported = false;
    const Kernels* variant = kernels_variant(i, &supported);
    if (variant == nullptr) break;
    if (!supported) continue;
    names += (names.empty() ? "\"" : ", \"") + std::string(variant->name) + "\"";
    Kernels kernels = *variant;
    honest = variant;
    if (fault == "cut") kernels.tiles_int8 = cut_tiles;
    for (const Layer& layer : layers) {
      for (int threads = 1; threads <= 8; ++threads) check(kernels, layer, threads);
      std::thread other([&] { check(kernels, layer, 2); });  // another caller of the same weights
      check(kernels, layer, 3);
      other.join();
    }
  }
  std::printf("{\"variants\": [%s], \"checks\": %ld}\n", names.c_str(), checks.load());
  return 0;
}
