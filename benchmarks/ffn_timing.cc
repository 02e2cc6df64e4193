// Times the chunk-sparse FFN operator alone, without Python and ExecuTorch, over weights that are in no cache.
//
//   ffn_timing [--kernels NAME,...] [--weights int8,int4] [--tokens 1,8,32] [--size D,F,E] [--layers N] [--rounds N]
//              [--threads N] [--json]
//
// The default is the layer of the 1.2B model: D 1792, F 128, E 56; 20 % of the experts are active at a token and 30 %
// in a chunk of 8. Every variant that the processor runs takes turns with reads of plain memory in one stream and in
// eight. Each result is first compared with a float64 loop over unpacked weights. Times are process CPU time of one
// layer (wall time with more than one thread): the median, and the least. Exit 0 done, 1 a result is wrong, 2 bad
// arguments.
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "random_layer.h"

using namespace blockffn;

namespace {

struct Options {
  std::vector<std::string> kernels, weights{"int8", "int4"};
  std::vector<int> tokens{1, 8, 32}, size{1792, 128, 56};
  int layers = 0, rounds = 15, threads = 1;
  bool json = false;
};

double now(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * 1e6 + t.tv_nsec * 1e-3;  // us
}

typedef uint64_t line __attribute__((vector_size(32), aligned(32)));

// Reads all of a buffer in `streams` places side by side.
uint64_t read_streams(const uint8_t* data, size_t bytes, int streams) {
  const size_t each = bytes / streams / 64 * 2;  // lines
  const line* p = reinterpret_cast<const line*>(data);
  line sum[8] = {};
  if (streams == 1) {
    for (size_t i = 0; i + 8 <= each; i += 8)
      for (int k = 0; k < 8; ++k) sum[k] ^= p[i + k];
  } else {
    for (size_t i = 0; i < each; i += 2)
      for (int k = 0; k < 8; ++k) sum[k] ^= p[k * each + i] ^ p[k * each + i + 1];
  }
  uint64_t all = 0;
  for (int k = 0; k < 8; ++k) all ^= sum[k][0] ^ sum[k][1] ^ sum[k][2] ^ sum[k][3];
  return all;
}

std::vector<std::string> split(const char* text) {
  std::vector<std::string> out(1);
  for (; *text != 0; ++text) {
    if (*text == ',')
      out.emplace_back();
    else
      out.back() += *text;
  }
  return out;
}

[[noreturn]] void usage(const char* why) {
  std::fprintf(stderr,
               "%s\nusage: ffn_timing [--kernels NAME,...] [--weights int8,int4] [--tokens 1,8,32] [--size D,F,E] "
               "[--layers N] [--rounds N] [--threads N] [--json]\n",
               why);
  std::exit(2);
}

Options parse(int argc, char** argv) {
  Options o;
  const auto ints = [](const char* text) {
    std::vector<int> out;
    for (const auto& s : split(text)) out.push_back(std::atoi(s.c_str()));
    return out;
  };
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--json") {
      o.json = true;
      continue;
    }
    if (++i == argc) usage("an option lacks its value");
    if (name == "--kernels")
      o.kernels = split(argv[i]);
    else if (name == "--weights")
      o.weights = split(argv[i]);
    else if (name == "--tokens")
      o.tokens = ints(argv[i]);
    else if (name == "--size")
      o.size = ints(argv[i]);
    else if (name == "--layers")
      o.layers = std::atoi(argv[i]);
    else if (name == "--rounds")
      o.rounds = std::atoi(argv[i]);
    else if (name == "--threads")
      o.threads = std::atoi(argv[i]);
    else
      usage("an option is unknown");
  }
  for (int t : o.tokens)
    if (t < 1 || t > kMaxTokens) usage("--tokens: 1 to 64");
  if (o.size.size() != 3 || o.size[0] % 32 != 0 || o.size[1] % 32 != 0 || o.size[2] < 1 || o.size[0] / o.size[2] < 4)
    usage("--size: D and F are multiples of 32, and D at least 4 E");
  if (o.rounds < 1 || o.threads < 1 || o.threads > 64 || o.layers < 0)
    usage("--rounds, --threads, --layers: too small or large");
  return o;
}

}  // namespace

int main(int argc, char** argv) {
  const Options o = parse(argc, argv);
  const int D = o.size[0], F = o.size[1], E = o.size[2];
  constexpr size_t kEvict = 160u << 20, kRead = 96u << 20;
  Buffer<uint8_t> evict(kEvict), plain(kRead);
  std::memset(evict.data, 1, kEvict);
  std::memset(plain.data, 1, kRead);
  Pool pool(o.threads);
  const Parallel parallel{o.threads > 1 ? Pool::run : nullptr, &pool, o.threads};
  volatile uint64_t sink = 0;
  struct Row {
    std::string kernels, weights;
    int tokens;
    double bytes, error;
    std::vector<double> us;
  };
  std::vector<Row> rows;
  std::vector<double> one, eight;
  for (const std::string& weights : o.weights) {
    if (weights != "int8" && weights != "int4") usage("--weights: int8 and int4");
    const Quant quant = weights == "int8" ? Quant::kInt8 : Quant::kInt4;
    const double layer_bytes = static_cast<double>(D) * F * E * 2 * (quant == Quant::kInt8 ? 1 : 0.5625);
    const int layers = o.layers > 0 ? o.layers : std::max(2, static_cast<int>(100e6 / layer_bytes));
    std::vector<std::unique_ptr<Layer>> stack;
    for (int i = 0; i < layers; ++i) stack.push_back(std::make_unique<Layer>(quant, D, F, E, i + 1));
    const size_t scratch_bytes = ffn_scratch(stack[0]->ffn, kMaxTokens);
    Buffer<uint8_t> scratch(scratch_bytes);
    std::memset(scratch.data, 0, scratch_bytes);
    std::vector<float> y(static_cast<size_t>(kMaxTokens) * D);
    for (int tokens : o.tokens) {
      const auto active = routing(E, tokens, 5);
      const auto x = inputs(*stack[0], active, 7);
      std::vector<bool> all(E);
      for (const auto& row : active)
        for (int e = 0; e < E; ++e) all[e] = all[e] || row[e];
      const int want_union = static_cast<int>(std::count(all.begin(), all.end(), true));
      const size_t first_row = rows.size();
      std::vector<const Kernels*> variants;
      for (int i = 0;; ++i) {
        bool supported = false;
        const Kernels* kernels = kernels_variant(i, &supported);
        if (kernels == nullptr) break;
        const bool named = std::find(o.kernels.begin(), o.kernels.end(), kernels->name) != o.kernels.end();
        if (!supported || (o.kernels.empty() ? std::string(kernels->name) == "portable" : !named)) continue;
        const Context ctx{kernels, parallel, scratch.data};
        int union_size = 0;
        const Status s = chunk_sparse_ffn(ctx, stack[0]->ffn, x.data(), tokens, y.data(), &union_size);
        double error = 0;
        for (int t : {0, tokens - 1})
          error = std::fmax(error, error_of(*stack[0], x.data() + static_cast<size_t>(t) * D, active[t],
                                            y.data() + static_cast<size_t>(t) * D));
        if (!s.ok() || union_size != want_union || !(error < 0.03)) {
          std::fprintf(stderr, "%s, %s, %d tokens: wrong: %s, union of %d (want %d), error %g\n", kernels->name,
                       weights.c_str(), tokens, s.message, union_size, want_union, error);
          return 1;
        }
        const double bytes =
            static_cast<double>(want_union) * (stack[0]->ffn.up_bytes + stack[0]->ffn.down_tile_bytes * (D / 8)) +
            stack[0]->ffn.router.group_bytes();
        rows.push_back({kernels->name, weights, tokens, bytes, error, {}});
        variants.push_back(kernels);
      }
      const clockid_t clock = o.threads > 1 ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID;
      for (int round = -1; round < o.rounds; ++round)
        for (size_t turn = 0; turn < variants.size() + 2; ++turn) {
          const size_t which = (turn + round + 1) % (variants.size() + 2);
          sink = sink + read_streams(evict.data, kEvict, 8);
          const double start = now(clock);
          if (which >= variants.size()) {
            const bool many = which > variants.size();
            sink = sink + read_streams(plain.data, kRead, many ? 8 : 1);
            if (round >= 0) (many ? eight : one).push_back(kRead / (now(clock) - start) * 1e-3);
            continue;
          }
          const Context ctx{variants[which], parallel, scratch.data};
          for (const auto& layer : stack) {
            int union_size = 0;
            (void)chunk_sparse_ffn(ctx, layer->ffn, x.data(), tokens, y.data(), &union_size);
          }
          const double us = (now(clock) - start) / layers;
          if (round >= 0) rows[first_row + which].us.push_back(us);
        }
    }
  }
  const auto median = [](std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v.empty() ? 0 : v[v.size() / 2];
  };
  const double peak = *std::max_element(eight.begin(), eight.end());
  std::fprintf(stderr, "read: 1 stream %.1f GB/s, 8 streams %.1f (best %.1f), one thread\n", median(one), median(eight),
               peak);
  for (const Row& row : rows)
    std::fprintf(stderr, "%-12s %s T=%-2d median %7.1f us, least %7.1f us: %5.1f GB/s, error %.4f\n",
                 row.kernels.c_str(), row.weights.c_str(), row.tokens, median(row.us),
                 *std::min_element(row.us.begin(), row.us.end()), row.bytes / median(row.us) * 1e-3, row.error);
  if (o.json) {
    std::printf("{\"read_1_stream_gbs\": %.2f, \"read_8_streams_gbs\": %.2f, \"threads\": %d, \"rows\": [", median(one),
                median(eight), o.threads);
    for (size_t i = 0; i < rows.size(); ++i)
      std::printf(
          "%s{\"kernels\": \"%s\", \"weights\": \"%s\", \"tokens\": %d, \"median_us\": %.1f, \"least_us\": %.1f, "
          "\"gbs\": %.2f, \"error\": %.5f}",
          i == 0 ? "" : ", ", rows[i].kernels.c_str(), rows[i].weights.c_str(), rows[i].tokens, median(rows[i].us),
          *std::min_element(rows[i].us.begin(), rows[i].us.end()), rows[i].bytes / median(rows[i].us) * 1e-3,
          rows[i].error);
    std::printf("]}\n");
  }
  return 0;
}
