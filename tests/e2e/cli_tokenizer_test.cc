// taipan tokenizer.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/test_folder.h"
#include "e2e/run_program.h"
#include "text/tokenizer.h"

namespace taipan {
namespace {

TEST(TokenizerCommand, EncodesAndDecodes) {
  TestFolder folder;
  nlohmann::json json = nlohmann::json::parse(ByteTokenizerJson());
  json["model"]["vocab"]["th"] = 256;
  json["model"]["merges"] = nlohmann::json::array({nlohmann::json::array({"t", "h"})});
  nlohmann::json end = {{"id", 257}, {"content", "<|end|>"}, {"special", true}};
  json["added_tokens"] = nlohmann::json::array({end});
  json["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", nlohmann::json::array({{{"SpecialToken", {{"id", "<|end|>"}, {"type_id", 0}}}},
                                        {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}})},
      {"pair", nlohmann::json::array()},
      {"special_tokens", {{"<|end|>", {{"id", "<|end|>"}, {"ids", {257}}, {"tokens", {"<|end|>"}}}}}}};
  WriteFileAtomically(folder / "tokenizer.json", json.dump());
  const auto run = [&](std::vector<std::string> arguments, const std::string& input) {
    arguments.insert(arguments.begin(), "tokenizer");
    arguments.insert(arguments.end(), {"--tokenizer", folder.path()});
    return RunTaipan(arguments, input);
  };
  EXPECT_EQ(run({"encode", "--text", "-"}, "the\n").out, "[256, 101, 10]\n");
  EXPECT_EQ(run({"encode", "--text", "-", "--json", "--add-special-tokens"}, "th").out, "{\"ids\": [257, 256]}\n");
  EXPECT_EQ(run({"encode", "--text", "-"}, "<|end|>").out, "[60, 124, 101, 110, 100, 124, 62]\n");
  EXPECT_EQ(run({"encode", "--text", "-", "--parse-special"}, "<|end|>").out, "[257]\n");
  const ProgramResult lines = run({"encode", "--jsonl", "-"}, "{\"text\": \"the\"}\n{\"text\": \"\"}\n");
  EXPECT_EQ(lines.out, "{\"ids\": [256, 101]}\n{\"ids\": []}\n");
  EXPECT_EQ(run({"decode", "--jsonl", "-"}, lines.out + "[104, 255, 257]").out, "theh\xff<|end|>");
  EXPECT_EQ(run({"decode", "--jsonl", "-", "--json"}, "[256]\n[255]").out,
            "{\"text\":\"th\"}\n{\"text\":\"\uFFFD\"}\n");

  ExpectOneLineError(run({"encode"}, ""), 2, {"--text", "--jsonl"});
  ExpectOneLineError(run({"decode", "--jsonl", "-"}, "[1]\n[258]"), 1, {"line 2", "0 to 257", "258"});
  ExpectOneLineError(run({"decode", "--jsonl", "-"}, "{\"id\": [1]}"), 1, {"line 1", "no token ids"});
  ExpectOneLineError(run({"encode", "--jsonl", "-"}, "[]"), 1, {"line 1", "{\"text\": \"...\"}"});
  ExpectOneLineError(RunTaipan({"tokenizer", "encode", "--tokenizer", folder / "none", "--text", "-"}), 1,
                     {folder / "none"});
}

}  // namespace
}  // namespace taipan
