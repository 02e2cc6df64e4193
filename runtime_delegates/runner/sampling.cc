#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace blockffn::runner {
namespace {

using u128 = unsigned __int128;
constexpr u128 kMultiplier = (u128{0x2360ED051FC65DA4} << 64) | 0x4385DF649FCCF645;

// numpy's SeedSequence (after O'Neill's seed_seq_fe) for a seed below 2^64: four 64-bit words.
void seed_words(uint64_t seed, uint64_t words[4]) {
  uint32_t pool[4], hash = 0x43b0d7e5;
  const auto mix_in = [&hash](uint32_t value) {
    value ^= hash;
    hash *= 0x931e8875;
    value *= hash;
    return value ^ (value >> 16);
  };
  const uint32_t entropy[4] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), 0, 0};
  for (int i = 0; i < 4; ++i) pool[i] = mix_in(entropy[i]);
  for (int from = 0; from < 4; ++from)
    for (int to = 0; to < 4; ++to) {
      if (from == to) continue;
      const uint32_t mixed = 0xca01f9ddu * pool[to] - 0x4973f715u * mix_in(pool[from]);
      pool[to] = mixed ^ (mixed >> 16);
    }
  uint32_t out[8];
  hash = 0x8b51f9dd;
  for (int i = 0; i < 8; ++i) {
    uint32_t value = pool[i % 4] ^ hash;
    hash *= 0x58f38ded;
    value *= hash;
    out[i] = value ^ (value >> 16);
  }
  for (int i = 0; i < 4; ++i) words[i] = out[2 * i] | (uint64_t{out[2 * i + 1]} << 32);
}

}  // namespace

Random::Random(uint64_t seed) {
  uint64_t words[4];
  seed_words(seed, words);
  increment_ = (((u128{words[2]} << 64) | words[3]) << 1) | 1;
  state_ = increment_ + ((u128{words[0]} << 64) | words[1]);
  state_ = state_ * kMultiplier + increment_;
}

uint64_t Random::next() {
  state_ = state_ * kMultiplier + increment_;
  const uint64_t folded = static_cast<uint64_t>(state_ >> 64) ^ static_cast<uint64_t>(state_);
  const int turn = static_cast<int>(state_ >> 122);
  return (folded >> turn) | (folded << (-turn & 63));
}

int32_t draw(const double* p, int32_t n, Random* random) {
  double total = 0;
  for (int32_t i = 0; i < n; ++i) total += p[i];
  const double at = random->uniform() * total;
  double sum = 0;
  int32_t last = 0;
  for (int32_t i = 0; i < n; ++i) {
    if (p[i] <= 0) continue;
    sum += p[i];
    if (sum > at) return i;
    last = i;
  }
  return last;  // rounding at the very end
}

int32_t accept(double* p, int32_t n, const Candidate* candidates, int count, Random* random) {
  for (int c = 0; c < count; ++c) {
    const auto [token, q] = candidates[c];
    if (q == nullptr) continue;
    if (random->uniform() * q[token] < p[token]) return token;
    double left = 0;
    for (int32_t i = 0; i < n; ++i) left += std::max(p[i] - q[i], 0.0);
    if (!(left > 0)) return token;  // p equals q, so a rejection was rounding
    for (int32_t i = 0; i < n; ++i) p[i] = std::max(p[i] - q[i], 0.0) / left;
  }
  return draw(p, n, random);
}

Sampler::Sampler(const SamplingOptions& options, int32_t vocab_size)
    : options_(options), random_(options.seed), seen_(vocab_size, 0), p_(vocab_size) {}

int32_t Sampler::choose(const float* logits, const Candidate* candidates, int count) {
  const auto n = static_cast<int32_t>(p_.size());
  if (options_.temperature == 0) {
    if (options_.repetition_penalty == 1) return static_cast<int32_t>(std::max_element(logits, logits + n) - logits);
    int32_t best = 0;
    double largest = penalised(logits, 0);
    for (int32_t i = 1; i < n; ++i)
      if (const double x = penalised(logits, i); x > largest) largest = x, best = i;
    return best;
  }
  distribution(logits);
  return accept(p_.data(), n, candidates, count, &random_);
}

const double* Sampler::distribution(const float* logits) {
  const auto n = static_cast<int32_t>(p_.size());
  if (options_.temperature == 0) {
    const int32_t best = choose(logits);
    std::fill(p_.begin(), p_.end(), 0.0);
    p_[best] = 1;
    return p_.data();
  }
  for (int32_t i = 0; i < n; ++i) p_[i] = penalised(logits, i);
  const double largest = *std::max_element(p_.begin(), p_.end());
  for (double& x : p_) x = std::exp((x - largest) / options_.temperature);
  if ((options_.top_k > 0 && options_.top_k < n) || options_.top_p < 1) keep_most_probable();
  const double total = std::accumulate(p_.begin(), p_.end(), 0.0);
  for (double& x : p_) x /= total;
  return p_.data();
}

// top-k, then top-p: zeroes all others. Sorts as few as it needs, lower ids first among equals.
void Sampler::keep_most_probable() {
  const auto n = static_cast<int64_t>(p_.size());
  const int64_t k = options_.top_k > 0 ? std::min<int64_t>(options_.top_k, n) : n;
  const auto before = [this](int32_t a, int32_t b) { return p_[a] > p_[b] || (p_[a] == p_[b] && a < b); };
  order_.resize(n);
  std::iota(order_.begin(), order_.end(), 0);
  if (k < n) std::nth_element(order_.begin(), order_.begin() + k, order_.end(), before);
  int64_t kept = k;
  if (options_.top_p < 1) {
    double total = 0, sum = 0;
    for (int64_t i = 0; i < k; ++i) total += p_[order_[i]];
    int64_t sorted = 0;
    for (kept = 0; kept < k && sum < options_.top_p * total; ++kept) {
      if (kept == sorted) {
        const int64_t more = std::min(k, std::max<int64_t>(32, 4 * sorted));
        std::partial_sort(order_.begin() + sorted, order_.begin() + more, order_.begin() + k, before);
        sorted = more;
      }
      sum += p_[order_[kept]];
    }
  }
  for (int64_t i = kept; i < n; ++i) p_[order_[i]] = 0;
}

}  // namespace blockffn::runner
