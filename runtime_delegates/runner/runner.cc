// The C interface: turns exceptions into codes and sentences, and refuses a second call at a time.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>

#include "generator.h"

using blockffn::runner::DraftTree;
using blockffn::runner::Failure;
using blockffn::runner::Generator;

struct blockffn_runner {
  explicit blockffn_runner(const blockffn_file& program) : generator(program) {}
  Generator generator;
  std::atomic<bool> busy{false};
  std::string error;
};

namespace {

// Runs body(); its failure becomes a code, and a sentence for which no memory is needed at worst.
template <class Body>
int guarded(std::string* sentence, const Body& body) noexcept {
  const auto say = [&](const char* text) {
    try {
      *sentence = text;
    } catch (...) {
      sentence->clear();
    }
  };
  try {
    body();
    return BLOCKFFN_OK;
  } catch (const Failure& failure) {
    say(failure.message.c_str());
    return failure.code;
  } catch (const std::bad_alloc&) {
    say("not enough memory");
    return BLOCKFFN_NO_MEMORY;
  } catch (const std::exception& error) {
    say(error.what());
    return BLOCKFFN_FAILED;
  }
}

template <class Body>
int exclusively(blockffn_runner* runner, const Body& body) noexcept {
  if (runner->busy.exchange(true)) return BLOCKFFN_BUSY;  // the sentence belongs to the call that runs
  runner->error.clear();
  const int code = guarded(&runner->error, body);
  runner->busy.store(false);
  return code;
}

class CallbackDrafter final : public blockffn::runner::Drafter {
 public:
  CallbackDrafter(blockffn_draft_fn draft, void* user) : draft_(draft), user_(user) {}

  void propose(const int32_t* context, int64_t n, int max_tokens, int max_depth, DraftTree* tree) override {
    int32_t tokens[blockffn::runner::kMaxRows] = {}, parents[blockffn::runner::kMaxRows] = {};
    float confidence[blockffn::runner::kMaxRows];
    const double* probs[blockffn::runner::kMaxRows] = {};
    std::fill(std::begin(confidence), std::end(confidence), 0.5f);
    const int count = draft_(user_, context, n, max_tokens, max_depth, tokens, parents, confidence, probs);
    if (count < 0) throw Failure{BLOCKFFN_FAILED, "the drafter failed"};
    if (count > max_tokens) throw Failure{BLOCKFFN_FAILED, "the drafter proposed more tokens than it may"};
    for (int i = 0; i < count; ++i) {
      const bool known = parents[i] >= 0 && parents[i] <= i;  // the generator refuses others
      tree->push_back({tokens[i], parents[i], known ? (*tree)[parents[i]].depth + 1 : 0, confidence[i], probs[i]});
    }
  }

 private:
  blockffn_draft_fn draft_;
  void* user_;
};

}  // namespace

extern "C" {

blockffn_runner* blockffn_runner_load(const blockffn_file* program, char* error, size_t error_bytes, int* code) {
  std::string sentence;
  blockffn_runner* runner = nullptr;
  const int result = guarded(&sentence, [&] {
    if (program == nullptr) throw Failure{BLOCKFFN_BAD_ARGUMENT, "no program was named"};
    runner = new blockffn_runner(*program);
  });
  if (code != nullptr) *code = result;
  if (error != nullptr && error_bytes > 0) std::snprintf(error, error_bytes, "%s", sentence.c_str());
  return runner;
}

void blockffn_runner_free(blockffn_runner* runner) { delete runner; }

const char* blockffn_runner_last_error(const blockffn_runner* runner) { return runner->error.c_str(); }

void blockffn_runner_get_info(const blockffn_runner* runner, blockffn_runner_info* out) {
  const auto& model = runner->generator.model();
  *out = {};
  out->max_context = model.max_context();
  out->vocab_size = model.vocab_size();
  out->hidden_size = model.hidden_size();
  out->bos_id = model.bos_id();
  std::fill(std::begin(out->eos_ids), std::end(out->eos_ids), -1);
  const auto& eos = model.eos_ids();
  std::copy_n(eos.begin(), std::min<size_t>(eos.size(), 8), out->eos_ids);
  std::snprintf(out->kernels, sizeof out->kernels, "%s", blockffn_kernels());
}

void blockffn_runner_default_options(blockffn_runner_options* out) {
  *out = {};
  out->max_tokens = 256;
  out->mode = BLOCKFFN_AUTO;
  out->draft_tokens = 31;
  out->draft_width = 3;
  out->top_p = 1;
  out->repetition_penalty = 1;
}

int blockffn_runner_set_drafter(blockffn_runner* runner, blockffn_draft_fn draft, void* user) {
  return exclusively(runner, [&] {
    runner->generator.set_drafter(draft == nullptr ? nullptr : std::make_unique<CallbackDrafter>(draft, user));
  });
}

int blockffn_runner_generate(blockffn_runner* runner, const int32_t* prompt, int64_t n,
                             const blockffn_runner_options* options, blockffn_token_fn on_token, void* user) {
  return exclusively(runner, [&] {
    if (options == nullptr) throw Failure{BLOCKFFN_BAD_ARGUMENT, "no options were given"};
    runner->generator.generate(prompt, n, *options, on_token, user);
  });
}

void blockffn_runner_cancel(blockffn_runner* runner) { runner->generator.cancel(); }

int blockffn_runner_reset(blockffn_runner* runner) {
  return exclusively(runner, [&] { runner->generator.reset(); });
}

void blockffn_runner_get_stats(const blockffn_runner* runner, blockffn_runner_stats* out) {
  *out = runner->generator.stats();
}

}  // extern "C"
