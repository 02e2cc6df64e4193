// The C interface: turns exceptions into codes and sentences, and refuses a second call at a time.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>

#include "generator.h"
#include "text.h"

using blockffn::runner::DraftTree;
using blockffn::runner::Failure;
using blockffn::runner::Generator;
using blockffn::runner::TextModel;
using blockffn::runner::TextStream;

struct blockffn_runner {
  template <class Source>
  explicit blockffn_runner(const Source& source) : generator(source) {}
  Generator generator;
  std::unique_ptr<TextModel> text;
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
  } catch (...) {  // of a callback
    say("a callback threw an exception");
    return BLOCKFFN_FAILED;
  }
}

// The runner that this thread's last call found running: its own sentence belongs to the call that runs.
thread_local const blockffn_runner* found_busy = nullptr;

template <class Body>
int exclusively(blockffn_runner* runner, const Body& body) noexcept {
  found_busy = nullptr;
  if (runner == nullptr) return BLOCKFFN_BAD_ARGUMENT;
  if (runner->busy.exchange(true)) {
    found_busy = runner;
    return BLOCKFFN_BUSY;
  }
  runner->error.clear();
  const int code = guarded(&runner->error, body);
  runner->busy.store(false);
  return code;
}

const TextModel& text_of(const blockffn_runner& runner) {
  if (runner.text == nullptr) throw Failure{BLOCKFFN_BAD_ARGUMENT, "no tokenizer is loaded; call blockffn_runner_load_tokenizer first"};
  return *runner.text;
}

void put_bos(const blockffn_runner& runner, std::vector<int32_t>* ids) {
  const int32_t bos = runner.generator.model().bos_id();
  if (bos >= 0 && (ids->empty() || ids->front() != bos)) ids->insert(ids->begin(), bos);
}

struct TextRun {
  TextStream stream;
  blockffn_text_fn on_text;
  void* user;
  bool refused = false;  // by on_text

  bool show(const std::string& text) {
    if (!text.empty() && on_text != nullptr && !refused) refused = on_text(user, text.data(), text.size()) != 0;
    return refused;
  }
};

void generate_text(blockffn_runner* runner, const std::vector<int32_t>& ids, bool at_start, const blockffn_runner_options* options,
                   const char* const* stop_strings, int32_t stop_count, blockffn_text_fn on_text, void* user) {
  if (options == nullptr) throw Failure{BLOCKFFN_BAD_ARGUMENT, "no options were given"};
  if (stop_strings == nullptr && stop_count > 0) throw Failure{BLOCKFFN_BAD_ARGUMENT, "the stop strings are NULL"};
  std::vector<std::string> stops;
  for (int32_t i = 0; i < stop_count; ++i)
    if (stop_strings[i] != nullptr && *stop_strings[i] != 0) stops.emplace_back(stop_strings[i]);
  TextRun run{TextStream(text_of(*runner).tokenizer, at_start, std::move(stops)), on_text, user};
  const auto on_token = [](void* to, int32_t token) -> int {
    auto& text = *static_cast<TextRun*>(to);
    return text.show(text.stream.push(token)) || text.stream.stopped();
  };
  runner->generator.generate(ids.data(), static_cast<int64_t>(ids.size()), *options, on_token, &run);
  run.show(run.stream.flush());
  if (run.stream.stopped()) runner->generator.ended_by(BLOCKFFN_STOP_STRING);
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

template <class Source>
blockffn_runner* load(const Source* source, const char* missing, char* error, size_t error_bytes, int* code) noexcept {
  found_busy = nullptr;  // a new runner may have its address
  std::string sentence;
  blockffn_runner* runner = nullptr;
  const int result = guarded(&sentence, [&] {
    if (source == nullptr) throw Failure{BLOCKFFN_BAD_ARGUMENT, missing};
    runner = new blockffn_runner(*source);
  });
  if (code != nullptr) *code = result;
  if (error != nullptr && error_bytes > 0) std::snprintf(error, error_bytes, "%s", sentence.c_str());
  return runner;
}

}  // namespace

extern "C" {

blockffn_runner* blockffn_runner_load(const blockffn_file* program, char* error, size_t error_bytes, int* code) {
  return load(program, "no program was named", error, error_bytes, code);
}

blockffn_runner* blockffn_runner_load_steps(const blockffn_steps* steps, char* error, size_t error_bytes, int* code) {
  return load(steps, "no step function was given", error, error_bytes, code);
}

void blockffn_runner_free(blockffn_runner* runner) { delete runner; }

const char* blockffn_runner_last_error(const blockffn_runner* runner) {
  if (runner == nullptr) return "no runner was given";
  return runner == found_busy ? "this runner is running already; use one runner per thread" : runner->error.c_str();
}

void blockffn_runner_get_info(const blockffn_runner* runner, blockffn_runner_info* out) {
  if (out == nullptr) return;
  *out = {};
  if (runner == nullptr) return;
  const auto& model = runner->generator.model();
  out->max_context = model.max_context();
  out->vocab_size = model.vocab_size();
  out->hidden_size = model.hidden_size();
  out->bos_id = model.bos_id();
  std::fill(std::begin(out->eos_ids), std::end(out->eos_ids), -1);
  const auto& eos = model.eos_ids();
  std::copy_n(eos.begin(), std::min<size_t>(eos.size(), 8), out->eos_ids);
  if (model.is_program()) std::snprintf(out->kernels, sizeof out->kernels, "%s", blockffn_kernels());
  out->has_draft_head = runner->generator.has_head();
  out->has_tokenizer = runner->text != nullptr;
  if (runner->text != nullptr)
    std::snprintf(out->chat_template, sizeof out->chat_template, "%s", runner->text->chat.name());
}

int blockffn_runner_load_tokenizer(blockffn_runner* runner, const blockffn_file* tokenizer_json,
                                   const blockffn_file* tokenizer_config) {
  return exclusively(runner, [&] {
    if (tokenizer_json == nullptr) throw Failure{BLOCKFFN_BAD_ARGUMENT, "no tokenizer was named"};
    auto text = TextModel::load(*tokenizer_json, tokenizer_config);
    const int32_t vocab = runner->generator.model().vocab_size();
    if (text->tokenizer.vocab_size() > vocab)
      throw Failure{BLOCKFFN_BAD_PROGRAM, "the tokenizer has " + std::to_string(text->tokenizer.vocab_size()) +
                                              " tokens, but the program knows " + std::to_string(vocab) +
                                              "; load the model's own tokenizer"};
    runner->text = std::move(text);
  });
}

int blockffn_runner_load_draft(blockffn_runner* runner, const blockffn_file* draft_program) {
  return exclusively(runner, [&] {
    auto& generator = runner->generator;
    generator.set_head(draft_program == nullptr ? nullptr : blockffn::runner::load_draft_model(*draft_program, generator.model()));
  });
}

int blockffn_runner_encode(blockffn_runner* runner, const char* utf8, size_t bytes, int add_bos, int32_t* tokens,
                           int64_t capacity, int64_t* count) {
  return exclusively(runner, [&] {
    if (count == nullptr || (tokens == nullptr && capacity > 0) || (utf8 == nullptr && bytes > 0))
      throw Failure{BLOCKFFN_BAD_ARGUMENT, "a pointer is NULL"};
    auto ids = text_of(*runner).tokenizer.encode(std::string_view(utf8, bytes));
    if (add_bos != 0) put_bos(*runner, &ids);
    *count = static_cast<int64_t>(ids.size());
    std::copy_n(ids.begin(), std::clamp<int64_t>(capacity, 0, *count), tokens);
  });
}

void blockffn_runner_default_options(blockffn_runner_options* out) {
  if (out == nullptr) return;
  *out = {};
  out->max_tokens = 256;
  out->mode = BLOCKFFN_AUTO;
  out->draft_tokens = 31;
  out->draft_width = 3;
  out->draft_depth = 6;
  out->top_p = 1;
  out->repetition_penalty = 1;
}

int blockffn_runner_set_drafter(blockffn_runner* runner, blockffn_draft_fn draft, void* user) {
  return exclusively(runner, [&] {
    runner->generator.set_drafter(draft == nullptr ? nullptr : std::make_unique<CallbackDrafter>(draft, user));
  });
}

int blockffn_runner_set_observer(blockffn_runner* runner, blockffn_cycle_fn on_cycle, void* user) {
  return exclusively(runner, [&] { runner->generator.set_observer(on_cycle, user); });
}

int blockffn_runner_generate(blockffn_runner* runner, const int32_t* prompt, int64_t n,
                             const blockffn_runner_options* options, blockffn_token_fn on_token, void* user) {
  return exclusively(runner, [&] {
    if (options == nullptr) throw Failure{BLOCKFFN_BAD_ARGUMENT, "no options were given"};
    runner->generator.generate(prompt, n, *options, on_token, user);
  });
}

int blockffn_runner_generate_text(blockffn_runner* runner, const char* prompt, size_t bytes,
                                  const blockffn_runner_options* options, const char* const* stop_strings,
                                  int32_t stop_count, blockffn_text_fn on_text, void* user) {
  return exclusively(runner, [&] {
    if (prompt == nullptr && bytes > 0) throw Failure{BLOCKFFN_BAD_ARGUMENT, "the prompt is NULL"};
    auto ids = text_of(*runner).tokenizer.encode(std::string_view(prompt, bytes));
    put_bos(*runner, &ids);
    generate_text(runner, ids, bytes == 0, options, stop_strings, stop_count, on_text, user);
  });
}

int blockffn_runner_generate_chat(blockffn_runner* runner, const blockffn_message* messages, int32_t count,
                                  const blockffn_runner_options* options, const char* const* stop_strings,
                                  int32_t stop_count, blockffn_text_fn on_text, void* user) {
  return exclusively(runner, [&] {
    const TextModel& text = text_of(*runner);
    auto ids = text.tokenizer.encode(text.render(messages, messages == nullptr ? 0 : count));
    if (text.chat.add_bos()) put_bos(*runner, &ids);
    generate_text(runner, ids, true, options, stop_strings, stop_count, on_text, user);
  });
}

void blockffn_runner_cancel(blockffn_runner* runner) {
  if (runner != nullptr) runner->generator.cancel();
}

int blockffn_runner_reset(blockffn_runner* runner) {
  return exclusively(runner, [&] { runner->generator.reset(); });
}

void blockffn_runner_get_stats(const blockffn_runner* runner, blockffn_runner_stats* out) {
  if (out != nullptr) *out = runner == nullptr ? blockffn_runner_stats{} : runner->generator.stats();
}

}  // extern "C"
