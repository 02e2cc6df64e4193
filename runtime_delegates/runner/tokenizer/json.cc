#include "json.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <unordered_set>

#include "unicode.h"

namespace blockffn::runner {
namespace {

constexpr int kMaxDepth = 64;

class Parser {
 public:
  Parser(const char* text, size_t bytes) : at_(text), start_(text), end_(text + bytes) {}

  Json document() {
    Json json = value(0);
    space();
    if (at_ != end_) fail("something follows its end");
    return json;
  }

 private:
  [[noreturn]] void fail(const char* why) const {
    throw std::runtime_error("not valid JSON: " + std::string(why) + " at byte " + std::to_string(at_ - start_));
  }
  void space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
  }
  char peek() const {
    if (at_ == end_) fail("the end is missing");
    return *at_;
  }
  bool take(char c) {
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }
  void word(const char* text) {
    const size_t n = std::strlen(text);
    if (static_cast<size_t>(end_ - at_) < n || std::memcmp(at_, text, n) != 0) fail("an unknown word");
    at_ += n;
  }

  Json value(int depth) {
    if (depth == kMaxDepth) fail("too many levels");
    space();
    Json json;
    switch (peek()) {
      case '{': json.value = object(depth); break;
      case '[': json.value = array(depth); break;
      case '"': json.value = string(); break;
      case 't': word("true"), json.value = true; break;
      case 'f': word("false"), json.value = false; break;
      case 'n': word("null"); break;
      default: json.value = number();
    }
    return json;
  }

  Json::Array array(int depth) {
    Json::Array items;
    ++at_;
    space();
    if (take(']')) return items;
    do items.push_back(value(depth + 1)), space();
    while (take(','));
    if (!take(']')) fail("a comma or ] is missing");
    return items;
  }

  Json::Object object(int depth) {
    Json::Object members;
    ++at_;
    space();
    if (take('}')) return members;
    do {
      space();
      if (peek() != '"') fail("a name is missing");
      std::string name = string();
      space();
      if (!take(':')) fail("a colon is missing");
      members.emplace_back(std::move(name), value(depth + 1));
      space();
    } while (take(','));
    if (!take('}')) fail("a comma or } is missing");
    std::unordered_set<std::string_view> names;
    for (const auto& member : members)
      if (!names.insert(member.first).second) fail("a name appears twice in the object that ends");
    return members;
  }

  uint32_t hex4() {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (digit < 0) fail("a bad \\u escape");
      code = code * 16 + static_cast<uint32_t>(digit);
    }
    return code;
  }

  std::string string() {
    std::string text;
    ++at_;
    while (true) {
      const char c = peek();
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a string");
      if (c == '"') return ++at_, text;
      if (c != '\\') {
        const Utf8 next = utf8_at(at_, static_cast<size_t>(end_ - at_));
        if (!next.valid) fail("broken UTF-8");
        text.append(at_, next.bytes);
        at_ += next.bytes;
        continue;
      }
      ++at_;
      const char escape = peek();
      ++at_;
      static const char kNames[] = "\"\\/bfnrt", kValues[] = "\"\\/\b\f\n\r\t";
      if (const char* found = std::strchr(kNames, escape); escape != 0 && found != nullptr) {
        text += kValues[found - kNames];
      } else if (escape == 'u') {
        uint32_t code = hex4();
        if (code >= 0xDC00 && code < 0xE000) fail("half of a surrogate pair");
        if (code >= 0xD800 && code < 0xDC00) {
          if (!take('\\') || !take('u')) fail("half of a surrogate pair");
          const uint32_t low = hex4();
          if (low < 0xDC00 || low >= 0xE000) fail("half of a surrogate pair");
          code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        }
        append_utf8(&text, code);
      } else {
        fail("an unknown escape");
      }
    }
  }

  double number() {
    const char* from = at_;
    const auto digits = [&] {
      const char* first = at_;
      while (at_ != end_ && *at_ >= '0' && *at_ <= '9') ++at_;
      if (at_ == first) fail("a value is missing");
    };
    take('-');
    if (!take('0')) digits();
    if (take('.')) digits();
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      digits();
    }
    return std::strtod(std::string(from, at_).c_str(), nullptr);
  }

  const char *at_, *start_, *end_;
};

}  // namespace

Json Json::parse(const char* text, size_t bytes) { return Parser(text, bytes).document(); }

const Json& Json::operator[](std::string_view name) const {
  static const Json kNull;
  if (const Object* members = object())
    for (const auto& member : *members)
      if (member.first == name) return member.second;
  return kNull;
}

int64_t Json::index(int64_t largest) const {
  const double* x = number();
  if (x == nullptr || !(*x >= 0 && *x <= static_cast<double>(largest))) return -1;
  const auto whole = static_cast<int64_t>(*x);
  return static_cast<double>(whole) == *x ? whole : -1;
}

}  // namespace blockffn::runner
