// Byte-pair encoding: a word's characters, merged in the order of the merge list.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "json.h"

namespace blockffn::runner {

class Bpe {
 public:
  // The "model" of a tokenizer.json. Throws std::runtime_error with the reason.
  explicit Bpe(const Json& model);
  Bpe(const Bpe&) = delete;
  Bpe& operator=(const Bpe&) = delete;

  int32_t id(std::string_view token) const;  // -1: none
  const std::vector<std::string>& tokens() const { return tokens_; }  // by id; "" where there is none
  // Appends the ids of a word of valid UTF-8.
  void encode(std::string_view word, std::vector<int32_t>* ids) const;

 private:
  struct Merge {
    int32_t rank, id;
  };
  const Merge* merge(int32_t left, int32_t right) const;
  void start(std::string_view word, std::vector<int32_t>* ids) const;

  std::vector<std::string> tokens_;
  std::unordered_map<std::string_view, int32_t> ids_;  // into tokens_
  std::unordered_map<uint64_t, Merge> merges_;
  int32_t byte_ids_[256];
  int32_t unknown_ = -1;
  bool byte_fallback_ = false, fuse_unknown_ = false, whole_words_first_ = false;
};

constexpr int64_t kMaxTokenId = (1 << 24) - 1;

}  // namespace blockffn::runner
