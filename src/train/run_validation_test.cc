// Validation on several data, each by itself and all together.

#include "train/run_validation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/shard.h"
#include "train/test_run.h"

namespace taipan {
namespace {

using testing::HasSubstr;
using RunValidation = RunFixture;

nlohmann::json LastValidation(const std::string& metrics) {
  nlohmann::json last;
  for (size_t begin = 0, end; (end = metrics.find('\n', begin)) != std::string::npos; begin = end + 1) {
    auto line = nlohmann::json::parse(metrics.substr(begin, end - begin));
    if (line.contains("valid_ce")) last = line;
  }
  return last;
}

TEST_F(RunValidation, ReportsEachCorpusAndTheirMean) {
  const std::string other = folder_ / "other.txt";
  WriteFileAtomically(other, std::string(300, 'a') + SomeText(1000));
  const auto validate = [&](const std::string& run, const std::vector<std::string>& data, int64_t tokens) {
    RunRequest request = Request(run);
    request.settings.steps = 2;
    request.settings.budget_ramp = "0:0";
    request.settings.valid_data = data;
    request.settings.valid_tokens = tokens;
    RunTraining(request, {});
    return LastValidation(ReadFile(folder_ / run + "/metrics.jsonl"));
  };
  // The last validation has 16 times as many tokens: 480 of each.
  const nlohmann::json both = validate("both", {valid_, other}, 60);
  const nlohmann::json one = validate("one", {valid_}, 30), two = validate("two", {other}, 30);
  EXPECT_EQ(both.at("valid_tokens"), 960);
  EXPECT_EQ(both.at("valid_tokens:other.txt"), 480);
  EXPECT_EQ(both.at("valid_ce:valid.txt"), one.at("valid_ce"));
  EXPECT_EQ(both.at("valid_ce:other.txt"), two.at("valid_ce"));
  EXPECT_EQ(both.at("valid_bits_per_byte:other.txt"), two.at("valid_bits_per_byte"));
  const double mean = (one.at("valid_ce").get<double>() + two.at("valid_ce").get<double>()) / 2;
  EXPECT_NEAR(both.at("valid_ce").get<double>(), mean, 1e-12);
  EXPECT_NE(one.at("valid_ce"), two.at("valid_ce"));
  EXPECT_EQ(one.count("valid_ce:valid.txt"), 0u);
  for (const char* key : {"valid_recall_hits", "valid_recall_hit_ce", "valid_other_ce"})
    EXPECT_TRUE(both.contains(key));
}

TEST_F(RunValidation, NamesWholePathsWhereTheyEndAlike) {
  MakeDirectories(folder_ / "a");
  WriteFileAtomically(folder_ / "a/valid.txt", SomeText(400));
  RunRequest request = Request("run");
  request.settings.steps = 1;
  request.settings.warmup_steps = 0;
  request.settings.budget_ramp = "0:0";
  request.settings.valid_data = {valid_, folder_ / "a/valid.txt"};
  RunTraining(request, {});
  const nlohmann::json line = LastValidation(ReadFile(folder_ / "run/metrics.jsonl"));
  EXPECT_TRUE(line.contains("valid_ce:" + folder_ / "a/valid.txt")) << line;
  request = Request("other");
  request.settings.valid_data = {valid_, data_};
  EXPECT_THAT(ErrorOf(request), HasSubstr("has the content of a training file"));
}

TEST_F(RunValidation, ShardsOfAnotherTokenizerThanTheDatasAreRefused) {
  const auto shard = [&](const std::string& name, uint64_t tokenizer) {
    ShardHeader header;
    header.tokenizer = tokenizer;
    header.vocab_size = 256;
    ShardBuilder builder(header);
    builder.Add(TestTokens(400, 90 + static_cast<int64_t>(tokenizer)), {});
    builder.Write(folder_ / name);
    return folder_ / name;
  };
  RunRequest request = Request("run");
  request.settings.data = {shard("a.shard", 1)};
  request.settings.valid_data = {shard("b.shard", 2)};
  EXPECT_THAT(ErrorOf(request), HasSubstr("b.shard: the shard was made with another tokenizer, expected digest "
                                          "0000000000000001, that of a.shard, found digest 0000000000000002"));
  request.settings.valid_data.clear();
  request.settings.data = {shard("a.shard", 1) + "=1", shard("c.shard", 3) + "=2"};
  EXPECT_THAT(ErrorOf(request), HasSubstr("c.shard: the shard was made with another tokenizer"));
}

}  // namespace
}  // namespace taipan
