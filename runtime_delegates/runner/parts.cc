#include "parts.h"

#include <algorithm>
#include <cstdio>
#include <new>

#include "cost_model.h"
#include "drafter.h"
#include "sampling.h"
#include "text.h"

using namespace blockffn::runner;

struct blockffn_parts_tokenizer {
  std::unique_ptr<TextModel> model;
};

namespace {

template <class Body>
int guarded(bool valid, const Body& body) noexcept {
  if (!valid) return -1;
  try {
    return body();
  } catch (const std::exception&) {  // no memory
    return -1;
  }
}

}  // namespace

extern "C" {

int blockffn_parts_uniform(uint64_t seed, int64_t n, double* out) {
  Random random(seed);
  for (int64_t i = 0; i < n; ++i) out[i] = random.uniform();
  return 0;
}

int blockffn_parts_distribution(const blockffn_runner_options* options, const float* logits, int32_t vocab,
                                const int32_t* seen, int64_t n_seen, double* p) {
  const bool valid = vocab > 0 && std::all_of(seen, seen + n_seen, [&](int32_t i) { return i >= 0 && i < vocab; });
  return guarded(valid, [&] {
    Sampler sampler({options->temperature, options->top_p, options->repetition_penalty, options->top_k, options->seed},
                    vocab);
    for (int64_t i = 0; i < n_seen; ++i) sampler.saw(seen[i]);
    std::copy_n(sampler.distribution(logits), vocab, p);
    return 0;
  });
}

int blockffn_parts_accept(const double* p, int32_t vocab, int32_t count, uint64_t seed, int64_t trials,
                          blockffn_candidates_fn draw_candidates, void* user, int32_t* tokens_out) {
  return guarded(vocab > 0 && count >= 0 && count < kMaxRows, [&] {
    Random random(seed);
    std::vector<double> work(vocab);
    for (int64_t t = 0; t < trials; ++t) {
      int32_t tokens[kMaxRows];
      const double* q[kMaxRows] = {};
      draw_candidates(user, t, tokens, q);
      Candidate candidates[kMaxRows];
      for (int i = 0; i < count; ++i) {
        if (tokens[i] < 0 || tokens[i] >= vocab) return -1;
        candidates[i] = {tokens[i], q[i]};
      }
      std::copy_n(p, vocab, work.begin());
      tokens_out[t] = accept(work.data(), vocab, candidates, count, &random);
    }
    return 0;
  });
}

int blockffn_parts_ngram(const int32_t* context, int64_t n, int32_t max_tokens, int32_t max_depth, int32_t width,
                         int32_t* tokens, int32_t* parents, float* confidence) {
  return guarded(n > 0 && max_tokens < kMaxRows && width > 0, [&] {
    DraftTree tree(1);
    tree[0].token = context[n - 1];
    NgramDrafter(width).propose(context, n, max_tokens, max_depth, &tree);
    for (size_t i = 1; i < tree.size(); ++i) {
      tokens[i - 1] = tree[i].token;
      parents[i - 1] = tree[i].parent;
      confidence[i - 1] = tree[i].confidence;
    }
    return static_cast<int>(tree.size()) - 1;
  });
}

int blockffn_parts_choose(const double* chunk_ms, const float* seen_confidence, const uint8_t* seen_followed,
                          int64_t n_seen, const int32_t* parents, const float* confidence, int32_t rows, uint8_t* keep) {
  bool valid = rows > 0 && rows <= kMaxRows;
  for (int i = 1; valid && i < rows; ++i) valid = parents[i] >= 0 && parents[i] < i;
  return guarded(valid, [&] {
    CostModel costs;
    costs.calibrate(chunk_ms, CostModel::kKnots);
    for (int64_t i = 0; i < n_seen; ++i) costs.observe_token(DraftNode::kOther, seen_confidence[i], seen_followed[i] != 0);
    DraftTree tree(rows);
    for (int i = 1; i < rows; ++i) tree[i].parent = parents[i], tree[i].confidence = confidence[i];
    const auto chosen = costs.choose(tree, kMaxRows, 0).keep;
    std::copy(chosen.begin(), chosen.end(), keep);
    return 0;
  });
}

blockffn_parts_tokenizer* blockffn_parts_tokenizer_load(const blockffn_file* json, const blockffn_file* config, char* error,
                                                        size_t error_bytes) {
  try {
    return new blockffn_parts_tokenizer{TextModel::load(*json, config)};
  } catch (const Failure& failure) {
    std::snprintf(error, error_bytes, "%s", failure.message.c_str());
  } catch (const std::exception&) {
    std::snprintf(error, error_bytes, "not enough memory");
  }
  return nullptr;
}

void blockffn_parts_tokenizer_free(blockffn_parts_tokenizer* tokenizer) { delete tokenizer; }

int blockffn_parts_tokenizer_size(const blockffn_parts_tokenizer* tokenizer) { return tokenizer->model->tokenizer.vocab_size(); }

int64_t blockffn_parts_encode(const blockffn_parts_tokenizer* tokenizer, const char* utf8, size_t bytes, int32_t* ids,
                              int64_t capacity) {
  return guarded(true, [&] {
    const auto all = tokenizer->model->tokenizer.encode(std::string_view(utf8, bytes));
    std::copy_n(all.begin(), std::min<int64_t>(capacity, static_cast<int64_t>(all.size())), ids);
    return static_cast<int>(all.size());
  });
}

int64_t blockffn_parts_chat(const blockffn_parts_tokenizer* tokenizer, const blockffn_message* messages, int32_t count,
                            int32_t* ids, int64_t capacity, int* add_bos, char* name, size_t name_bytes, char* error,
                            size_t error_bytes) {
  const TextModel& model = *tokenizer->model;
  std::snprintf(name, name_bytes, "%s", model.chat.name());
  *add_bos = model.chat.add_bos();
  try {
    const auto all = model.tokenizer.encode(model.render(messages, count));
    std::copy_n(all.begin(), std::min<int64_t>(capacity, static_cast<int64_t>(all.size())), ids);
    return static_cast<int64_t>(all.size());
  } catch (const Failure& failure) {
    std::snprintf(error, error_bytes, "%s", failure.message.c_str());
  } catch (const std::exception&) {
    std::snprintf(error, error_bytes, "not enough memory");
  }
  return -1;
}

int blockffn_parts_stream(const blockffn_parts_tokenizer* tokenizer, const int32_t* ids, int64_t n, int at_start,
                          const char* const* stop_strings, int32_t stop_count, blockffn_text_fn on_text, void* user) {
  return guarded(true, [&] {
    TextStream stream(tokenizer->model->tokenizer, at_start != 0, {stop_strings, stop_strings + stop_count});
    for (int64_t i = 0; i < n; ++i) {
      const std::string text = stream.push(ids[i]);
      on_text(user, text.data(), text.size());
    }
    const std::string text = stream.flush();
    on_text(user, text.data(), text.size());
    return 0;
  });
}

}  // extern "C"
