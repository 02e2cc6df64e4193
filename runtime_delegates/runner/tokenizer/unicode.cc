#include "unicode.h"

#include <algorithm>
#include <iterator>

namespace blockffn::runner {
namespace {

struct Range {
  uint32_t first, last;
};

// Written by tests/runner/unicode_tables.py.
constexpr Range kLetters[] = {
#include "unicode_letters.inc"
};
constexpr Range kNumbers[] = {
#include "unicode_numbers.inc"
};

template <size_t N>
bool contains(const Range (&ranges)[N], uint32_t code) {
  const Range* after = std::upper_bound(std::begin(ranges), std::end(ranges), code,
                                        [](uint32_t c, const Range& range) { return c < range.first; });
  return after != std::begin(ranges) && code <= after[-1].last;
}

constexpr char kReplacement[] = "\xEF\xBF\xBD";

}  // namespace

Utf8 utf8_at(const char* text, size_t bytes) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, true, false};
  const int length = lead >= 0xC2 && lead <= 0xDF ? 2 : lead >= 0xE0 && lead <= 0xEF ? 3 : lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
  if (length == 0) return {0xFFFD, 1, false, false};
  uint32_t code = lead & (0xFFu >> (length + 1));
  for (int i = 1; i < length; ++i) {
    if (static_cast<size_t>(i) == bytes) return {0xFFFD, static_cast<uint8_t>(i), false, true};
    // The second byte excludes overlong forms, surrogates and what lies beyond U+10FFFF.
    const uint8_t low = i > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = i > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    const uint8_t next = byte(static_cast<size_t>(i));
    if (next < low || next > high) return {0xFFFD, static_cast<uint8_t>(i), false, false};
    code = code << 6 | (next & 0x3F);
  }
  return {code, static_cast<uint8_t>(length), true, false};
}

void append_utf8(std::string* text, uint32_t code) {
  const auto put = [&](uint32_t byte) { *text += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6), put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12), put(0x80 | (code >> 6 & 0x3F)), put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18), put(0x80 | (code >> 12 & 0x3F)), put(0x80 | (code >> 6 & 0x3F)), put(0x80 | (code & 0x3F));
  }
}

std::string repaired_utf8(std::string_view text) {
  Utf8Stream stream;
  std::string whole = stream.push(text);
  return whole += stream.flush();
}

bool is_letter(uint32_t code) {
  if (code < 0x80) return (code | 0x20) >= 'a' && (code | 0x20) <= 'z';
  return contains(kLetters, code);
}

bool is_number(uint32_t code) {
  if (code < 0x80) return code >= '0' && code <= '9';
  return contains(kNumbers, code);
}

bool is_space(uint32_t code) {
  return (code >= 9 && code <= 13) || code == ' ' || code == 0x85 || code == 0xA0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
         code == 0x3000;
}

std::string_view stripped(std::string_view text) {
  const auto space = [](uint32_t code) { return is_space(code) || (code >= 0x1C && code <= 0x1F); };
  size_t first = text.size(), end = 0;
  for (size_t i = 0; i < text.size();) {
    const Utf8 next = utf8_at(text.data() + i, text.size() - i);
    if (!space(next.code)) first = std::min(first, i), end = i + next.bytes;
    i += next.bytes;
  }
  return first < end ? text.substr(first, end - first) : std::string_view();
}

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  std::string whole;
  size_t at = 0;
  while (at < pending_.size()) {
    const Utf8 next = utf8_at(pending_.data() + at, pending_.size() - at);
    if (next.cut_short) break;
    if (next.valid)
      whole.append(pending_, at, next.bytes);
    else
      whole += kReplacement;
    at += next.bytes;
  }
  pending_.erase(0, at);
  return whole;
}

std::string Utf8Stream::flush() {
  if (pending_.empty()) return "";
  pending_.clear();
  return kReplacement;
}

}  // namespace blockffn::runner
