// A tokenizer.json of the Hugging Face tokenizers library: normalizer, added tokens, pre-tokenizer, BPE,
// decoder. What it does not know is refused with a sentence, never approximated.
//
// Text is not searched for special tokens (a web page may contain "</s>"); those that are meant are
// given apart, as parts. Post-processors are not run: the caller places bos.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bpe.h"
#include "pretokenize.h"

namespace blockffn::runner {

// Text as it is, or the text of a special token.
struct TextPart {
  std::string text;
  bool special = false;
};

class Tokenizer {
 public:
  // Throws std::runtime_error with the reason.
  Tokenizer(const char* json, size_t bytes);

  int32_t vocab_size() const { return static_cast<int32_t>(texts_.size()); }  // highest id + 1
  // Broken UTF-8 is read as U+FFFD. A special part that is no special token is plain text.
  std::vector<int32_t> encode(const std::vector<TextPart>& parts) const;
  std::vector<int32_t> encode(std::string_view text) const { return encode({{std::string(text)}}); }
  int32_t special_id(std::string_view text) const;  // -1: none

  // The bytes that a token adds to a text; none for special tokens and unknown ids.
  const std::string& bytes_of(int32_t id) const;
  // Spaces that decoding drops at the beginning of a text.
  int leading_spaces() const { return leading_spaces_; }

 private:
  struct Added {
    std::string text;
    int32_t id;
    bool special, normalized, left_strip, right_strip;
  };
  struct Replacement {
    std::string from, to;  // from is empty: put `to` before the text
  };
  struct Step {  // of the pre-tokenizer
    enum Kind { kSplit, kBytes, kMetaspace, kDigits } kind;
    Pattern pattern;
    bool split, prefix_space;   // prefix_space: kBytes; split: kMetaspace
    enum When { kAlways, kFirst, kNever } prepend;
    std::string replacement;
  };
  // Text between added tokens; first: it begins the whole text.
  struct Piece {
    std::string text;
    int32_t id = -1;  // of the added token that it is
    bool first = false;
  };

  void read_added(const Json& list);
  void read_normalizer(const Json& json);
  void read_pre_tokenizer(const Json& json);
  void read_decoder(const Json& json);
  std::string normalized(std::string text) const;
  // Replaces the added tokens in pieces of text by pieces of their own.
  std::vector<Piece> split_added(std::vector<Piece> pieces, bool normalized) const;
  void encode_piece(const Piece& piece, std::vector<int32_t>* ids) const;

  std::unique_ptr<Bpe> bpe_;
  std::vector<Added> added_;
  std::vector<std::vector<int>> added_by_byte_;  // first byte -> indices into added_, longest first
  std::vector<Replacement> normalizer_, decoder_;
  std::vector<Step> steps_;
  bool byte_level_ = false, byte_tokens_ = false;  // what the decoder does
  int leading_spaces_ = 0;
  std::vector<std::string> texts_;  // by id: bytes_of
};

}  // namespace blockffn::runner
