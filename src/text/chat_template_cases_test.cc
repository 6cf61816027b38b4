// Renderings by transformers, written by tools/tokenizers/compare_templates.py --write.

#include <gtest/gtest.h>

#include <sstream>

#include "base/files.h"
#include "text/chat_template.h"

namespace taipan {
namespace {

using jinja::Value;

const std::string kFolder = "tests/templates/";

const Value& Get(const Value& object, const std::string& key) {
  static const Value kNone;
  const Value* found = object.dict().Find("s" + key);
  return found != nullptr ? *found : kNone;
}

std::map<std::string, Value> Variables(const Value& dict) {
  std::map<std::string, Value> variables;
  for (const auto& [key, value] : dict.dict().entries) variables.emplace(key.text(), value);
  return variables;
}

TEST(ChatTemplateCases, RenderAsTransformersDoes) {
  std::istringstream lines(ReadFile(kFolder + "cases.jsonl"));
  std::string line;
  std::getline(lines, line);
  const Value head = jinja::ParseValue(line, "cases.jsonl");
  int count = 0;
  for (; std::getline(lines, line); ++count) {
    const Value one = jinja::ParseValue(line, "cases.jsonl");
    ChatInput input;
    const bool from_file = !Get(one, "file").is_none();
    std::string source, name;
    jinja::Context context("cases.jsonl");
    if (from_file) {
      const int64_t chat = Get(one, "chat").integer();
      name = Get(one, "file").text() + " chat " + std::to_string(chat);
      source = ReadFile(kFolder + Get(one, "file").text());
      input.messages = Get(head, "chats").items()[static_cast<size_t>(chat)];
      if (jinja::Truth(Get(one, "tools"))) input.tools = Get(head, "tools");
      input.add_generation_prompt = chat != 2;
    } else {
      name = source = Get(one, "template").text();
      input.messages = jinja::List({}, context);
    }
    input.variables = Variables(Get(head, from_file ? "special" : "variables"));
    EXPECT_EQ(ChatTemplate(source, name, {}).Render(std::move(input)), Get(one, "text").text()) << name;
  }
  EXPECT_GT(count, 100);
}

}  // namespace
}  // namespace taipan
