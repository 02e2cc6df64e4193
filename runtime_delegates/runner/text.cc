#include "text.h"

#include <algorithm>
#include <stdexcept>

#include "mapped_file.h"

namespace blockffn::runner {
namespace {

Json read_json(const MappedFile& file) { return Json::parse(reinterpret_cast<const char*>(file.data()), file.size()); }

}  // namespace

std::unique_ptr<TextModel> TextModel::load(const blockffn_file& json, const blockffn_file* config) {
  const MappedFile file(json, "tokenizer");
  std::unique_ptr<TextModel> model;
  try {
    model.reset(new TextModel{Tokenizer(reinterpret_cast<const char*>(file.data()), file.size()), ChatTemplate()});
  } catch (const std::runtime_error& error) {
    throw Failure{BLOCKFFN_BAD_PROGRAM, file.name() + ": " + error.what()};
  }
  if (config != nullptr) {
    const MappedFile settings(*config, "tokenizer_config.json");
    try {
      model->chat = ChatTemplate(read_json(settings));
    } catch (const std::runtime_error& error) {
      throw Failure{BLOCKFFN_BAD_PROGRAM, settings.name() + ": " + error.what()};
    }
  }
  return model;
}

std::vector<TextPart> TextModel::render(const blockffn_message* messages, int32_t count) const {
  std::vector<Message> conversation;
  for (int32_t i = 0; i < count; ++i) {
    if (messages[i].role == nullptr || messages[i].content == nullptr)
      throw Failure{BLOCKFFN_BAD_ARGUMENT, "message " + std::to_string(i) + " has no role or no content"};
    conversation.push_back({messages[i].role, messages[i].content});
  }
  try {
    return chat.render(conversation);
  } catch (const std::runtime_error& error) {
    throw Failure{BLOCKFFN_BAD_ARGUMENT, error.what()};
  }
}

std::string StopFilter::push(const std::string& text) {
  if (stopped_) return "";
  held_ += text;
  size_t first = std::string::npos, keep = 0;
  for (const std::string& stop : stops_) {
    first = std::min(first, held_.find(stop));
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n)
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) keep = n;
  }
  stopped_ = first != std::string::npos;
  std::string shown = held_.substr(0, stopped_ ? first : held_.size() - keep);
  held_.erase(0, stopped_ ? held_.size() : shown.size());
  return shown;
}

std::string StopFilter::flush() {
  std::string shown;
  shown.swap(held_);
  return shown;
}

std::string TextStream::push(int32_t token) {
  std::string_view bytes = tokenizer_.bytes_of(token);
  while (drop_spaces_ > 0 && !bytes.empty()) {
    drop_spaces_ = bytes[0] == ' ' ? drop_spaces_ - 1 : 0;
    if (bytes[0] == ' ') bytes.remove_prefix(1);
  }
  return stops_.push(characters_.push(bytes));
}

std::string TextStream::flush() {
  std::string shown = stops_.push(characters_.flush());
  return shown += stops_.flush();
}

}  // namespace blockffn::runner
