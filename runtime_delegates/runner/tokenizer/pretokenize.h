// Cuts text into the words that byte-pair encoding works on. The patterns of known tokenizers are
// written out by hand: an engine of regular expressions would be larger than all of this.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace blockffn::runner {

// How a pattern of the GPT-2 family cuts. All of them match every character, so that the matches are the words.
struct Pattern {
  bool any_case;    // of the contractions 's 't 're 've 'm 'll 'd
  bool any_prefix;  // letters may follow any one character but a line break or a number, not only a space
  int digits;       // of a number, at most; 0: any, after an optional space
  bool line_breaks; // spaces end with the last line break; signs take the line breaks that follow
};
constexpr Pattern kGpt2{false, false, 0, false};
// The pattern that a regular expression of tokenizer.json stands for, if it is a known one.
std::optional<Pattern> known_pattern(std::string_view regex);

// Words of valid UTF-8.
std::vector<std::string_view> cut(const Pattern& pattern, std::string_view text);

// The printable character that stands for a byte in byte-level BPE, in UTF-8; and the way back, -1 if none.
const std::string& byte_character(uint8_t byte);
int character_byte(uint32_t code);

}  // namespace blockffn::runner
