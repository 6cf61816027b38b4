// Where taipan generate ends, what of it is shown, and which files it needs.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "e2e/chain_model.h"
#include "e2e/run_program.h"

namespace taipan {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing::Not;

enum { kMark = 256, kDone, kImEnd, kBos };
const std::vector<std::string> kSpecial = {"<|mark|>", "<|done|>", "<|im_end|>", "<s>"};

ChainModel TestChain() { return ChainModel({'A', 'a', kMark, 'b', 'c', kDone, 'd', 'e', kImEnd, 'f', 'g'}, kSpecial); }

ProgramResult Generate(const ChainModel& model, std::vector<std::string> more) {
  std::vector<std::string> arguments = {"generate", "-m", model.path(), "--temperature", "0"};
  if (std::count(more.begin(), more.end(), "--max-tokens") == 0) more.insert(more.end(), {"--max-tokens", "10"});
  arguments.insert(arguments.end(), more.begin(), more.end());
  ProgramResult result = RunTaipan(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return result;
}

TEST(GenerateEnds, AtEveryEndOfATurn) {
  const ChainModel model = TestChain();
  EXPECT_EQ(Generate(model, {"-p", "A"}).out, "abcde");  // a name that is known
  EXPECT_EQ(Generate(model, {"-p", "A", "--show-special"}).out, "a<|mark|>bc<|done|>de<|im_end|>");
  model.SetConfig({{"eos_token_id", {kBos, kDone}}});
  EXPECT_EQ(Generate(model, {"-p", "A"}).out, "abc");
  model.SetConfig({{"eos_token_id", kBos}, {"bos_token_id", -1}});
  model.Write("generation_config.json", R"({"eos_token_id": [259, 256], "top_k": "odd"})");
  EXPECT_EQ(Generate(model, {"-p", "A"}).out, "a");
  for (const char* file : {R"({"eos_token_id": -1})", R"({"eos_token_id": ["x", null]})", "[]", "{"}) {
    model.SetConfig({{"eos_token_id", -1}});
    model.Write("generation_config.json", file);
    EXPECT_EQ(Generate(model, {"-p", "A"}).out, "abcde") << file;
  }
}

TEST(GenerateEnds, WhereTheTemplateEndsAnAnswer) {
  const ChainModel model = TestChain();
  model.Write("tokenizer_config.json", R"({"chat_template":
      "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}<|done|>{% endif %}{% endfor %}"})");
  EXPECT_EQ(Generate(model, {"-p", "A"}).out, "abcde");
  EXPECT_EQ(Generate(model, {"-p", "A", "--chat"}).out, "abc");
}

TEST(GenerateEnds, AtAStopText) {
  const ChainModel model = TestChain();
  EXPECT_EQ(Generate(model, {"-p", "A", "--stop", "cd"}).out, "ab");  // across tokens
  EXPECT_EQ(Generate(model, {"-p", "A", "--stop", "xy", "--stop", "d"}).out, "abc");
  EXPECT_EQ(Generate(model, {"-p", "A", "--stop", "efg"}).out, "abcde");  // held back, then shown
  EXPECT_EQ(Generate(model, {"-p", "A", "--stop", "<|done|>"}).out, "abc");
  const Json json = Json::parse(Generate(model, {"-p", "A", "--stop", "cd", "--json"}).out);
  EXPECT_EQ(json.at("text"), "ab");
  EXPECT_EQ(json.at("stop_reason"), "stop_text");
  const ProgramResult wrong = RunTaipan({"generate", "-m", model.path(), "-p", "A", "--stop", ""});
  EXPECT_EQ(wrong.exit_code, 2);
}

TEST(GenerateEnds, OptionalFilesDoNotBlockPlainUse) {
  const ChainModel model = TestChain();
  for (const char* chat : {R"([{"name": "tool_use", "template": "x"}])", "7", R"("{% what %}")", R"("{{ a | b }}")"}) {
    model.Write("tokenizer_config.json", fmt::format("{{\"chat_template\": {}}}", chat));
    EXPECT_EQ(Generate(model, {"-p", "A"}).out, "abcde") << chat;
    const ProgramResult result = RunTaipan({"generate", "-m", model.path(), "-p", "A", "--chat"});
    EXPECT_EQ(result.exit_code, 1) << chat;
    EXPECT_THAT(result.err, HasSubstr("tokenizer_config.json")) << chat;
  }
}

TEST(GenerateEnds, NotesWhatIsOdd) {
  const ChainModel model = TestChain();
  EXPECT_THAT(Generate(model, {"-p", "A"}).err, Not(HasSubstr("positions")));
  EXPECT_THAT(Generate(model, {"-p", "A", "--max-tokens", "64"}).err, HasSubstr("65 tokens, beyond the 64 positions"));
  model.Write("tokenizer_config.json",
              R"({"bos_token": "<s>", "chat_template": "{{bos_token}}{{messages[0].content}}"})");
  EXPECT_THAT(Generate(model, {"-p", "A", "--chat"}).err, Not(HasSubstr("twice")));
  EXPECT_THAT(Generate(model, {"-p", "<s>A", "--chat"}).err, HasSubstr("259 (BOS) twice"));
  EXPECT_THAT(Generate(model, {"-p", "<s><s>A", "--parse-special"}).err, HasSubstr("259 (BOS) twice"));
}

TEST(GenerateEnds, TheTokenizerMayBeAnother) {
  const ChainModel model = TestChain();
  TestFolder folder;
  ASSERT_EQ(RunTaipan({"convert", model.path(), folder / "m.gguf"}).exit_code, 0);
  std::filesystem::rename(model.path() + "/tokenizer.json", folder / "tokenizer.json");
  const ProgramResult none = RunTaipan({"generate", "-m", model.path(), "-p", "A"});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.err, HasSubstr("--tokenizer"));
  WriteFileAtomically(folder / "text", "Aabc");
  for (const std::string& tokenizer : {folder.path(), folder / "tokenizer.json", folder / "m.gguf"}) {
    EXPECT_EQ(Generate(model, {"-p", "A", "--tokenizer", tokenizer}).out, "abcde") << tokenizer;
    const ProgramResult score =
        RunTaipan({"score", "-m", model.path(), "--text", folder / "text", "--json", "--tokenizer", tokenizer});
    EXPECT_EQ(Json::parse(score.out).at("tokens"), 4) << score.err;
    const ProgramResult ids =
        RunTaipan({"tokenizer", "encode", "--tokenizer", tokenizer, "--text", "-", "--parse-special"}, "ab<|done|>");
    EXPECT_EQ(ids.out, "[97, 98, 257]\n") << tokenizer << ids.err;
    EXPECT_EQ(RunTaipan({"tokenizer", "decode", "--tokenizer", tokenizer, "--jsonl", "-"}, "[97, 98]").out, "ab");
  }
}

TEST(GenerateEnds, ConversionsKeepEveryEnd) {
  const ChainModel model = TestChain();
  model.SetConfig({{"eos_token_id", {kBos, kMark, kDone}}});
  TestFolder folder;
  for (const std::string& out : {folder / "m.gguf", folder / "hf"}) {
    const ProgramResult convert =
        RunTaipan({"convert", model.path(), out, "--to", out.ends_with("hf") ? "hf" : "gguf"});
    ASSERT_EQ(convert.exit_code, 0) << convert.err;
  }
  const ProgramResult back = RunTaipan({"convert", folder / "m.gguf", folder / "back"});
  ASSERT_EQ(back.exit_code, 0) << back.err;
  for (const char* converted : {"m.gguf", "hf", "back"}) {
    const auto text = [&](const std::string& prompt) {
      return RunTaipan({"generate", "-m", folder / converted, "-p", prompt, "--temperature", "0", "--max-tokens", "9"})
          .out;
    };
    EXPECT_EQ(text("A"), "a") << converted;
    EXPECT_EQ(text("b"), "c") << converted;
    EXPECT_EQ(text("d"), "e") << converted;
  }
}

}  // namespace
}  // namespace taipan
