// Two runners in two threads, and cancels from a third, through the C interface alone: what a sanitizer
// can watch without Python. Prints the tokens that all runs agree on; exit status 1 if they do not.
//
//   two_runners MODEL.pte THREADS [HEAD.pte TOKENIZER.json]
//
// ThreadSanitizer does not see how ExecuTorch's pool synchronizes, because the pool is not built with it;
// a pool of 1 thread leaves only what is ours.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "../../runtime_delegates/executorch/blockffn.h"
#include "../../runtime_delegates/runner/blockffn_runner.h"

namespace {

using Tokens = std::vector<int32_t>;

int collect(void* tokens, int32_t token) {
  static_cast<Tokens*>(tokens)->push_back(token);
  return 0;
}

// Wrong tokens, as a tree.
int wrong(void*, const int32_t* context, int64_t n, int32_t max_tokens, int32_t max_depth, int32_t* tokens,
          int32_t* parents, float*, const double**) {
  int count = 0;
  for (; count < max_tokens && count < 6 && count / 2 < max_depth; ++count) {
    tokens[count] = (context[n - 1] + 3 * count) % 300;
    parents[count] = count < 2 ? 0 : count - 1;
  }
  return count;
}

// Tokens of one mode; empty if anything failed.
Tokens generate(blockffn_runner* runner, int mode, uint64_t seed, int drafter = BLOCKFFN_DRAFT_BEST, int width = 3) {
  blockffn_runner_options options;
  blockffn_runner_default_options(&options);
  options.max_tokens = 60;
  options.mode = mode;
  options.drafter = drafter;
  options.draft_width = width;
  options.temperature = seed == 0 ? 0 : 0.8;
  options.seed = seed;
  const int32_t prompt[] = {5, 9, 5, 9, 5, 9, 42};
  Tokens tokens;
  if (blockffn_runner_generate(runner, prompt, 7, &options, collect, &tokens) != BLOCKFFN_OK) {
    std::fprintf(stderr, "%s\n", blockffn_runner_last_error(runner));
    return {};
  }
  return tokens;
}

int count_bytes(void* total, const char*, size_t bytes) {
  *static_cast<size_t*>(total) += bytes;
  return 0;
}

void work(char** arguments, bool has_head, std::vector<Tokens>* all) {
  const blockffn_file file{arguments[0], -1, 0, 0};
  blockffn_runner* runner = blockffn_runner_load(&file, nullptr, 0, nullptr);
  if (runner == nullptr) return;
  if (has_head) {
    const blockffn_file head{arguments[2], -1, 0, 0}, tokenizer{arguments[3], -1, 0, 0};
    size_t bytes = 0;
    blockffn_runner_options options;
    blockffn_runner_default_options(&options);
    options.max_tokens = 20;
    const char* stops[] = {"never", "~~"};
    if (blockffn_runner_load_draft(runner, &head) != BLOCKFFN_OK || blockffn_runner_load_tokenizer(runner, &tokenizer, nullptr) != BLOCKFFN_OK ||
        blockffn_runner_generate_text(runner, "na\xC3\xAFve \xFF 12", 11, &options, stops, 2, count_bytes, &bytes) != BLOCKFFN_OK || bytes == 0) {
      std::fprintf(stderr, "%s\n", blockffn_runner_last_error(runner));
      return;
    }
    for (int drafter = BLOCKFFN_DRAFT_BEST; drafter <= BLOCKFFN_DRAFT_HEAD; ++drafter)
      for (const int width : {1, 3}) all->push_back(generate(runner, BLOCKFFN_SPEC, 0, drafter, width));
  }
  for (const auto draft : {static_cast<blockffn_draft_fn>(nullptr), &wrong}) {
    blockffn_runner_set_drafter(runner, draft, nullptr);
    for (int mode = BLOCKFFN_PLAIN; mode <= BLOCKFFN_AUTO; ++mode) all->push_back(generate(runner, mode, 0));
  }
  for (int mode = BLOCKFFN_PLAIN; mode <= BLOCKFFN_AUTO; ++mode)
    if (generate(runner, mode, 7) != generate(runner, BLOCKFFN_PLAIN, 7)) all->push_back({});
  std::atomic<bool> done{false};
  std::thread canceller([&] {
    while (!done) {
      blockffn_runner_cancel(runner);
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < 5; ++i) generate(runner, BLOCKFFN_SPEC, 0);
  done = true;
  canceller.join();
  blockffn_runner_free(runner);
}

}  // namespace

int main(int argc, char** argv) {
  if ((argc != 3 && argc != 5) || blockffn_set_threads(std::atoi(argv[2])) != 0) return 2;
  std::vector<Tokens> first, second;
  std::thread a(work, argv + 1, argc == 5, &first), b(work, argv + 1, argc == 5, &second);
  a.join();
  b.join();
  if (first.size() != (argc == 5 ? 12u : 6u) || first != second || first[0].empty()) return 1;
  for (const Tokens& tokens : first)
    if (tokens != first[0]) return 1;
  for (const int32_t token : first[0]) std::printf("%d ", token);
  std::printf("\n");
  return 0;
}
