#include "pretokenize.h"

#include <array>

#include "unicode.h"

namespace blockffn::runner {
namespace {

constexpr struct {
  const char* regex;
  Pattern pattern;
} kKnown[] = {
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", kGpt2},
    // Llama 3
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     {true, true, 3, true}},
    // Qwen 2
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     {true, true, 1, true}},
};

struct Character {
  uint32_t code;
  size_t at;  // its first byte
};

class Cutter {
 public:
  Cutter(const Pattern& pattern, const std::vector<Character>& text) : pattern_(pattern), text_(text), n_(text.size() - 1) {}

  // End of the match that begins at i. The alternatives come in the order of the regular expression.
  size_t match(size_t i) const {
    if (const size_t end = contraction(i); end > i) return end;
    const bool prefixed = i + 1 < n_ && (pattern_.any_prefix ? !is_letter(at(i)) && !is_number(at(i)) && !line_break(i) : at(i) == ' ');
    if (const size_t from = prefixed ? i + 1 : i; from < n_ && is_letter(at(from))) return run(from, is_letter);
    const bool spaced = i + 1 < n_ && at(i) == ' ';
    if (pattern_.digits > 0) {
      size_t end = i;
      while (end < n_ && end - i < static_cast<size_t>(pattern_.digits) && is_number(at(end))) ++end;
      if (end > i) return end;
    } else if (const size_t from = spaced ? i + 1 : i; is_number(at(from))) {
      return run(from, is_number);
    }
    if (const size_t from = spaced ? i + 1 : i; is_sign(at(from))) {
      size_t end = run(from, is_sign);
      while (pattern_.line_breaks && end < n_ && line_break(end)) ++end;
      return end;
    }
    // All that is left is space.
    const size_t end = run(i, is_space);
    if (pattern_.line_breaks)
      for (size_t last = end; last > i; --last)
        if (line_break(last - 1)) return last;
    return end < n_ && end - i > 1 ? end - 1 : end;  // the last space belongs to the next word
  }

 private:
  uint32_t at(size_t i) const { return text_[i].code; }
  bool line_break(size_t i) const { return at(i) == '\r' || at(i) == '\n'; }
  static bool is_sign(uint32_t code) { return !is_space(code) && !is_letter(code) && !is_number(code); }

  size_t run(size_t i, bool (*kind)(uint32_t)) const {
    while (i < n_ && kind(at(i))) ++i;
    return i;
  }

  size_t contraction(size_t i) const {
    if (at(i) != '\'') return i;
    for (const char* word : {"s", "t", "re", "ve", "m", "ll", "d"}) {
      size_t k = 0;
      for (; word[k] != 0 && i + 1 + k < n_; ++k) {
        uint32_t code = at(i + 1 + k);
        if (pattern_.any_case) code = code == 0x17F ? 's' : code < 0x80 ? code | 0x20 : code;  // U+017F is a long s
        if (code != static_cast<uint32_t>(word[k])) break;
      }
      if (word[k] == 0) return i + 1 + k;
    }
    return i;
  }

  const Pattern& pattern_;
  const std::vector<Character>& text_;
  const size_t n_;
};

struct ByteTable {
  std::array<std::string, 256> characters;
  std::array<int, 512> bytes;
  // Printable Latin-1 characters stand for themselves, the other bytes for U+0100 and following ones.
  ByteTable() {
    bytes.fill(-1);
    uint32_t next = 0x100;
    for (uint32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const uint32_t code = printable ? b : next++;
      append_utf8(&characters[b], code);
      bytes[code] = static_cast<int>(b);
    }
  }
};

const ByteTable& byte_table() {
  static const ByteTable table;
  return table;
}

}  // namespace

std::optional<Pattern> known_pattern(std::string_view regex) {
  for (const auto& known : kKnown)
    if (regex == known.regex) return known.pattern;
  return std::nullopt;
}

std::vector<std::string_view> cut(const Pattern& pattern, std::string_view text) {
  std::vector<Character> characters;
  characters.reserve(text.size() + 1);
  for (size_t i = 0; i < text.size();) {
    const Utf8 next = utf8_at(text.data() + i, text.size() - i);
    characters.push_back({next.code, i});
    i += next.bytes;
  }
  characters.push_back({0, text.size()});
  const Cutter cutter(pattern, characters);
  std::vector<std::string_view> words;
  for (size_t i = 0; i + 1 < characters.size();) {
    const size_t end = cutter.match(i);
    words.push_back(text.substr(characters[i].at, characters[end].at - characters[i].at));
    i = end;
  }
  return words;
}

const std::string& byte_character(uint8_t byte) { return byte_table().characters[byte]; }

int character_byte(uint32_t code) { return code < 512 ? byte_table().bytes[code] : -1; }

}  // namespace blockffn::runner
