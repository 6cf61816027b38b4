// taipan tokenizer apply-template: messages to the text that a chat model reads, or to its ids.

#include <functional>

#include "base/error.h"
#include "base/files.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/token_lines.h"
#include "formats/gguf.h"
#include "infer/gguf_text.h"
#include "model/model_path.h"
#include "text/chat_template.h"
#include "text/tokenizer_config.h"

namespace taipan {
namespace {

using jinja::Value;

struct TemplateFlags {
  std::string model, messages, tools;
  std::vector<std::string> variables;
  bool no_generation_prompt = false, json = false;
};

// What a model says about chats. Its tokenizer is read only where ids are asked for.
struct ChatFiles {
  std::map<std::string, std::string> templates;
  std::string file;
  std::map<std::string, std::string> special_tokens;
  std::function<std::unique_ptr<Tokenizer>()> load_tokenizer;
};

ChatFiles FromGguf(const std::string& path) {
  const GgufFile file(path);
  ChatFiles chat;
  chat.file = path + ": tokenizer.chat_template";
  for (const std::string name : {"", "tool_use", "rag"}) {
    const std::string text = file.GetString("tokenizer.chat_template" + (name.empty() ? "" : "." + name), "");
    if (!text.empty()) chat.templates[name.empty() ? "default" : name] = text;
  }
  if (!HasVocabulary(file)) return chat;
  const GgufVocabulary vocabulary = ReadGgufVocabulary(file);
  chat.special_tokens = SpecialTokenTexts(vocabulary);
  chat.load_tokenizer = [vocabulary, path] { return MakeGgufTokenizer(vocabulary, path); };
  return chat;
}

ChatFiles FromFolder(const std::string& folder, const std::string& tokenizer) {
  const TokenizerConfig config = LoadTokenizerConfig(folder);
  ChatFiles chat;
  chat.templates = config.chat_templates;
  if (!config.chat_template.empty()) chat.templates["default"] = config.chat_template;
  chat.file = config.chat_template_file;
  chat.special_tokens = config.special_tokens;
  chat.load_tokenizer = [tokenizer] { return LoadTokenizer(tokenizer); };
  return chat;
}

ChatFiles Load(const std::string& given) {
  if (given.ends_with(".jinja")) return {{{"default", ReadFile(given)}}, given, {}, nullptr};
  const std::string model = FindModel(given);
  if (!model.empty() && IsGgufPath(model)) return FromGguf(model);
  if (IsDirectory(given)) {
    const std::string folder = model.empty() ? given : model;
    return FromFolder(folder, folder);
  }
  if (!PathExists(given)) throw UserError({given, "no such file or folder", "a model, tokenizer or .jinja file"});
  const size_t slash = given.rfind('/');
  return FromFolder(slash == given.npos ? "." : given.substr(0, slash), given);
}

// The one for tools where there are tools, as transformers chooses.
const std::string& Chosen(const ChatFiles& chat, bool with_tools, const std::string& model) {
  const auto tools = chat.templates.find("tool_use"), plain = chat.templates.find("default");
  if (with_tools && tools != chat.templates.end()) return tools->second;
  if (plain != chat.templates.end()) return plain->second;
  std::string names;
  for (const auto& [name, unused] : chat.templates) names += (names.empty() ? "" : ", ") + name;
  throw UserError({model, "the model has no chat template",
                   "one in tokenizer_config.json, chat_template.jinja or a GGUF",
                   names.empty() ? "none" : "none named default, but " + names});
}

std::string TypeOf(const Value& value) { return fmt::format("a value of type {}", jinja::TypeName(value)); }

Value ReadMessages(const std::string& path) {
  const std::string where = InputName(path);
  Value messages = jinja::ParseValue(ReadInput(path), where);
  if (messages.is_dict()) {
    const Value* inside = messages.dict().Find("smessages");
    if (inside != nullptr && messages.dict().entries.size() > 1) Note(where + ": only its \"messages\" are read");
    if (inside != nullptr) {
      Value list = *inside;  // which belongs to what is assigned to
      messages = std::move(list);
    }
  }
  const char* expected = R"([{"role": "user", "content": "..."}, ...])";
  if (!messages.is_list()) throw UserError({where, "no list of messages", expected, TypeOf(messages)});
  if (messages.items().empty()) throw UserError({where, "no messages", expected, "an empty list"});
  for (size_t i = 0; i < messages.items().size(); ++i) {
    const Value& message = messages.items()[i];
    const std::string here = fmt::format("{}: message {}", where, i + 1);
    if (!message.is_dict()) throw UserError({here, "not an object", expected, TypeOf(message)});
    const Value* role = message.dict().Find("srole");
    if (role == nullptr) throw UserError({here, "has no role", expected});
    if (!role->is_string()) throw UserError({here, "role is no string", "\"user\" or the like", TypeOf(*role)});
    const Value* content = message.dict().Find("scontent");
    const bool fits = content == nullptr || content->is_none() || content->is_string() || content->is_list();
    if (!fits) throw UserError({here, "content is no text", "a string or a list of parts", TypeOf(*content)});
  }
  return messages;
}

Value ReadTools(const std::string& path) {
  const std::string where = InputName(path);
  Value tools = jinja::ParseValue(ReadInput(path), where);
  if (!tools.is_list()) throw UserError({where, "no list of tools", "a list of JSON schemas", TypeOf(tools)});
  for (const Value& tool : tools.items()) {
    if (!tool.is_dict()) throw UserError({where, "a tool is no object", "a list of JSON schemas", TypeOf(tool)});
  }
  return tools;
}

void SetVariable(const std::string& given, ChatInput& input) {
  const size_t equals = given.find('=');
  const std::string name = given.substr(0, equals);
  if (equals == given.npos || name.empty()) {
    throw CLI::ValidationError("--set", "expected NAME=JSON, found " + given);
  }
  for (const auto& [taken, flag] : {std::pair("messages", "--messages"), std::pair("tools", "--tools"),
                                    std::pair("add_generation_prompt", "--no-generation-prompt")}) {
    if (name == taken) throw CLI::ValidationError("--set", fmt::format("{} is set by {}", taken, flag));
  }
  const Value value =
      jinja::ParseValue(given.substr(equals + 1), fmt::format("--set {} (JSON; a text needs quotes)", name));
  (name == "documents" ? input.documents : input.variables[name]) = value;
}

void Run(const TemplateFlags& flags) {
  ChatInput input;
  for (const std::string& variable : flags.variables) SetVariable(variable, input);
  const ChatFiles chat = Load(flags.model);
  input.messages = ReadMessages(flags.messages);
  if (!flags.tools.empty()) input.tools = ReadTools(flags.tools);
  input.add_generation_prompt = !flags.no_generation_prompt;
  const ChatTemplate chosen(Chosen(chat, !flags.tools.empty(), flags.model), chat.file, chat.special_tokens);
  const std::string text = chosen.Render(std::move(input));
  if (!flags.json) return Print(text);
  const auto tokenizer = chat.load_tokenizer ? chat.load_tokenizer() : nullptr;
  if (tokenizer == nullptr) {
    throw UserError({flags.model, "no tokenizer for the ids", "a folder or GGUF file with one", "none",
                     "leave --json away to see the text"});
  }
  Print(FormatIds(tokenizer->Encode(text, {.add_special_tokens = false, .parse_special = true}), /*object=*/true));
}

}  // namespace

void AddTokenizerApplyTemplate(CLI::App& tokenizer) {
  CLI::App* command = tokenizer.add_subcommand(
      "apply-template", "The text that a chat template makes of messages, and nothing else; with --json its ids");
  auto flags = std::make_shared<TemplateFlags>();
  command->add_option("--model", flags->model, "A model, a tokenizer or a template (.jinja)")
      ->type_name("DIR|FILE")
      ->required();
  command
      ->add_option(
          "--messages", flags->messages,
          "A JSON list of {\"role\", \"content\", ...}, - for standard input; content is a text or a list of parts")
      ->type_name("FILE")
      ->required();
  command->add_option("--tools", flags->tools, "A JSON list of schemas of functions")->type_name("FILE");
  command->add_option("--set", flags->variables, "A variable of the template, may be given again")
      ->type_name("NAME=JSON")
      ->allow_extra_args(false);
  command->add_flag("--no-generation-prompt", flags->no_generation_prompt,
                    "End after the last message, not where the assistant's answer begins");
  AddJsonFlag(*command, flags->json);
  AddThreadsFlag(*command);
  command->callback([flags] { Run(*flags); });
}

}  // namespace taipan
