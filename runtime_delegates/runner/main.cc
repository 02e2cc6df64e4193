// blockffn-run: text from an exported program at the command line, over the C interface alone. The same
// file builds for a desktop and for `adb shell`.
#include <getopt.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "../executorch/blockffn.h"
#include "blockffn_runner.h"

namespace {

constexpr char kHelp[] = R"(Usage: blockffn-run MODEL.pte [--draft HEAD.pte] -p "To install the package," [options]
       blockffn-run MODEL.pte --chat               a conversation, a line a turn
       blockffn-run MODEL.pte --draft HEAD.pte --bench

Text goes to stdout as it is decided, figures to stderr. Greedy text is the same in every mode.

  -p, --prompt TEXT       or -f, --file FILE: what to continue; with --chat, what the user says
      --chat              answer by the model's chat template; without a prompt, line by line from stdin
      --system TEXT       first message of a chat
      --draft DRAFT.pte   draft head made for this model, or a small language model with its tokenizer
      --tokenizer FILE    tokenizer.json (default: beside MODEL.pte, with tokenizer_config.json)
  -n, --max-tokens N      new tokens (256)
      --stop TEXT         end before this text; may be repeated
      --mode MODE         plain: a token a step; spec: always draft; auto (default): what is faster
      --drafter NAME      best (default), ngram, head
      --draft-tokens N    most proposed tokens of a chunk, 1 to 63 (31)
      --draft-width N     branches of a token; 1: a chain (3)
      --draft-depth N     calls of the draft model in a cycle, at most (6)
      --experts WHICH     active (default); all: compute every expert, as a dense model does, to compare with
      --temperature X     0: greedy (default)
      --top-k K, --top-p P, --repetition-penalty X, --seed N
  -t, --threads N         default: the fast cores
      --bench             time prefill, plain and speculative decoding; a table, and JSON as the last line
      --pp N, --tg N      tokens of the benchmark's prompt and continuation (512, 128)
      --reps N            of the benchmark (3)
      --json              JSON of the run as the last line of stdout
  -h, --help

Exit status: 0 done, 1 failed, 2 bad arguments, 130 interrupted.
)";

struct Arguments {
  std::string model, draft, tokenizer, prompt, system;
  bool has_prompt = false, chat = false, bench = false, json = false;
  std::vector<std::string> stops;
  blockffn_runner_options options;
  long threads = 0, pp = 512, tg = 128, reps = 3;
};

blockffn_runner* g_runner = nullptr;  // for the signal handler
std::string g_device;                 // the model's: a draft model has its own
volatile std::sig_atomic_t g_interrupted = 0;

void interrupt(int) {
  if (g_interrupted++ != 0) std::_Exit(130);
  if (g_runner != nullptr) blockffn_runner_cancel(g_runner);  // one store to an atomic
}

[[noreturn]] void usage(const std::string& why) {
  std::fprintf(stderr, "error: %s; see blockffn-run --help\n", why.c_str());
  std::exit(2);
}

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "error: %s\n", why.c_str());
  std::exit(1);
}

template <class T>
T number(const char* name, const char* text, double low, double high) {
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (end == text || *end != 0 || !(value >= low && value <= high)) usage(std::string("--") + name + " " + text + " is out of range");
  if (std::is_integral<T>::value && value != std::floor(value)) usage(std::string("--") + name + " " + text + " is not a whole number");
  return static_cast<T>(value);
}

int choice(const char* name, const std::string& text, const std::vector<const char*>& names) {
  const auto found = std::find(names.begin(), names.end(), text);
  if (found == names.end()) usage(std::string("--") + name + " " + text + " is not one of its values");
  return static_cast<int>(found - names.begin());
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file.good() && !file.eof()) fail(path + ": cannot be read");
  if (text.empty()) fail(path + ": empty or missing; name a text file");
  return text;
}

Arguments parse(int argc, char** argv) {
  Arguments args;
  blockffn_runner_default_options(&args.options);
  blockffn_runner_options& o = args.options;
  enum { kDraft = 256, kTokenizer, kStop, kMode, kDrafter, kTokens, kWidth, kDepth, kTemperature, kTopK, kTopP, kPenalty,
         kSeed, kExperts, kBench, kPp, kTg, kReps, kJson, kChat, kSystem };
  const option known[] = {{"prompt", 1, nullptr, 'p'}, {"file", 1, nullptr, 'f'}, {"draft", 1, nullptr, kDraft},
      {"tokenizer", 1, nullptr, kTokenizer}, {"max-tokens", 1, nullptr, 'n'}, {"stop", 1, nullptr, kStop},
      {"mode", 1, nullptr, kMode}, {"drafter", 1, nullptr, kDrafter}, {"draft-tokens", 1, nullptr, kTokens},
      {"draft-width", 1, nullptr, kWidth}, {"draft-depth", 1, nullptr, kDepth}, {"temperature", 1, nullptr, kTemperature},
      {"top-k", 1, nullptr, kTopK}, {"top-p", 1, nullptr, kTopP}, {"repetition-penalty", 1, nullptr, kPenalty},
      {"seed", 1, nullptr, kSeed}, {"experts", 1, nullptr, kExperts},
      {"threads", 1, nullptr, 't'}, {"bench", 0, nullptr, kBench}, {"pp", 1, nullptr, kPp},
      {"tg", 1, nullptr, kTg}, {"reps", 1, nullptr, kReps}, {"json", 0, nullptr, kJson}, {"chat", 0, nullptr, kChat},
      {"system", 1, nullptr, kSystem}, {"help", 0, nullptr, 'h'}, {nullptr, 0, nullptr, 0}};
  const double big = 1 << 30;
  for (int c; (c = getopt_long(argc, argv, "p:f:n:t:h", known, nullptr)) != -1;) {
    switch (c) {
      case 'p': args.prompt = optarg, args.has_prompt = true; break;
      case 'f': args.prompt = read_file(optarg), args.has_prompt = true; break;
      case 'n': o.max_tokens = number<int32_t>("max-tokens", optarg, 1, big); break;
      case 't': args.threads = number<long>("threads", optarg, 1, 1024); break;
      case kDraft: args.draft = optarg; break;
      case kTokenizer: args.tokenizer = optarg; break;
      case kStop: args.stops.emplace_back(optarg); break;
      case kMode: o.mode = choice("mode", optarg, {"plain", "spec", "auto"}); break;
      case kDrafter: o.drafter = choice("drafter", optarg, {"best", "ngram", "head"}); break;
      case kTokens: o.draft_tokens = number<int32_t>("draft-tokens", optarg, 1, 63); break;
      case kWidth: o.draft_width = number<int32_t>("draft-width", optarg, 1, 63); break;
      case kDepth: o.draft_depth = number<int32_t>("draft-depth", optarg, 1, 63); break;
      case kTemperature: o.temperature = number<double>("temperature", optarg, 0, 1e6); break;
      case kTopK: o.top_k = number<int32_t>("top-k", optarg, 0, big); break;
      case kTopP: o.top_p = number<double>("top-p", optarg, 1e-9, 1); break;
      case kPenalty: o.repetition_penalty = number<double>("repetition-penalty", optarg, 1e-6, 1e6); break;
      case kSeed: o.seed = number<uint64_t>("seed", optarg, 0, 9007199254740992.0); break;
      case kExperts: o.experts = choice("experts", optarg, {"active", "all"}); break;
      case kBench: args.bench = true; break;
      case kPp: args.pp = number<long>("pp", optarg, 1, big); break;
      case kTg: args.tg = number<long>("tg", optarg, 2, big); break;
      case kReps: args.reps = number<long>("reps", optarg, 1, 1000); break;
      case kJson: args.json = true; break;
      case kChat: args.chat = true; break;
      case kSystem: args.system = optarg; break;
      case 'h': std::fputs(kHelp, stdout); std::exit(0);
      default: std::exit(2);  // getopt has said why
    }
  }
  if (optind + 1 != argc) usage(optind == argc ? "no MODEL.pte was named" : std::string("an argument too many: ") + argv[optind + 1]);
  args.model = argv[optind];
  if (!args.bench && !args.chat && !args.has_prompt) usage("a prompt is missing (-p TEXT)");
  return args;
}

blockffn_file file_of(const std::string& path) { return {path.c_str(), -1, 0, 0}; }

void check(blockffn_runner* runner, int code) {
  if (code != BLOCKFFN_OK) fail(blockffn_runner_last_error(runner));
}

blockffn_runner* load(const Arguments& args) {
  const int threads = args.threads > 0 ? static_cast<int>(args.threads) : blockffn_default_threads();
  if (blockffn_set_threads(threads) != 0) fail("ExecuTorch refused a pool of " + std::to_string(threads) + " threads");
  char error[1024];
  blockffn_file file = file_of(args.model);
  blockffn_runner* runner = blockffn_runner_load(&file, error, sizeof error, nullptr);
  if (runner == nullptr) fail(error);
  g_device = blockffn_device();
  const size_t slash = args.model.find_last_of('/');
  const std::string folder = slash == std::string::npos ? "" : args.model.substr(0, slash + 1);
  const std::string json = args.tokenizer.empty() ? folder + "tokenizer.json" : args.tokenizer;
  const size_t json_slash = json.find_last_of('/');
  const std::string config = (json_slash == std::string::npos ? "" : json.substr(0, json_slash + 1)) + "tokenizer_config.json";
  const blockffn_file json_file = file_of(json), config_file = file_of(config);
  check(runner, blockffn_runner_load_tokenizer(runner, &json_file, std::ifstream(config).good() ? &config_file : nullptr));
  if (!args.draft.empty()) {
    file = file_of(args.draft);
    check(runner, blockffn_runner_load_draft(runner, &file));
  }
  return runner;
}

int print_text(void* text, const char* utf8, size_t bytes) {
  static_cast<std::string*>(text)->append(utf8, bytes);
  return std::fwrite(utf8, 1, bytes, stdout) != bytes || std::fflush(stdout) != 0;
}

double rate(double count, double ms) { return count > 0 && ms > 0 ? count / ms * 1e3 : 0; }

double union_share(const blockffn_runner_stats& s) {
  int64_t read = 0, total = 0;
  for (int t = 0; t < 65; ++t) read += s.experts_read[t], total += s.experts_total[t];
  return total > 0 ? static_cast<double>(read) / static_cast<double>(total) : 0;
}

double tokens_a_cycle(const blockffn_runner_stats& s) {
  int64_t tokens = 0;
  for (int k = 0; k < 65; ++k) tokens += k * s.emitted_histogram[k];
  return s.cycles > 0 ? static_cast<double>(tokens) / static_cast<double>(s.cycles) : 0;
}

const char* kernels_of(blockffn_runner* runner) {
  static blockffn_runner_info info;
  blockffn_runner_get_info(runner, &info);
  return info.kernels;
}

int threads_of(const Arguments& args) { return args.threads > 0 ? static_cast<int>(args.threads) : blockffn_default_threads(); }

constexpr const char* kStops[] = {"nothing", "end of text", "max tokens", "output", "interrupt", "context full", "stop string"};

void report(blockffn_runner* runner, const Arguments& args) {
  blockffn_runner_stats s;
  blockffn_runner_get_stats(runner, &s);
  const double prefill = rate(static_cast<double>(s.prompt_tokens - s.reused_tokens), s.prefill_ms);
  const double decode = rate(static_cast<double>(s.generated_tokens - 1), s.decode_ms);
  std::fprintf(stderr, "prompt     %lld tokens (%lld reused), %.1f tokens/s, first token after %.1f ms\n",
               static_cast<long long>(s.prompt_tokens), static_cast<long long>(s.reused_tokens), prefill, s.ttft_ms);
  std::fprintf(stderr, "generated  %lld tokens, %.1f tokens/s, ended by %s\n", static_cast<long long>(s.generated_tokens), decode,
               kStops[s.stopped_by]);
  std::fprintf(stderr, "cycles     %lld, %.2f tokens each; %lld drafted, %lld accepted\n", static_cast<long long>(s.cycles),
               tokens_a_cycle(s), static_cast<long long>(s.drafted_tokens), static_cast<long long>(s.accepted_tokens));
  std::fprintf(stderr, "time       draft %.1f ms, verify %.1f ms, other %.1f ms; calibration %.1f ms\n", s.draft_ms, s.verify_ms,
               s.other_ms, s.calibrate_ms);
  std::fprintf(stderr, "experts    share read by a chunk:");
  for (int t = 0; t < 65; ++t)
    if (s.experts_total[t] > 0) std::fprintf(stderr, " T=%d %.3f", t, static_cast<double>(s.experts_read[t]) / static_cast<double>(s.experts_total[t]));
  std::fprintf(stderr, "\nprocess    kernels %s, %d threads, peak resident %.1f MB, device %s\n", kernels_of(runner),
               threads_of(args), static_cast<double>(s.peak_rss_bytes) / 1e6, g_device.c_str());
  if (args.json)
    std::printf("{\"prompt_tokens\": %lld, \"generated_tokens\": %lld, \"stopped_by\": \"%s\", \"ttft_ms\": %.3f, "
                "\"prefill_tokens_per_s\": %.2f, \"decode_tokens_per_s\": %.2f, \"tokens_per_cycle\": %.3f, \"drafted_tokens\": %lld, "
                "\"accepted_tokens\": %lld, \"union_share\": %.4f, \"kernels\": \"%s\", \"threads\": %d, \"peak_rss_bytes\": %lld, "
                "\"device\": \"%s\"}\n",
                static_cast<long long>(s.prompt_tokens), static_cast<long long>(s.generated_tokens), kStops[s.stopped_by], s.ttft_ms,
                prefill, decode, tokens_a_cycle(s), static_cast<long long>(s.drafted_tokens), static_cast<long long>(s.accepted_tokens),
                union_share(s), kernels_of(runner), threads_of(args), static_cast<long long>(s.peak_rss_bytes), g_device.c_str());
}

std::vector<const char*> pointers(const std::vector<std::string>& texts) {
  std::vector<const char*> all;
  for (const std::string& text : texts) all.push_back(text.c_str());
  return all;
}

void chat(blockffn_runner* runner, const Arguments& args) {
  struct Turn {
    const char* role;
    std::string text;
  };
  std::vector<Turn> turns;
  if (!args.system.empty()) turns.push_back({"system", args.system});
  const auto stops = pointers(args.stops);
  std::string line = args.prompt;
  while (args.has_prompt || (std::fputs("> ", stderr), std::getline(std::cin, line))) {
    if (!line.empty()) {
      turns.push_back({"user", line});
      std::vector<blockffn_message> messages;
      for (const Turn& turn : turns) messages.push_back({turn.role, turn.text.c_str()});
      std::string answer;
      check(runner, blockffn_runner_generate_chat(runner, messages.data(), static_cast<int32_t>(messages.size()), &args.options,
                                                  stops.data(), static_cast<int32_t>(stops.size()), print_text, &answer));
      std::printf("\n");
      report(runner, args);
      turns.push_back({"assistant", answer});
    }
    if (args.has_prompt || g_interrupted != 0) return;
  }
}

// ---- benchmark ----
constexpr char kText[] =
    "To install the package, run the following command. The configuration file describes which modules are loaded, "
    "where their data are stored and how often they are written. Each section begins with a name in brackets; the "
    "options that follow it belong to that section alone. If an option is missing, its default value is used. ";

struct Row {
  std::string test, mode;
  double mean = 0, spread = 0, per_cycle = 0, accepted = 0, share = 0;
};

Row timed(blockffn_runner* runner, const Arguments& args, const std::string& test, const std::string& mode,
          const std::vector<int32_t>& prompt, const blockffn_runner_options& options, bool prefill) {
  std::vector<double> rates;
  blockffn_runner_stats s{};
  for (long i = -1; i < args.reps && g_interrupted == 0; ++i) {  // one more to warm up and to calibrate
    if (prefill) check(runner, blockffn_runner_reset(runner));
    check(runner, blockffn_runner_generate(runner, prompt.data(), static_cast<int64_t>(prompt.size()), &options, nullptr, nullptr));
    blockffn_runner_get_stats(runner, &s);
    const double seen = prefill ? rate(static_cast<double>(s.prompt_tokens - s.reused_tokens), s.prefill_ms)
                                : rate(static_cast<double>(s.generated_tokens - 1), s.decode_ms);
    if (i >= 0) rates.push_back(seen);
  }
  Row row{test, mode};
  for (const double r : rates) row.mean += r / static_cast<double>(rates.size());
  for (const double r : rates) row.spread += (r - row.mean) * (r - row.mean) / static_cast<double>(rates.size());
  row.spread = std::sqrt(row.spread);
  row.per_cycle = prefill ? 0 : tokens_a_cycle(s);
  row.accepted = s.drafted_tokens > 0 ? static_cast<double>(s.accepted_tokens) / static_cast<double>(s.drafted_tokens) : 0;
  row.share = prefill ? (s.prefill_experts_total > 0 ? static_cast<double>(s.prefill_experts_read) / static_cast<double>(s.prefill_experts_total) : 0)
                      : union_share(s);
  return row;
}

std::vector<int32_t> ids_of(blockffn_runner* runner, const std::string& text) {
  std::vector<int32_t> ids(text.size() + 8);
  int64_t count = 0;
  check(runner, blockffn_runner_encode(runner, text.data(), text.size(), 1, ids.data(), static_cast<int64_t>(ids.size()), &count));
  ids.resize(static_cast<size_t>(count));
  return ids;
}

void bench(blockffn_runner* runner, const Arguments& args) {
  blockffn_runner_info info;
  blockffn_runner_get_info(runner, &info);
  if (args.pp > info.max_context) fail("--pp " + std::to_string(args.pp) + " is more than the program's context of " + std::to_string(info.max_context));
  std::vector<int32_t> long_prompt = ids_of(runner, kText);
  const std::vector<int32_t> once = long_prompt;
  while (static_cast<long>(long_prompt.size()) < args.pp) long_prompt.insert(long_prompt.end(), once.begin() + 1, once.end());
  long_prompt.resize(static_cast<size_t>(args.pp));
  const std::vector<int32_t> prompt = ids_of(runner, args.has_prompt ? args.prompt : std::string(kText));
  std::vector<Row> rows;
  blockffn_runner_options options = args.options;
  options.max_tokens = 1;
  options.mode = BLOCKFFN_PLAIN;
  rows.push_back(timed(runner, args, "pp" + std::to_string(args.pp), "prefill", long_prompt, options, true));
  options.max_tokens = static_cast<int32_t>(args.tg);
  for (const auto& [mode, name] : {std::pair{BLOCKFFN_PLAIN, "plain"}, {BLOCKFFN_SPEC, "spec"}, {BLOCKFFN_AUTO, "auto"}}) {
    options.mode = mode;
    check(runner, blockffn_runner_reset(runner));
    rows.push_back(timed(runner, args, "tg" + std::to_string(args.tg), name, prompt, options, false));
  }
  std::printf("| test | mode | tokens/s | tokens a cycle | accepted | experts read | kernels | threads |\n"
              "|---|---|---:|---:|---:|---:|---|---:|\n");
  std::string json;
  for (const Row& r : rows) {
    std::printf("| %s | %s | %.1f ± %.1f | %.2f | %.0f %% | %.3f | %s | %d |\n", r.test.c_str(), r.mode.c_str(), r.mean, r.spread,
                r.per_cycle, 100 * r.accepted, r.share, info.kernels, threads_of(args));
    char item[512];
    std::snprintf(item, sizeof item, "%s{\"test\": \"%s\", \"mode\": \"%s\", \"tokens_per_s\": %.3f, \"spread\": %.3f, "
                  "\"tokens_per_cycle\": %.3f, \"accepted_share\": %.4f, \"union_share\": %.4f}", json.empty() ? "" : ", ",
                  r.test.c_str(), r.mode.c_str(), r.mean, r.spread, r.per_cycle, r.accepted, r.share);
    json += item;
  }
  std::printf("{\"kernels\": \"%s\", \"threads\": %d, \"device\": \"%s\", \"draft_head\": %s, \"rows\": [%s]}\n", info.kernels,
              threads_of(args), g_device.c_str(), info.has_draft_head != 0 ? "true" : "false", json.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments args = parse(argc, argv);
  g_runner = load(args);
  std::signal(SIGINT, interrupt);
  std::signal(SIGPIPE, SIG_IGN);
  if (args.bench) {
    bench(g_runner, args);
  } else if (args.chat) {
    chat(g_runner, args);
  } else {
    const auto stops = pointers(args.stops);
    std::string text;
    check(g_runner, blockffn_runner_generate_text(g_runner, args.prompt.data(), args.prompt.size(), &args.options, stops.data(),
                                                  static_cast<int32_t>(stops.size()), print_text, &text));
    std::printf("\n");
    report(g_runner, args);
  }
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  std::signal(SIGINT, SIG_DFL);  // there is nothing to cancel any more
  blockffn_runner_free(g_runner);
  return g_interrupted != 0 ? 130 : written ? 0 : 1;
}
