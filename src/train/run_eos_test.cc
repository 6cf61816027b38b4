// The token behind every document: which one a run takes, and that it stays.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "model/hf_config.h"
#include "model/model_files.h"
#include "train/run_text.h"
#include "train/test_run.h"

namespace taipan {
namespace {

using testing::HasSubstr;

// Bytes and one token that ends a text.
std::string TokenizerWithEnd() {
  nlohmann::json json = nlohmann::json::parse(ByteTokenizerJson());
  json["added_tokens"].push_back({{"id", 256}, {"content", "<|endoftext|>"}, {"special", true}});
  return json.dump();
}

class RunEosTest : public RunFixture {
 protected:
  void SetUp() override {
    RunFixture::SetUp();
    MakeDirectories(folder_ / "tokenizer");
    WriteFileAtomically(folder_ / "tokenizer/tokenizer.json", TokenizerWithEnd());
    std::string lines;
    for (int i = 0; i < 60; ++i) lines += "{\"text\": \"text number " + std::to_string(i) + "\"}\n";
    WriteFileAtomically(folder_ / "lines.jsonl", lines);
  }
  RunRequest WithEnd(const std::string& run, const std::string& eos = "") const {
    RunRequest request = Request(run);
    request.config = TestConfig(257);
    request.settings.data = {folder_ / "lines.jsonl"};
    request.settings.tokenizer = folder_ / "tokenizer/tokenizer.json";
    request.settings.eos = eos;
    return request;
  }
  std::string Saved(const std::string& run) const {
    return nlohmann::json::parse(ReadFile(folder_ / run + "/run.json")).at("eos").get<std::string>();
  }
  std::optional<int64_t> OfModel(const std::string& run) const {
    return LoadModelConfig(folder_ / run + "/model/config.json").eos_token_id;
  }
};

TEST_F(RunEosTest, TheTokenizersOwnUnlessAnotherIsNamed) {
  ASSERT_EQ(RunTraining(WithEnd("own"), {}), RunEnd::kFinished);
  EXPECT_EQ(Saved("own"), "256");
  EXPECT_EQ(OfModel("own"), 256);
  ASSERT_EQ(RunTraining(WithEnd("none", "none"), {}), RunEnd::kFinished);
  EXPECT_EQ(Saved("none"), "none");
  EXPECT_EQ(OfModel("none"), std::nullopt);
  EXPECT_NE(Metrics("none"), Metrics("own"));
  ASSERT_EQ(RunTraining(WithEnd("named", "<|endoftext|>"), {}), RunEnd::kFinished);
  EXPECT_EQ(Metrics("named"), Metrics("own"));
  ASSERT_EQ(RunTraining(Request("bytes"), {}), RunEnd::kFinished);  // which have none
  EXPECT_EQ(Saved("bytes"), "none");
  EXPECT_EQ(OfModel("bytes"), std::nullopt);
  EXPECT_THAT(ErrorOf(WithEnd("x", "<|end|>")),
              HasSubstr("--eos: no token of the vocabulary, expected auto, none, an id below 257 or a token, found"));
  EXPECT_THAT(ErrorOf(WithEnd("x", "257")), HasSubstr("found \"257\""));
}

TEST_F(RunEosTest, AResumedRunKeepsIt) {
  ASSERT_EQ(RunTraining(WithEnd("straight"), {}), RunEnd::kFinished);
  RunRequest request = WithEnd("run");
  const RunHooks hooks = At(request, 3, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kInterrupted);
  RunRequest other = WithEnd("run", "none");
  other.resume = true;
  EXPECT_THAT(ErrorOf(other), HasSubstr("run.json: the run was begun with another \"eos\", expected 256, found none"));
  request.resume = true;
  ASSERT_EQ(RunTraining(request, {}), RunEnd::kFinished);
  ExpectLikeStraightRun("run");
}

TEST_F(RunEosTest, ARunFromBeforeItGoesOnWithoutOne) {
  RunRequest request = WithEnd("straight", "none");
  ASSERT_EQ(RunTraining(request, {}), RunEnd::kFinished);
  request = WithEnd("run", "none");
  const RunHooks hooks = At(request, 3, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kInterrupted);
  nlohmann::json saved = nlohmann::json::parse(ReadFile(folder_ / "run/run.json"));
  saved.erase("eos");
  saved.erase("momentum");
  WriteFileAtomically(folder_ / "run/run.json", saved.dump());
  EXPECT_EQ(RequestedSettings("", {{"out", folder_ / "run"}}, /*resume=*/true).eos, "none");
  EXPECT_EQ(RequestedSettings("", {{"out", folder_ / "run"}}, /*resume=*/true).momentum, 0.95);
  request = WithEnd("run");
  request.settings.momentum = 0.95;
  request.resume = true;
  ASSERT_EQ(RunTraining(request, {}), RunEnd::kFinished);
  ExpectLikeStraightRun("run");
}

TEST_F(RunEosTest, ByConfigWhereTheTokenizerNamesNone) {
  nlohmann::json json = nlohmann::json::parse(TokenizerWithEnd());
  json["added_tokens"][0]["content"] = "<my end>";
  WriteFileAtomically(folder_ / "tokenizer/tokenizer.json", json.dump());
  const std::unique_ptr<Tokenizer> tokenizer = LoadTokenizer(folder_ / "tokenizer");
  EXPECT_EQ(ChooseEos("auto", tokenizer.get(), std::nullopt, 257), std::nullopt);
  EXPECT_EQ(ChooseEos("auto", tokenizer.get(), 256, 257), 256);
  EXPECT_EQ(ChooseEos("<my end>", tokenizer.get(), std::nullopt, 257), 256);
  EXPECT_EQ(ChooseEos("auto", nullptr, 5, 97), std::nullopt);  // token files are what their writer made of them
  EXPECT_EQ(ChooseEos("7", nullptr, 5, 97), 7);
}

}  // namespace
}  // namespace taipan
