// Chat templates: the few shapes that models use, written out; a template that is none of them is refused
// rather than interpreted.
#pragma once

#include <string>
#include <vector>

#include "json.h"
#include "tokenizer.h"

namespace blockffn::runner {

struct Message {
  std::string role, content;
};

class ChatTemplate {
 public:
  ChatTemplate() = default;  // none
  // Of a tokenizer_config.json. A template of an unknown shape gives none, and why().
  explicit ChatTemplate(const Json& config);

  const char* name() const { return name_; }  // "chatml", "minicpm", "llama3"; "": none
  const std::string& why() const { return why_; }  // there is none
  // The conversation up to where the assistant answers, as the template writes it. Throws std::runtime_error
  // for roles that the shape does not have.
  std::vector<TextPart> render(const std::vector<Message>& messages) const;
  // Whether the model expects its bos before it.
  bool add_bos() const { return add_bos_; }

 private:
  const char* name_ = "";
  std::string why_ = "no tokenizer_config.json with a chat template was loaded";
  std::string bos_, default_system_;
  bool add_bos_ = false, writes_bos_ = false, has_default_system_ = false;
};

}  // namespace blockffn::runner
