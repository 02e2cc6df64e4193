#include "tokenizer.h"

#include <algorithm>
#include <stdexcept>

#include "unicode.h"

namespace blockffn::runner {
namespace {

[[noreturn]] void bad(const std::string& why) { throw std::runtime_error(why); }

std::string text_of(const Json& json, const char* name, const char* what) {
  const std::string* text = json[name].string();
  if (text == nullptr) bad(std::string("a ") + what + " has no " + name);
  return *text;
}

bool flag(const Json& json, const char* name, bool otherwise) {
  const bool* value = json[name].boolean();
  return value == nullptr ? otherwise : *value;
}

// The entries of a Sequence of `list`, or the one that json is.
std::vector<const Json*> sequence(const Json& json, const char* list, const char* what) {
  if (json.is_null()) return {};
  if (text_of(json, "type", what) != "Sequence") return {&json};
  const Json::Array* items = json[list].array();
  if (items == nullptr) bad(std::string("a ") + what + " Sequence has no " + list);
  std::vector<const Json*> all;
  for (const Json& item : *items) {
    if (text_of(item, "type", what) == "Sequence") bad(std::string("a ") + what + " Sequence in a Sequence is not supported");
    all.push_back(&item);
  }
  return all;
}

// Replacements of a file may grow a text from one to the next, without end.
size_t most_bytes(const std::string& text) { return 256 + 16 * text.size(); }

void replace_all(std::string* text, const std::string& from, const std::string& to, size_t most) {
  std::string out;
  size_t done = 0;
  for (size_t at; (at = text->find(from, done)) != std::string::npos; done = at + from.size()) {
    out.append(*text, done, at - done).append(to);
    if (out.size() > most) bad("its replacements make a text more than 16 times as long");
  }
  if (done > 0) *text = out.append(*text, done);
}

// What Metaspace puts in place of a space: one character.
std::string metaspace_of(const Json& json, const char* what) {
  const std::string text = text_of(json, "replacement", what);
  if (text.empty() || utf8_at(text.data(), text.size()).bytes != text.size())
    bad(std::string("a ") + what + " replaces spaces by something else than one character");
  return text;
}

std::string pattern_string(const Json& json, const char* what) {
  const std::string* text = json["pattern"]["String"].string();
  if (text == nullptr || text->empty()) bad(std::string("a ") + what + " replaces something else than a string, which is not supported");
  return *text;
}

std::string_view without_leading_space(std::string_view text) {
  while (!text.empty()) {
    const Utf8 next = utf8_at(text.data(), text.size());
    if (!is_space(next.code)) break;
    text.remove_prefix(next.bytes);
  }
  return text;
}

size_t without_trailing_space(std::string_view text) {  // its length
  size_t end = 0;
  for (size_t i = 0; i < text.size();) {
    const Utf8 next = utf8_at(text.data() + i, text.size() - i);
    i += next.bytes;
    if (!is_space(next.code)) end = i;
  }
  return end;
}

// The byte that a token like <0x0A> is, or -1.
int byte_token(const std::string& token) {
  if (token.size() != 6 || token.compare(0, 3, "<0x") != 0 || token[5] != '>') return -1;
  int byte = 0;
  for (int i = 3; i < 5; ++i) {
    const char c = token[i];
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return -1;
    byte = byte * 16 + digit;
  }
  return byte;
}

}  // namespace

Tokenizer::Tokenizer(const char* text, size_t bytes) {
  const Json json = Json::parse(text, bytes);
  if (json.object() == nullptr || json["model"].object() == nullptr) bad("not a tokenizer.json: it has no model");
  bpe_ = std::make_unique<Bpe>(json["model"]);
  read_normalizer(json["normalizer"]);
  read_pre_tokenizer(json["pre_tokenizer"]);
  read_decoder(json["decoder"]);
  texts_ = bpe_->tokens();
  read_added(json["added_tokens"]);
  // What each token adds to a text.
  std::vector<uint8_t> special(texts_.size(), 0);
  for (const Added& token : added_) special[token.id] = token.special;
  for (size_t i = 0; i < texts_.size(); ++i) {
    std::string& token = texts_[i];
    if (special[i] != 0) {
      token.clear();
      continue;
    }
    if (byte_tokens_)
      if (const int byte = byte_token(token); byte >= 0) {
        token.assign(1, static_cast<char>(byte));
        continue;
      }
    const size_t most = most_bytes(token);
    for (const Replacement& r : decoder_) replace_all(&token, r.from, r.to, most);
    if (!byte_level_) continue;
    std::string raw;
    for (size_t at = 0; at < token.size();) {
      const Utf8 next = utf8_at(token.data() + at, token.size() - at);
      const int byte = character_byte(next.code);
      if (byte < 0) {  // not of the alphabet: the token stands for itself
        raw = token;
        break;
      }
      raw += static_cast<char>(byte);
      at += next.bytes;
    }
    token = raw;
  }
}

void Tokenizer::read_added(const Json& list) {
  if (list.is_null()) return;
  if (list.array() == nullptr) bad("added_tokens is not a list");
  for (const Json& entry : *list.array()) {
    Added token{text_of(entry, "content", "added token"), static_cast<int32_t>(entry["id"].index(kMaxTokenId)),
                flag(entry, "special", false), flag(entry, "normalized", true), flag(entry, "lstrip", false),
                flag(entry, "rstrip", false)};
    if (token.id < 0) bad("the id of the added token '" + token.text + "' is not 0 to " + std::to_string(kMaxTokenId));
    if (flag(entry, "single_word", false)) bad("the added token '" + token.text + "' is for single words, which is not supported");
    if (token.text.empty()) continue;
    if (static_cast<size_t>(token.id) >= texts_.size()) texts_.resize(static_cast<size_t>(token.id) + 1);
    if (std::string& known = texts_[token.id]; !known.empty() && known != token.text)
      bad("tokens '" + known + "' and '" + token.text + "' have the same id");
    if (token.normalized) token.text = normalized(token.text);
    texts_[token.id] = token.text;
    if (!token.text.empty()) added_.push_back(std::move(token));
  }
  added_by_byte_.resize(256);
  for (size_t i = 0; i < added_.size(); ++i) added_by_byte_[static_cast<uint8_t>(added_[i].text[0])].push_back(static_cast<int>(i));
  for (auto& indices : added_by_byte_)
    std::stable_sort(indices.begin(), indices.end(),
                     [&](int a, int b) { return added_[a].text.size() > added_[b].text.size(); });
}

void Tokenizer::read_normalizer(const Json& json) {
  for (const Json* step : sequence(json, "normalizers", "normalizer")) {
    const std::string type = text_of(*step, "type", "normalizer");
    if (type == "Prepend")
      normalizer_.push_back({"", text_of(*step, "prepend", "Prepend normalizer")});
    else if (type == "Replace")
      normalizer_.push_back({pattern_string(*step, "normalizer"), text_of(*step, "content", "Replace normalizer")});
    else
      bad("a normalizer of type " + type + " is not supported");
  }
}

void Tokenizer::read_pre_tokenizer(const Json& json) {
  for (const Json* step : sequence(json, "pretokenizers", "pre-tokenizer")) {
    const std::string type = text_of(*step, "type", "pre-tokenizer");
    Step add{};
    if (type == "ByteLevel") {
      add.kind = Step::kBytes;
      add.prefix_space = flag(*step, "add_prefix_space", true);
      add.split = flag(*step, "use_regex", true);
      add.pattern = kGpt2;
    } else if (type == "Split") {
      const std::string* regex = (*step)["pattern"]["Regex"].string();
      const auto known = regex == nullptr ? std::nullopt : known_pattern(*regex);
      if (!known) bad("its pre-tokenizer splits by a pattern that this runner does not know");
      const std::string behavior = text_of(*step, "behavior", "Split pre-tokenizer");
      const bool inverted = flag(*step, "invert", false);
      // The known patterns match everything, so that these two are the same.
      if (!(behavior == "Isolated" && !inverted) && !(behavior == "Removed" && inverted))
        bad("its pre-tokenizer splits with the behavior " + behavior + ", which is not supported");
      add.kind = Step::kSplit;
      add.pattern = *known;
    } else if (type == "Metaspace") {
      add.kind = Step::kMetaspace;
      add.replacement = metaspace_of(*step, "Metaspace pre-tokenizer");
      add.split = flag(*step, "split", true);
      const std::string* scheme = (*step)["prepend_scheme"].string();
      add.prepend = scheme == nullptr ? (flag(*step, "add_prefix_space", true) ? Step::kAlways : Step::kNever)
                    : *scheme == "always" ? Step::kAlways
                    : *scheme == "first"  ? Step::kFirst
                                          : Step::kNever;
    } else if (type == "Digits") {
      add.kind = Step::kDigits;
      add.split = flag(*step, "individual_digits", false);
    } else {
      bad("a pre-tokenizer of type " + type + " is not supported");
    }
    steps_.push_back(std::move(add));
  }
}

void Tokenizer::read_decoder(const Json& json) {
  if (json.is_null()) bad("it has no decoder, so that its tokens cannot become text");
  bool fused = false;
  for (const Json* step : sequence(json, "decoders", "decoder")) {
    const std::string type = text_of(*step, "type", "decoder");
    if (type == "ByteLevel") {
      byte_level_ = true;
    } else if (type == "ByteFallback") {
      byte_tokens_ = true;
    } else if (type == "Fuse") {
      fused = true;
    } else if (type == "Replace") {
      decoder_.push_back({pattern_string(*step, "decoder"), text_of(*step, "content", "Replace decoder")});
    } else if (type == "Metaspace") {
      decoder_.push_back({metaspace_of(*step, "Metaspace decoder"), " "});
      const std::string* scheme = (*step)["prepend_scheme"].string();
      leading_spaces_ = scheme == nullptr ? flag(*step, "add_prefix_space", true) : *scheme != "never";
    } else if (type == "Strip") {
      const int64_t start = (*step)["start"].index(8), stop = (*step)["stop"].index(8);
      if (text_of(*step, "content", "Strip decoder") != " " || start < 0 || stop != 0 || !fused)
        bad("its decoder strips something else than leading spaces, which is not supported");
      leading_spaces_ = static_cast<int>(start);
    } else {
      bad("a decoder of type " + type + " is not supported");
    }
  }
}

std::string Tokenizer::normalized(std::string text) const {
  const size_t most = most_bytes(text);
  for (const Replacement& r : normalizer_) {
    if (!r.from.empty())
      replace_all(&text, r.from, r.to, most);
    else if (!text.empty())
      text.insert(0, r.to);
  }
  return text;
}

std::vector<Tokenizer::Piece> Tokenizer::split_added(std::vector<Piece> pieces, bool normalized) const {
  if (std::none_of(added_.begin(), added_.end(), [&](const Added& t) { return t.normalized == normalized; })) return pieces;
  std::vector<Piece> out;
  for (Piece& piece : pieces) {
    if (piece.id >= 0) {
      out.push_back(std::move(piece));
      continue;
    }
    const std::string_view text = piece.text;
    size_t done = 0;  // of the text
    for (size_t at = 0; at < text.size();) {
      const Added* found = nullptr;
      for (const int i : added_by_byte_[static_cast<uint8_t>(text[at])])
        if (added_[i].normalized == normalized && text.compare(at, added_[i].text.size(), added_[i].text) == 0) {
          found = &added_[i];
          break;
        }
      if (found == nullptr) {
        ++at;
        continue;
      }
      size_t start = at, end = at + found->text.size();
      at = end;
      if (found->special) continue;  // spelled out in text
      if (found->left_strip) start = done + without_trailing_space(text.substr(done, start - done));
      if (found->right_strip) end = text.size() - without_leading_space(text.substr(end)).size();
      if (done < start) out.push_back({std::string(text.substr(done, start - done)), -1, piece.first && done == 0});
      out.push_back({"", found->id, false});
      done = end;
    }
    if (done < text.size()) out.push_back({std::string(text.substr(done)), -1, piece.first && done == 0});
  }
  return out;
}

void Tokenizer::encode_piece(const Piece& piece, std::vector<int32_t>* ids) const {
  std::vector<std::string> words{piece.text};
  for (const Step& step : steps_) {
    std::vector<std::string> cut_words;
    for (size_t w = 0; w < words.size(); ++w) {
      std::string& word = words[w];
      if (word.empty()) continue;
      switch (step.kind) {
        case Step::kSplit:
          for (const std::string_view part : cut(step.pattern, word)) cut_words.emplace_back(part);
          break;
        case Step::kBytes: {
          if (step.prefix_space && word[0] != ' ') word.insert(0, 1, ' ');
          const auto add = [&](std::string_view part) {
            std::string& mapped = cut_words.emplace_back();
            for (const char c : part) mapped += byte_character(static_cast<uint8_t>(c));
          };
          if (step.split)
            for (const std::string_view part : cut(step.pattern, word)) add(part);
          else
            add(word);
          break;
        }
        case Step::kMetaspace: {
          replace_all(&word, " ", step.replacement, most_bytes(word));
          const bool prepend = step.prepend == Step::kAlways || (step.prepend == Step::kFirst && piece.first && w == 0);
          if (prepend && word.compare(0, step.replacement.size(), step.replacement) != 0) word.insert(0, step.replacement);
          size_t from = 0;
          while (step.split) {  // each replacement begins a word
            const size_t next = word.find(step.replacement, from + (from < word.size() ? 1 : 0));
            if (next == std::string::npos) break;
            cut_words.push_back(word.substr(from, next - from));
            from = next;
          }
          cut_words.push_back(word.substr(from));
          break;
        }
        case Step::kDigits: {
          bool was_digit = false;
          for (size_t at = 0; at < word.size();) {
            const Utf8 next = utf8_at(word.data() + at, word.size() - at);
            const bool digit = is_number(next.code);
            if (at == 0 || digit != was_digit || (digit && step.split)) cut_words.emplace_back();
            cut_words.back().append(word, at, next.bytes);
            was_digit = digit;
            at += next.bytes;
          }
          break;
        }
      }
    }
    words = std::move(cut_words);
  }
  for (const std::string& word : words) bpe_->encode(word, ids);
}

int32_t Tokenizer::special_id(std::string_view text) const {
  for (const Added& token : added_)
    if (token.special && token.text == text) return token.id;
  return -1;
}

std::vector<int32_t> Tokenizer::encode(const std::vector<TextPart>& parts) const {
  std::vector<Piece> pieces;
  bool strip_next = false;
  for (const TextPart& part : parts) {
    const Added* token = nullptr;
    for (const Added& added : added_)
      if (part.special && added.special && added.text == part.text) token = &added;
    const bool joins = !pieces.empty() && pieces.back().id < 0;
    if (token != nullptr) {
      if (token->left_strip && joins) pieces.back().text.resize(without_trailing_space(pieces.back().text));
      pieces.push_back({"", token->id, false});
      strip_next = token->right_strip;
      continue;
    }
    std::string text = repaired_utf8(part.text);
    if (strip_next) text = without_leading_space(text);
    if (!text.empty()) strip_next = false;
    if (joins)
      pieces.back().text += text;
    else
      pieces.push_back({std::move(text), -1, pieces.empty()});
  }
  pieces = split_added(std::move(pieces), false);
  for (Piece& piece : pieces)
    if (piece.id < 0) piece.text = normalized(std::move(piece.text));
  pieces = split_added(std::move(pieces), true);
  std::vector<int32_t> ids;
  for (const Piece& piece : pieces) {
    if (piece.id >= 0)
      ids.push_back(piece.id);
    else
      encode_piece(piece, &ids);
  }
  return ids;
}

const std::string& Tokenizer::bytes_of(int32_t id) const {
  static const std::string kNothing;
  return id >= 0 && static_cast<size_t>(id) < texts_.size() ? texts_[id] : kNothing;
}

}  // namespace blockffn::runner
