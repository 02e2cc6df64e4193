#include "bpe.h"

#include <algorithm>
#include <cstdio>
#include <queue>
#include <stdexcept>

#include "unicode.h"

namespace blockffn::runner {
namespace {

[[noreturn]] void bad(const std::string& why) { throw std::runtime_error(why); }

bool flag(const Json& model, const char* name) {
  const Json& value = model[name];
  if (value.is_null()) return false;
  if (value.boolean() == nullptr) bad(std::string("the model's ") + name + " is neither true nor false");
  return *value.boolean();
}

uint64_t pair_of(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

}  // namespace

Bpe::Bpe(const Json& model) {
  if (const std::string* type = model["type"].string(); type != nullptr && *type != "BPE")
    bad("a tokenizer of type " + *type + "; this runner reads BPE");
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (const std::string* text = model[name].string(); text != nullptr && !text->empty())
      bad(std::string("the model's ") + name + " is not supported");
  byte_fallback_ = flag(model, "byte_fallback");
  fuse_unknown_ = flag(model, "fuse_unk");
  whole_words_first_ = flag(model, "ignore_merges");

  const Json::Object* vocab = model["vocab"].object();
  const Json::Array* merges = model["merges"].array();
  if (vocab == nullptr || merges == nullptr) bad("the model has no vocab and merges");
  int64_t largest = -1;
  for (const auto& [token, value] : *vocab) {
    const int64_t id = value.index(kMaxTokenId);
    if (id < 0) bad("the id of token '" + token + "' is not 0 to " + std::to_string(kMaxTokenId));
    if (token.empty()) bad("a token is empty");
    largest = std::max(largest, id);
  }
  tokens_.resize(static_cast<size_t>(largest + 1));
  for (const auto& [token, value] : *vocab) {
    const auto id = static_cast<int32_t>(value.index(kMaxTokenId));
    if (!tokens_[id].empty()) bad("tokens '" + tokens_[id] + "' and '" + token + "' have the same id");
    tokens_[id] = token;
  }
  ids_.reserve(vocab->size());
  for (size_t i = 0; i < tokens_.size(); ++i)
    if (!tokens_[i].empty()) ids_.emplace(tokens_[i], static_cast<int32_t>(i));

  merges_.reserve(merges->size());
  std::string joined;
  for (size_t rank = 0; rank < merges->size(); ++rank) {
    const Json& entry = (*merges)[rank];
    std::string_view left, right;
    if (const std::string* text = entry.string()) {  // "left right"; neither holds a space
      const size_t space = text->find(' ');
      if (space == std::string::npos) bad("merge " + std::to_string(rank) + " is not a pair");
      left = std::string_view(*text).substr(0, space), right = std::string_view(*text).substr(space + 1);
    } else if (const Json::Array* pair = entry.array();
               pair != nullptr && pair->size() == 2 && (*pair)[0].string() != nullptr && (*pair)[1].string() != nullptr) {
      left = *(*pair)[0].string(), right = *(*pair)[1].string();
    } else {
      bad("merge " + std::to_string(rank) + " is not a pair");
    }
    joined.assign(left).append(right);
    const int32_t a = id(left), b = id(right), whole = id(joined);
    if (a < 0 || b < 0 || whole < 0) bad("merge " + std::to_string(rank) + " names a token that the vocab lacks");
    merges_[pair_of(a, b)] = {static_cast<int32_t>(rank), whole};
  }

  for (int b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(b));
    byte_ids_[b] = byte_fallback_ ? id(name) : -1;
  }
  if (const std::string* unknown = model["unk_token"].string()) {
    unknown_ = id(*unknown);
    if (unknown_ < 0) bad("the vocab lacks the unk_token '" + *unknown + "'");
  }
}

int32_t Bpe::id(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? -1 : found->second;
}

const Bpe::Merge* Bpe::merge(int32_t left, int32_t right) const {
  const auto found = merges_.find(pair_of(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

// The ids of a word's characters before any merge.
void Bpe::start(std::string_view word, std::vector<int32_t>* ids) const {
  bool unknown = false;  // one is to come
  for (size_t i = 0; i < word.size();) {
    const size_t bytes = utf8_at(word.data() + i, word.size() - i).bytes;
    const std::string_view character = word.substr(i, bytes);
    i += bytes;
    if (const int32_t known = id(character); known >= 0) {
      if (unknown) ids->push_back(unknown_);
      unknown = false;
      ids->push_back(known);
      continue;
    }
    const auto byte_id = [&](char c) { return byte_ids_[static_cast<uint8_t>(c)]; };
    if (std::all_of(character.begin(), character.end(), [&](char c) { return byte_id(c) >= 0; })) {
      for (const char c : character) ids->push_back(byte_id(c));
      continue;
    }
    if (unknown_ < 0) continue;
    if (unknown && !fuse_unknown_) ids->push_back(unknown_);
    unknown = true;
  }
  if (unknown) ids->push_back(unknown_);
}

void Bpe::encode(std::string_view word, std::vector<int32_t>* out) const {
  if (word.empty()) return;
  if (whole_words_first_)
    if (const int32_t whole = id(word); whole >= 0) return out->push_back(whole);
  std::vector<int32_t> ids;
  start(word, &ids);
  const auto n = static_cast<int32_t>(ids.size());

  // The symbols form a list; the candidate of lowest rank, then leftmost, is merged next.
  std::vector<int32_t> next(n), previous(n);
  std::vector<uint8_t> gone(n, 0);
  struct Candidate {
    int32_t rank, at, id;
    bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
  };
  std::priority_queue<Candidate> queue;
  const auto consider = [&](int32_t left, int32_t right) {
    if (left < 0 || right >= n) return;
    if (const Merge* found = merge(ids[left], ids[right])) queue.push({found->rank, left, found->id});
  };
  for (int32_t i = 0; i < n; ++i) next[i] = i + 1, previous[i] = i - 1;
  for (int32_t i = 0; i + 1 < n; ++i) consider(i, i + 1);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    const int32_t right = gone[best.at] != 0 ? n : next[best.at];
    if (right >= n) continue;
    // One of the two may have become another symbol since.
    if (const Merge* found = merge(ids[best.at], ids[right]); found == nullptr || found->id != best.id) continue;
    ids[best.at] = best.id;
    gone[right] = 1;
    next[best.at] = next[right];
    if (next[right] < n) previous[next[right]] = best.at;
    consider(previous[best.at], best.at);
    consider(best.at, next[best.at]);
  }
  for (int32_t i = 0; i < n; ++i)
    if (gone[i] == 0) out->push_back(ids[i]);
}

}  // namespace blockffn::runner
