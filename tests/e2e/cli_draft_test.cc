// taipan generate --draft: the same text, and how much of it was guessed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "e2e/tiny_model.h"
#include "formats/safetensors.h"

namespace taipan {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

ProgramResult Generate(const TinyModelFolder& tiny, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"generate", "-m", tiny.model(), "-p", "abcabcabc", "--max-tokens", "200"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunTaipan(arguments);
}

// A bias makes the model say one letter most of the time.
TEST(GenerateDraft, WritesTheSameText) {
  const TinyModelFolder tiny;
  const std::vector<std::vector<std::string>> ways = {
      {"--temperature", "0"},
      {"--seed", "3", "--logit-bias", "97=7"},
      {"--seed", "3", "--logit-bias", "97=7", "--presence-penalty", "1"}};
  for (std::vector<std::string> flags : ways) {
    flags.insert(flags.end(), {"--json", "--save-state", tiny / "plain"});
    const Json plain = Json::parse(Generate(tiny, flags).out);
    flags.back() = tiny / "drafts";
    flags.insert(flags.end(), {"--draft", "prompt-lookup:2"});
    const Json json = Json::parse(Generate(tiny, flags).out);
    EXPECT_EQ(json.at("tokens"), plain.at("tokens"));
    EXPECT_EQ(json.at("selected_share"), plain.at("selected_share"));
    EXPECT_EQ(json.at("position"), 209);
    EXPECT_EQ(ReadFile(tiny / "drafts"), ReadFile(tiny / "plain"));
    EXPECT_FALSE(plain.contains("draft"));
    const Json& draft = json.at("draft");
    EXPECT_GT(draft.at("drafted"), 0);
    EXPECT_GT(draft.at("accepted"), 0);
    EXPECT_DOUBLE_EQ(draft.at("share").get<double>(),
                     draft.at("accepted").get<double>() / draft.at("drafted").get<double>());
  }
  const ProgramResult shown = Generate(tiny, {"--temperature", "0", "--draft", "prompt-lookup"});
  EXPECT_THAT(shown.err, HasSubstr("; drafts: "));
  EXPECT_THAT(shown.err, HasSubstr("tokens accepted ("));
  EXPECT_EQ(shown.out, Generate(tiny, {"--temperature", "0", "--draft", "none"}).out);
}

TEST(GenerateDraft, RefusesWhatItDoesNotKnow) {
  const TinyModelFolder tiny;
  ExpectOneLineError(Generate(tiny, {"--draft", "model"}), 2, {"--draft", "prompt-lookup:N", "found model"});
  ExpectOneLineError(Generate(tiny, {"--draft", "prompt-lookup:0"}), 2, {"--draft", "1 to 64", "found 0"});
  ExpectOneLineError(Generate(tiny, {"--draft", "prompt-lookup:"}), 2, {"--draft", "1 to 64"});
  ExpectOneLineError(Generate(tiny, {"--draft", "prompt-lookup", "--n", "2"}), 2, {"--draft", "--n 1", "2 texts"});
}

}  // namespace
}  // namespace taipan
