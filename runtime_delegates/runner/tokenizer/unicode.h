// UTF-8, and the character classes that tokenizers' patterns name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace blockffn::runner {

// The character that begins a string. An ill-formed one is as long as what should become one U+FFFD (Unicode
// 3.9, substitution of maximal subparts), and cut_short says that the string ended inside it.
struct Utf8 {
  uint32_t code;
  uint8_t bytes;
  bool valid, cut_short;
};
Utf8 utf8_at(const char* text, size_t bytes);  // bytes > 0
void append_utf8(std::string* text, uint32_t code);
std::string repaired_utf8(std::string_view text);  // U+FFFD for what is ill-formed

bool is_letter(uint32_t code);       // \p{L}
bool is_number(uint32_t code);       // \p{N}
bool is_space(uint32_t code);        // \s: White_Space
std::string_view stripped(std::string_view text);  // as Python's str.strip()

// Whole characters out of bytes that come in any pieces.
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);
  std::string flush();  // what was left incomplete, as U+FFFD

 private:
  std::string pending_;
};

}  // namespace blockffn::runner
