// Choice of tokens from logits, with the definitions of runtime_delegates/sampling.py: repetition
// penalty, temperature, top-k, top-p, in this order; and the acceptance of drafted tokens.
#pragma once

#include <cstdint>
#include <vector>

namespace blockffn::runner {

// PCG64 (XSL-RR 128/64, O'Neill 2014) seeded as numpy.random.PCG64(seed): equal seeds draw equal numbers.
class Random {
 public:
  explicit Random(uint64_t seed);
  uint64_t next();
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }  // in [0, 1)

 private:
  unsigned __int128 state_ = 0, increment_ = 0;
};

struct SamplingOptions {
  double temperature = 0, top_p = 1, repetition_penalty = 1;
  int32_t top_k = 0;
  uint64_t seed = 0;
};

// A proposed token; q is the distribution that it was drawn from, null if it was not drawn.
struct Candidate {
  int32_t token;
  const double* q;
};

// Token drawn from p[n], which need not sum to exactly 1.
int32_t draw(const double* p, int32_t n, Random* random);

// Multi-candidate rejection sampling: a token that is distributed as p[n] whatever the candidates are,
// as long as candidate i was drawn from its q given the earlier ones. Candidate i is accepted with
// probability min(1, p/q); else p becomes the normalised positive part of p - q. What is left after the
// last one is drawn from. Candidates that were not drawn need no test: the token is drawn from p, and
// is one of them or not. Overwrites p.
int32_t accept(double* p, int32_t n, const Candidate* candidates, int count, Random* random);

class Sampler {
 public:
  Sampler(const SamplingOptions& options, int32_t vocab_size);
  // The repetition penalty applies to this token from now on.
  void saw(int32_t token) { seen_[token] = 1; }
  // The next token of a row of logits [vocab_size].
  int32_t choose(const float* logits, const Candidate* candidates = nullptr, int count = 0);
  // The distribution that choose() follows; valid until the next call.
  const double* distribution(const float* logits);

 private:
  double penalised(const float* logits, int32_t i) const {
    const double x = logits[i];
    return seen_[i] == 0 || options_.repetition_penalty == 1 ? x
           : x > 0                                           ? x / options_.repetition_penalty
                                                             : x * options_.repetition_penalty;
  }
  void keep_most_probable();

  SamplingOptions options_;
  Random random_;
  std::vector<uint8_t> seen_;
  std::vector<double> p_;
  std::vector<int32_t> order_;
};

}  // namespace blockffn::runner
