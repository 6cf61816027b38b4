// taipan tokenizer: text to token ids and back.

#include <atomic>
#include <chrono>
#include <functional>

#include "base/error.h"
#include "base/fields.h"
#include "base/parallel.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/model_argument.h"
#include "cli/output.h"
#include "cli/token_lines.h"
#include "text/tokenizer.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

struct TokenizerFlags {
  std::string tokenizer, text, jsonl;
  EncodeOptions options;
  bool json = false;
};

// Prints f(line, "FILE: line 3") of each line that is not blank; groups of lines run on several threads.
void PrintForEachLine(std::string_view text, const std::string& name,
                      const std::function<std::string(std::string_view, const std::string&)>& f) {
  constexpr size_t kGroup = 512;
  std::vector<std::pair<std::string_view, std::string>> lines;
  const auto run = [&] {
    std::vector<std::string> results(lines.size());
    ParallelFor(static_cast<int64_t>(lines.size()), [&](int64_t i) {
      const auto& [line, where] = lines[static_cast<size_t>(i)];
      results[static_cast<size_t>(i)] = f(line, where);
    });
    for (const std::string& result : results) Print(result);
    FlushOutput();
    lines.clear();
  };
  ForEachLine(text, name, [&](std::string_view line, const std::string& where) {
    lines.emplace_back(line, where);
    if (lines.size() == kGroup) run();
  });
  run();
}

std::string TextOfLine(std::string_view line, const std::string& where) {
  const Json json = ParseJson(line, where);
  const auto text = json.is_object() ? json.find("text") : json.end();
  if (!json.is_object() || text == json.end() || !text->is_string()) {
    throw UserError({where, "no text", "{\"text\": \"...\"}", DescribeJson(json)});
  }
  return text->get<std::string>();
}

void RunEncode(const TokenizerFlags& flags) {
  const auto tokenizer = RequireTokenizer(flags.tokenizer);
  const std::string& file = flags.jsonl.empty() ? flags.text : flags.jsonl;
  const std::string input = ReadInput(file);
  std::atomic<int64_t> bytes = 0, tokens = 0, nanoseconds = 0;
  const auto encode = [&](std::string_view text) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<int32_t> ids = tokenizer->Encode(text, flags.options);
    nanoseconds += std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();
    bytes += static_cast<int64_t>(text.size());
    tokens += static_cast<int64_t>(ids.size());
    return ids;
  };
  if (flags.jsonl.empty()) {
    Print(FormatIds(encode(input), flags.json));
  } else {
    PrintForEachLine(input, InputName(file), [&](std::string_view line, const std::string& where) {
      return FormatIds(encode(TextOfLine(line, where)), /*object=*/true);
    });
  }
  const double seconds = static_cast<double>(nanoseconds) * 1e-9;
  Note(fmt::format("{} bytes to {} tokens in {:.3f} s of encoding, {:.1f} MB/s a thread", FormatExact(bytes),
                   FormatExact(tokens), seconds, static_cast<double>(bytes) * 1e-6 / std::max(seconds, 1e-9)));
}

std::vector<int32_t> IdsOfLine(std::string_view line, const std::string& where) {
  const Json json = ParseJson(line, where);
  const Json* list = &json;
  if (json.is_object() && json.contains("ids")) list = &json["ids"];
  if (!list->is_array()) throw UserError({where, "no token ids", "[1, 2] or {\"ids\": [1, 2]}", DescribeJson(json)});
  std::vector<int32_t> ids;
  for (const Json& id : *list) {
    const bool fits = id.is_number_unsigned() && id.get<uint64_t>() < uint64_t{1} << 31;
    if (!fits) throw UserError({where, "not a token id", "an integer from 0 on", DescribeJson(id)});
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

void RunDecode(const TokenizerFlags& flags) {
  const auto tokenizer = RequireTokenizer(flags.tokenizer);
  PrintForEachLine(
      ReadInput(flags.jsonl), InputName(flags.jsonl), [&](std::string_view line, const std::string& where) {
        const std::vector<int32_t> ids = IdsOfLine(line, where);
        for (const int32_t id : ids) {
          if (id < tokenizer->vocab_size()) continue;
          throw UserError({where, "not in the vocabulary", fmt::format("ids from 0 to {}", tokenizer->vocab_size() - 1),
                           std::to_string(id)});
        }
        const std::string text = tokenizer->Decode(ids);
        return flags.json ? OrderedJson({{"text", ToValidUtf8(text)}}).dump() + "\n" : text;
      });
}

CLI::App* AddSubcommand(CLI::App& parent, const char* name, const char* help, TokenizerFlags& flags) {
  CLI::App* command = parent.add_subcommand(name, help);
  command->add_option("--tokenizer", flags.tokenizer, "A tokenizer file, a folder or .gguf file that has one, or byte")
      ->type_name("FILE|DIR|GGUF")
      ->required();
  return command;
}

}  // namespace

void AddTokenizerCommand(CLI::App& app) {
  CLI::App* tokenizer = app.add_subcommand("tokenizer", "Text to token ids and back, messages to text");
  tokenizer->require_subcommand(1);

  auto flags = std::make_shared<TokenizerFlags>();
  CLI::App* encode =
      AddSubcommand(*tokenizer, "encode", "Token ids of a text, or of each line of a JSONL file", *flags);
  CLI::Option* text = encode->add_option("--text", flags->text, "A text file, - for standard input")->type_name("FILE");
  encode->add_option("--jsonl", flags->jsonl, "One {\"text\": ...} a line, - for standard input; prints {\"ids\": ...}")
      ->type_name("FILE")
      ->excludes(text);
  encode->add_flag("--add-special-tokens", flags->options.add_special_tokens,
                   "Put BOS and the like around the text where the tokenizer's file says so");
  encode->add_flag("--parse-special", flags->options.parse_special,
                   "Read the text of special tokens as these tokens, not as text");
  AddJsonFlag(*encode, flags->json);
  AddThreadsFlag(*encode);
  encode->callback([flags] {
    if (flags->text.empty() == flags->jsonl.empty()) throw CLI::RequiredError("encode: one of --text and --jsonl");
    RunEncode(*flags);
  });

  auto decode_flags = std::make_shared<TokenizerFlags>();
  CLI::App* decode = AddSubcommand(*tokenizer, "decode", "The text of token ids", *decode_flags);
  decode
      ->add_option(
          "--jsonl", decode_flags->jsonl,
          "One [1, 2, ...] or {\"ids\": [...]} a line, - for standard input; the texts are printed one after the "
          "other, with --json one {\"text\": ...} a line")
      ->type_name("FILE")
      ->required();
  AddJsonFlag(*decode, decode_flags->json);
  AddThreadsFlag(*decode);
  decode->callback([decode_flags] { RunDecode(*decode_flags); });
  AddTokenizerApplyTemplate(*tokenizer);
  AddTokenizerTrain(*tokenizer);
}

}  // namespace taipan
