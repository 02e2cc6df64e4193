// Text on top of a run's tokens: whole characters as they are decided, up to a stop string.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "blockffn_runner.h"
#include "failure.h"
#include "tokenizer/chat.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"

namespace blockffn::runner {

// A tokenizer with its chat template.
struct TextModel {
  Tokenizer tokenizer;
  ChatTemplate chat;
  // Throws Failure. The files are read, not kept.
  static std::unique_ptr<TextModel> load(const blockffn_file& json, const blockffn_file* config);
  std::vector<TextPart> render(const blockffn_message* messages, int32_t count) const;  // throws Failure
};

// Passes text on until a stop string appears; holds back what may become one.
class StopFilter {
 public:
  explicit StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  std::string push(const std::string& text);
  std::string flush();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

// Tokens in, text out.
class TextStream {
 public:
  // at_start: the tokens begin a text of their own, so that the tokenizer's first space is dropped.
  TextStream(const Tokenizer& tokenizer, bool at_start, std::vector<std::string> stops)
      : tokenizer_(tokenizer), drop_spaces_(at_start ? tokenizer.leading_spaces() : 0), stops_(std::move(stops)) {}
  std::string push(int32_t token);
  std::string flush();
  bool stopped() const { return stops_.stopped(); }

 private:
  const Tokenizer& tokenizer_;
  int drop_spaces_;
  Utf8Stream characters_;
  StopFilter stops_;
};

}  // namespace blockffn::runner
