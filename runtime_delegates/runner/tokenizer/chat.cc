#include "chat.h"

#include <stdexcept>

#include "unicode.h"

namespace blockffn::runner {
namespace {

struct Shape {
  const char* name;
  bool writes_bos;
  const char* source;  // in the canonical spelling; @ stands for the text of a default system message
};

#define CHATML_LOOP_BODY "{{'<|im_start|>'+message['role']+'\\n'+message['content']+'<|im_end|>'+'\\n'}}"
#define CHATML_ANSWER "{%if add_generation_prompt%}{{'<|im_start|>assistant\\n'}}{%endif%}"
#define CHATML_DEFAULT(quoted)                                                                \
  "{%for message in messages%}{%if loop.first and messages[0]['role']!='system'%}{{" quoted   \
  "}}{%endif%}" CHATML_LOOP_BODY "{%endfor%}" CHATML_ANSWER
#define LLAMA3_LOOP                                                                                                \
  "{%set loop_messages=messages%}{%for message in loop_messages%}{%set content='<|start_header_id|>'+"             \
  "message['role']+'<|end_header_id|>\\n\\n'+message['content']|trim+'<|eot_id|>'%}{%if loop.index0==0%}"          \
  "{%set content=bos_token+content%}{%endif%}{{content}}{%endfor%}"
#define LLAMA3_ANSWER "{{'<|start_header_id|>assistant<|end_header_id|>\\n\\n'}}"

constexpr Shape kShapes[] = {
    {"chatml", false, "{%for message in messages%}" CHATML_LOOP_BODY "{%endfor%}" CHATML_ANSWER},
    {"chatml", true, "{{bos_token}}{%for message in messages%}" CHATML_LOOP_BODY "{%endfor%}" CHATML_ANSWER},
    {"chatml", false,
     "{%if not add_generation_prompt is defined%}{%set add_generation_prompt=false%}{%endif%}"
     "{%for message in messages%}" CHATML_LOOP_BODY "{%endfor%}" CHATML_ANSWER},
    {"chatml", false, CHATML_DEFAULT("'<|im_start|>system\\n@<|im_end|>\\n'")},
    {"minicpm", false,
     "{%for message in messages%}{%if message['role']=='user'%}{{'<用户>'+message['content'].strip()+'<AI>'}}"
     "{%else%}{{message['content'].strip()}}{%endif%}{%endfor%}"},
    {"llama3", true, LLAMA3_LOOP LLAMA3_ANSWER},
    {"llama3", true, LLAMA3_LOOP "{%if add_generation_prompt%}" LLAMA3_ANSWER "{%endif%}"},
};

bool word_character(char c) { return c == '_' || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'); }

// One spelling of a template: spaces in tags only between words, single quotes, and no line break after or
// indent before a block tag, which are no output (transformers renders with trim_blocks and lstrip_blocks).
std::string canonical(const std::string& source) {
  std::string out, indent;
  char quote = 0;
  bool inside = false, space = false, line_start = true;
  for (size_t i = 0; i < source.size(); ++i) {
    const char c = source[i], next = i + 1 < source.size() ? source[i + 1] : '\0';
    if (!inside) {
      if (line_start && (c == ' ' || c == '\t')) {
        indent += c;
        continue;
      }
      inside = c == '{' && (next == '%' || next == '{');
      if (!(inside && next == '%')) out += indent;
      indent.clear();
      line_start = c == '\n';
      out += c;
      if (inside) out += next, ++i;
    } else if (quote != 0) {
      out += c == quote ? '\'' : c;
      if (c == '\\' && next != '\0') out += next, ++i;
      if (c == quote) quote = 0;
    } else if (c == '\'' || c == '"') {
      quote = c, space = false;
      out += '\'';
    } else if ((c == '%' || c == '}') && next == '}') {
      inside = space = false;
      out += c, out += next, ++i;
      if (c == '%' && i + 1 < source.size() && source[i + 1] == '\n') ++i, line_start = true;
    } else if (c == ' ' || c == '\n' || c == '\t') {
      space = true;
    } else {
      if (space && word_character(c) && word_character(out.back())) out += ' ';
      space = false;
      out += c;
    }
  }
  return out + indent;
}

std::string unescaped(std::string text) {
  for (size_t at = text.find("\\n"); at != std::string::npos; at = text.find("\\n", at + 1)) text.replace(at, 2, "\n");
  return text;
}

// A token of tokenizer_config.json: text, or an object with its content.
std::string token_text(const Json& json) {
  if (const std::string* text = json.string()) return *text;
  const std::string* text = json["content"].string();
  return text == nullptr ? "" : *text;
}

}  // namespace

ChatTemplate::ChatTemplate(const Json& config) {
  const Json* source = &config["chat_template"];
  if (const Json::Array* several = source->array())
    for (const Json& one : *several)
      if (const std::string* name = one["name"].string(); name != nullptr && *name == "default") source = &one["template"];
  bos_ = token_text(config["bos_token"]);
  if (source->is_null()) {
    why_ = "tokenizer_config.json has no chat template; the model is not one for chats";
    return;
  }
  if (source->string() == nullptr) throw std::runtime_error("its chat_template is not text");
  const std::string found = canonical(*source->string());
  for (const Shape& shape : kShapes) {
    const std::string known = shape.source;
    const size_t gap = known.find('@');
    std::string system;
    bool matches = found == known;
    if (gap != std::string::npos && found.size() >= known.size() - 1) {
      const std::string after = known.substr(gap + 1);
      const size_t end = found.size() - after.size();
      if (end >= gap && found.compare(0, gap, known, 0, gap) == 0 && found.compare(end, after.size(), after) == 0) {
        system = unescaped(found.substr(gap, end - gap));
        matches = system.find_first_of("'\\") == std::string::npos;
      }
    }
    if (!matches) continue;
    name_ = shape.name;
    writes_bos_ = shape.writes_bos;
    has_default_system_ = gap != std::string::npos;
    default_system_ = system;
    why_.clear();
    // Where the template leaves bos to the tokenizer, its configuration says whether there is one.
    const bool* add = config["add_bos_token"].boolean();
    const std::string* type = config["tokenizer_class"].string();
    add_bos_ = !writes_bos_ && (add != nullptr ? *add : type != nullptr && type->compare(0, 14, "LlamaTokenizer") == 0);
    return;
  }
  why_ = "the chat template of tokenizer_config.json has a shape that this runner does not know (it knows ChatML, MiniCPM "
         "and Llama 3); write the conversation as plain text";
}

std::vector<TextPart> ChatTemplate::render(const std::vector<Message>& messages) const {
  std::vector<TextPart> parts;
  const auto special = [&](const char* text) { parts.push_back({text, true}); };
  const auto plain = [&](std::string text) { parts.push_back({std::move(text), false}); };
  if (*name_ == 0) throw std::runtime_error(why_);
  if (messages.empty()) throw std::runtime_error("the conversation is empty");
  for (const Message& message : messages)
    if (message.role != "system" && message.role != "user" && message.role != "assistant")
      throw std::runtime_error("the role '" + message.role + "' is not system, user or assistant");
  const std::string shape = name_;
  if (writes_bos_) parts.push_back({bos_, true});
  if (shape == "minicpm") {
    for (const Message& message : messages) {
      const std::string content(stripped(message.content));
      if (message.role == "user") special("<用户>");
      plain(content);
      if (message.role == "user") special("<AI>");
    }
  } else if (shape == "llama3") {
    const auto head = [&](const std::string& role) {
      special("<|start_header_id|>");
      plain(role);
      special("<|end_header_id|>");
      plain("\n\n");
    };
    for (const Message& message : messages) {
      head(message.role);
      plain(std::string(stripped(message.content)));
      special("<|eot_id|>");
    }
    head("assistant");
  } else {
    const auto head = [&](const std::string& role) {
      special("<|im_start|>");
      plain(role + "\n");
    };
    const auto turn = [&](const std::string& role, const std::string& content) {
      head(role);
      plain(content);
      special("<|im_end|>");
      plain("\n");
    };
    if (has_default_system_ && messages[0].role != "system") turn("system", default_system_);
    for (const Message& message : messages) turn(message.role, message.content);
    head("assistant");
  }
  return parts;
}

}  // namespace blockffn::runner
