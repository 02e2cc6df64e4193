// Checks every kernel variant that this processor runs against golden cases.
//
//   kernels_test CASES [--plant FAULT]
//
// CASES is a directory of files written by test_arm_kernels.py: inputs, packed tiles, float64 results and the bound of every
// element. Buffers end at a page that may not be touched, and outputs lie between guard values. A token's result must not
// depend on its chunk, and the variants of one processor family must agree to the bit. --plant breaks the
// kernels on purpose: the checks must then fail. Prints one JSON line; exit 0 right, 1 wrong, 2 bad arguments.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../../runtime_delegates/kernels/packed.h"

using namespace blockffn;

namespace {

// An array that ends where its page does; the next page faults.
template <class T>
class Array {
 public:
  explicit Array(size_t n) : n_(n) {
    const size_t page = sysconf(_SC_PAGESIZE);
    used_ = round_up(n * sizeof(T) + page, page);
    base_ = static_cast<uint8_t*>(mmap(nullptr, used_ + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || mprotect(base_ + used_, page, PROT_NONE) != 0) std::abort();
    mapped_ = used_ + page;
  }
  Array(Array&& other) noexcept : n_(other.n_), used_(other.used_), mapped_(other.mapped_), base_(other.base_) {
    other.base_ = nullptr;
  }
  ~Array() {
    if (base_ != nullptr) munmap(base_, mapped_);
  }
  T* data() { return reinterpret_cast<T*>(base_ + used_ - n_ * sizeof(T)); }
  T& operator[](size_t i) { return data()[i]; }
  size_t size() const { return n_; }

 private:
  size_t n_, used_, mapped_;
  uint8_t* base_;
};

struct Reader {
  std::ifstream file;
  template <class T>
  Array<T> array(size_t n) {
    Array<T> out(n);
    if (n > 0 && !file.read(reinterpret_cast<char*>(out.data()), n * sizeof(T))) std::abort();
    return out;
  }
  uint32_t number() { return array<uint32_t>(1)[0]; }
};

// The rows of one precision, multiplied; see test_arm_kernels.py for how it is made.
struct Case {
  std::string name;
  Quant quant;
  int rows, cols, tokens, padded, tiles;
  size_t tile_bytes;
  Array<uint8_t> weights;
  std::vector<Array<float>> x;
  Array<int8_t> q;
  Array<float> scale;
  Array<int32_t> starts;
  Array<float> factor;
  Array<double> want, bound;
};

Case read_case(const std::filesystem::path& path) {
  Reader in{std::ifstream(path, std::ios::binary)};
  const auto quant = static_cast<Quant>(in.number());
  const int rows = in.number(), cols = in.number(), tokens = in.number();
  const size_t bytes = tile_bytes(quant, cols);
  const int tiles = (rows + kTileRows - 1) / kTileRows, padded = static_cast<int>(padded_cols(quant, cols));
  auto weights = in.array<uint8_t>(bytes * tiles);
  std::vector<Array<float>> x;
  for (int t = 0; t < tokens; ++t) x.push_back(in.array<float>(cols));
  const size_t n = static_cast<size_t>(tokens), integer = quant == Quant::kFp32 ? 0 : 1;
  auto q = in.array<int8_t>(n * padded * integer);
  auto scale = in.array<float>(n * integer);
  auto starts = in.array<int32_t>(quant == Quant::kInt4 ? n * padded / kGroupCols : 0);
  auto factor = in.array<float>(n);
  auto want = in.array<double>(n * rows);
  auto bound = in.array<double>(n * rows);
  return {path.stem(), quant, rows, cols, tokens, padded, tiles, bytes, std::move(weights), std::move(x), std::move(q),
          std::move(scale), std::move(starts), std::move(factor), std::move(want), std::move(bound)};
}

long checks = 0;
std::string context;

void expect(bool ok, const char* what, double got = 0, double want = 0) {
  ++checks;
  if (ok) return;
  std::fprintf(stderr, "%s: %s (got %.9g, want %.9g)\n", context.c_str(), what, got, want);
  std::exit(1);
}

bool same(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b)); }

constexpr int kGuard = 24;
constexpr float kGuardValue = 1.25e30f;
float before(int t, int n) { return static_cast<float>((t * 31 + n * 7) % 17) - 8; }  // what an accumulating call adds to

using Rows = std::vector<std::vector<float>>;

// One call for the tokens [first, first + tokens) and the first `tiles` tiles. Checks the guards.
Rows multiply(const Kernels& kernels, Case& c, std::vector<Array<int8_t>>& q, int first, int tokens, int tiles,
              bool accumulate) {
  const int valid = std::min(c.rows, tiles * kTileRows);
  std::vector<Array<float>> out;
  std::vector<const void*> x;
  std::vector<const int32_t*> starts;
  std::vector<float> factor;
  std::vector<float*> y;
  for (int t = first; t < first + tokens; ++t) {
    out.emplace_back(kGuard + valid + (t % 2 == 0 ? kGuard : 0));  // every other row ends at the forbidden page
    std::fill_n(out.back().data(), out.back().size(), kGuardValue);
    y.push_back(out.back().data() + kGuard);
    if (accumulate)
      for (int n = 0; n < valid; ++n) y.back()[n] = before(t, n);
    x.push_back(c.quant == Quant::kFp32 ? static_cast<const void*>(c.x[t].data()) : q[t].data());
    starts.push_back(c.quant == Quant::kInt4 ? c.starts.data() + t * (c.padded / kGroupCols) : nullptr);
    factor.push_back(c.quant == Quant::kFp32 ? c.factor[t] : c.factor[t] * c.scale[t]);
  }
  TileArgs args{};
  args.tiles = c.weights.data();
  args.tile_bytes = c.tile_bytes;
  args.tile_count = tiles;
  args.rows = c.rows;
  args.cols = c.cols;
  args.tokens = tokens;
  args.x = x.data();
  args.starts = starts.data();
  args.factor = factor.data();
  args.y = y.data();
  args.accumulate = accumulate;
  (c.quant == Quant::kFp32 ? kernels.tiles_fp32 : c.quant == Quant::kInt8 ? kernels.tiles_int8 : kernels.tiles_int4)(args);
  Rows result;
  for (auto& row : out) {
    for (size_t i = 0; i < row.size(); ++i)
      if (i < kGuard || i >= static_cast<size_t>(kGuard + valid))
        expect(same(row[i], kGuardValue), "wrote outside its rows", row[i], kGuardValue);
    result.emplace_back(row.data() + kGuard, row.data() + kGuard + valid);
  }
  return result;
}

// Returns all results of one variant, to compare variants with.
Rows check_tiles(const Kernels& kernels, Case& c) {
  std::vector<Array<int8_t>> q;
  for (int t = 0; t < c.tokens && c.quant != Quant::kFp32; ++t) {
    q.emplace_back(c.padded);
    float scale = -1;
    Array<int32_t> starts(c.quant == Quant::kInt4 ? c.padded / kGroupCols : 0);
    kernels.quantize_row(c.x[t].data(), c.cols, c.padded, q[t].data(), &scale, starts.size() > 0 ? starts.data() : nullptr);
    expect(same(scale, c.scale[t]), "quantize_row: scale", scale, c.scale[t]);
    for (int k = 0; k < c.padded; ++k) {
      const int want = c.q[static_cast<size_t>(t) * c.padded + k];
      expect(q[t][k] == want, "quantize_row: q", q[t][k], want);
    }
    for (size_t g = 0; g < starts.size(); ++g)
      expect(starts[g] == c.starts[t * starts.size() + g], "quantize_row: starts", starts[g], c.starts[t * starts.size() + g]);
  }
  Rows all;
  for (const bool accumulate : {false, true})
    for (int tiles = c.tiles; tiles >= std::max(1, c.tiles - 1); --tiles) {
      Rows alone;
      for (int t = 0; t < c.tokens; ++t) {
        alone.push_back(multiply(kernels, c, q, t, 1, tiles, accumulate)[0]);
        for (size_t n = 0; n < alone[t].size(); ++n) {
          const size_t i = static_cast<size_t>(t) * c.rows + n;
          const double want = c.want[i] + (accumulate ? before(t, n) : 0);
          const double bound = c.bound[i] + (accumulate ? std::ldexp(std::fabs(want) + c.bound[i], -24) : 0);
          const double off = std::fabs(alone[t][n] - want);
          const bool both_nan = std::isnan(want) && std::isnan(alone[t][n]);
          expect(off <= bound || both_nan, "tiles: result", alone[t][n], want);
        }
      }
      for (const int tokens : {2, 3, 4, 5, 6, 7, 8, 9, 63, 64}) {
        if (tokens > c.tokens) break;
        const int first = c.tokens - tokens;
        const Rows chunk = multiply(kernels, c, q, first, tokens, tiles, accumulate);
        for (int t = 0; t < tokens; ++t)
          for (size_t n = 0; n < chunk[t].size(); ++n)
            expect(same(chunk[t][n], alone[first + t][n]), "tiles: a token depends on its chunk", chunk[t][n],
                   alone[first + t][n]);
      }
      all.insert(all.end(), alone.begin(), alone.end());
    }
  return all;
}

// Golden values of dot, axpy, scale and silu. One record: n, a, x[n], y[n], then (value, bound) of dot and of every
// element of axpy, scale and silu.
std::vector<float> check_vectors(const Kernels& kernels, const std::filesystem::path& path) {
  Reader in{std::ifstream(path, std::ios::binary)};
  std::vector<float> all;
  for (int n = 1; n < 6; ++n)
    for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {  // damage must stay visible
      Array<float> x(n);
      x[n - 1] = bad;
      kernels.silu(x.data(), n);
      expect(!std::isfinite(x[n - 1]), "silu hides a value that is not finite", x[n - 1], bad);
    }
  for (uint32_t records = in.number(); records > 0; --records) {
    const int n = in.number();
    const float a = in.array<float>(1)[0];
    auto x = in.array<float>(n), y = in.array<float>(n);
    auto dot = in.array<double>(2), axpy = in.array<double>(2 * n), scale = in.array<double>(2 * n),
         silu = in.array<double>(2 * n);
    const auto near = [&](float got, const double* want, const char* what) {
      expect(std::fabs(got - want[0]) <= want[1], what, got, want[0]);
      all.push_back(got);
    };
    const float *query = x.data(), *key = y.data();
    float score;
    kernels.dots(&query, 1, &key, 1, n, &score);
    near(score, dot.data(), "dots");
    for (const bool at_page_end : {false, true}) {
      const auto run = [&](const Array<float>& source, auto function, Array<double>& want, const char* what) {
        Array<float> out(kGuard + n + (at_page_end ? 0 : kGuard));
        std::fill_n(out.data(), out.size(), kGuardValue);
        float* values = out.data() + kGuard;
        std::copy_n(const_cast<Array<float>&>(source).data(), n, values);
        function(values);
        for (int i = 0; i < n; ++i) near(values[i], want.data() + 2 * i, what);
        for (size_t i = 0; i < out.size(); ++i)
          if (i < kGuard || i >= static_cast<size_t>(kGuard + n)) expect(same(out[i], kGuardValue), "wrote outside its values");
        return std::vector<float>(values, values + n);
      };
      run(y, [&](float* v) { kernels.axpy(a, x.data(), v, n); }, axpy, "axpy");
      run(y, [&](float* v) { kernels.scale(a, v, n); }, scale, "scale");
      const auto whole = run(x, [&](float* v) { kernels.silu(v, n); }, silu, "silu");
      for (int split = 1; split < std::min(n, 6); ++split) {  // the same bits wherever the values end
        auto parts = std::vector<float>(x.data(), x.data() + n);
        kernels.silu(parts.data(), split);
        kernels.silu(parts.data() + split, n - split);
        for (int i = 0; i < n; ++i) expect(same(parts[i], whole[i]), "silu depends on its place", parts[i], whole[i]);
      }
    }
  }
  return all;
}

// The functions for attention: each result as one query with one key gives it, to the bit, and exp against double.
std::vector<float> check_keys(const Kernels& kernels) {
  std::vector<float> all;
  for (const int n : {1, 3, 4, 15, 16, 17, 63, 64, 65, 192, 323})
    for (int count = 1; count <= kKeyBlock; ++count) {
      constexpr int kQueries = 3;
      Array<float> weights(count), scores(kQueries * kKeyBlock);
      std::vector<Array<float>> queries, rows;
      std::vector<const float*> of_query, at;
      for (int q = 0; q < kQueries; ++q) {
        queries.emplace_back(n);
        for (int i = 0; i < n; ++i) queries[q][i] = before(n + q, i) / 3;
      }
      for (int r = 0; r < count; ++r) {
        rows.emplace_back(n);
        for (int i = 0; i < n; ++i) rows[r][i] = before(r + 1, i) / 7;
        weights[r] = static_cast<float>(r + 1) / 16;
      }
      for (auto& query : queries) of_query.push_back(query.data());
      for (auto& row : rows) at.push_back(row.data());
      std::fill_n(scores.data(), scores.size(), kGuardValue);
      kernels.dots(of_query.data(), kQueries, at.data(), count, n, scores.data());
      for (int q = 0; q < kQueries; ++q)
        for (int r = 0; r < kKeyBlock; ++r) {
          const float got = scores[q * kKeyBlock + r];
          if (r >= count) {
            expect(same(got, kGuardValue), "dots wrote behind its keys");
            continue;
          }
          double want = 0, size = 0;
          for (int i = 0; i < n; ++i)
            want += static_cast<double>(queries[q][i]) * rows[r][i], size += std::fabs(queries[q][i] * rows[r][i]);
          expect(std::fabs(got - want) <= std::ldexp(n * size, -24), "dots", got, want);
          float alone;
          kernels.dots(&of_query[q], 1, &at[r], 1, n, &alone);
          expect(same(got, alone), "dots depends on the others", got, alone);
          all.push_back(got);
        }
      Array<float> y(n), one_by_one(n);
      for (int i = 0; i < n; ++i) y[i] = one_by_one[i] = before(3, i);
      kernels.weighted_sum(weights.data(), at.data(), count, y.data(), n);
      for (int r = 0; r < count; ++r) kernels.axpy(weights[r], at[r], one_by_one.data(), n);
      for (int i = 0; i < n; ++i) {
        expect(same(y[i], one_by_one[i]), "weighted_sum differs from axpy", y[i], one_by_one[i]);
        all.push_back(y[i]);
      }
    }
  for (int i = 0; i < 1376; ++i)  // from 0 to -110 below the largest score so far, in blocks of every size
    {
      const int count = i % kKeyBlock + 1;
      Array<float> scores(count);
      float max = 3.25f, sum = 2;
      double total = 2;
      for (int k = 0; k < count; ++k) scores[k] = (max - static_cast<float>(i * kKeyBlock + k) / 200) / 0.25f;
      std::vector<float> x(scores.data(), scores.data() + count);
      const float shrink = kernels.softmax(scores.data(), count, 0.25f, &max, &sum);
      expect(same(shrink, 1) && same(max, 3.25f), "softmax shrinks without a reason", shrink, max);
      for (int k = 0; k < count; ++k) {
        const double want = std::exp(static_cast<double>(x[k] * 0.25f - max));
        total += want;
        expect(std::fabs(scores[k] - want) <= std::ldexp(want, -22) + std::ldexp(1.0, -126), "softmax", scores[k], want);
        all.push_back(scores[k]);
      }
      expect(std::fabs(sum - total) <= std::ldexp(total, -20), "softmax: sum", sum, total);
      all.push_back(sum);
      std::copy(x.begin(), x.end(), scores.data());
      max = -1.5f, sum = 2;
      const float factor = kernels.softmax(scores.data(), count, 0.25f, &max, &sum);
      const double peak = std::fmax(-1.5, x[0] * 0.25), want = std::exp(-1.5 - peak);
      expect(same(max, static_cast<float>(peak)), "softmax: max", max, peak);
      expect(std::fabs(factor - want) <= std::ldexp(want * (4 + 1.5 + peak), -24), "softmax: factor", factor, want);
      all.push_back(factor);
    }
  return all;
}

// Broken kernels, to see that the checks above notice.
const Kernels* honest;
std::string fault;

template <void (*Kernels::*kTiles)(const TileArgs&)>
void faulty_tiles(const TileArgs& a) {
  (honest->*kTiles)(a);
  float* y = a.y[a.tokens - 1];
  const int valid = std::min(a.rows, a.tile_count * kTileRows);
  if (fault == "after") y[valid] = 0;
  if (fault == "before") y[-1] = 0;
  if (fault == "nan") y[valid - 1] = NAN;
  if (fault == "value") y[valid / 2] *= 1.001f;
  if (fault == "chunk" && a.tokens > 1) y[0] = std::nextafter(y[0], 1e30f);
}

Kernels plant(const Kernels& kernels) {
  honest = &kernels;
  Kernels out = kernels;
  out.tiles_fp32 = faulty_tiles<&Kernels::tiles_fp32>;
  out.tiles_int8 = faulty_tiles<&Kernels::tiles_int8>;
  out.tiles_int4 = faulty_tiles<&Kernels::tiles_int4>;
  if (fault == "quantize")
    out.quantize_row = [](const float* x, int cols, int padded, int8_t* q, float* scale, int32_t* starts) {
      honest->quantize_row(x, cols, padded, q, scale, starts);
      q[cols / 2] ^= 1;
    };
  if (fault == "silu") out.silu = [](float* x, int n) { honest->silu(x, n), x[n - 1] *= 1.00001f; };
  if (fault == "axpy") out.axpy = [](float a, const float* x, float* y, int n) { honest->axpy(a, x, y, n), y[0] *= 1.00001f; };
  if (fault == "dots")
    out.dots = [](const float* const* queries, int query_count, const float* const* keys, int count, int n, float* y) {
      honest->dots(queries, query_count, keys, count, n, y), y[count - 1] *= 1.001f;
    };
  if (fault == "dots together")
    out.dots = [](const float* const* queries, int query_count, const float* const* keys, int count, int n, float* y) {
      honest->dots(queries, query_count, keys, count, n, y);
      if (count > 1) y[count - 1] = std::nextafter(y[count - 1], 1e30f);
    };
  if (fault == "softmax")
    out.softmax = [](float* scores, int count, float scale, float* max, float* sum) {
      const float factor = honest->softmax(scores, count, scale, max, sum);
      scores[count - 1] *= 1.00001f;
      return factor;
    };
  if (fault == "weighted_sum")
    out.weighted_sum = [](const float* weights, const float* const* rows, int count, float* y, int n) {
      honest->weighted_sum(weights, rows, count - 1, y, n);
    };
  return out;
}

// Variants whose results agree to the bit; 0 agrees with no other.
int family(const Kernels& kernels) {
  const std::string name = kernels.name;
  if (name == "avx2" || name == "avx_vnni") return 2;
  return name == "neon" || name == "dotprod" || name == "i8mm" ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 && std::string(argv[2]) == "--plant") fault = argv[3];
  if (argc != 2 && fault.empty()) {
    std::fprintf(stderr, "usage: kernels_test CASES [--plant FAULT]\n");
    return 2;
  }
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::string names;
  int cases = 0;
  for (const auto& path : paths) {
    std::map<int, Rows> agreed;
    names.clear();
    for (int i = 0;; ++i) {
      bool supported = false;
      const Kernels* variant = kernels_variant(i, &supported);
      if (variant == nullptr) break;
      if (!supported) continue;
      names += (names.empty() ? "\"" : ", \"") + std::string(variant->name) + "\"";
      context = path.stem().string() + ", " + variant->name;
      const Kernels kernels = fault.empty() ? *variant : plant(*variant);
      Rows result;
      if (path.extension() == ".tiles") {
        Case c = read_case(path);
        result = check_tiles(kernels, c);
      } else {
        result.push_back(check_vectors(kernels, path));
        result.push_back(check_keys(kernels));
      }
      ++cases;
      if (fault == "variant") result[0][0] += names.size();
      if (family(*variant) == 0) continue;
      const auto [first, inserted] = agreed.emplace(family(*variant), result);
      for (size_t t = 0; t < result.size(); ++t)
        for (size_t n = 0; n < result[t].size(); ++n)
          expect(same(result[t][n], first->second[t][n]), "variants differ", result[t][n],
                 first->second[t][n]);
    }
  }
  if (cases == 0) {
    std::fprintf(stderr, "no cases in %s\n", argv[1]);
    return 2;
  }
  std::printf("{\"variants\": [%s], \"cases\": %d, \"checks\": %ld}\n", names.c_str(), cases, checks);
  return 0;
}
