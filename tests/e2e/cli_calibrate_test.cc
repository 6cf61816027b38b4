// taipan calibrate, and other budgets at run time.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "e2e/tiny_model.h"

namespace taipan {
namespace {

using Json = nlohmann::json;

std::string SomeText() {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "line " + std::to_string(i * i) + " of a text\n";
  return text;
}

double ShareOf(const TinyModelFolder& tiny, const std::vector<std::string>& flags) {
  std::vector<std::string> arguments = {"score", "--model", tiny.model(), "--text", tiny / "text.txt", "--json"};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  const ProgramResult result = RunTaipan(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return Json::parse(result.out).at("selected_share").at(0).get<double>();
}

TEST(Calibrate, SetsTheBudgetAndLeavesOthersToChoose) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "text.txt", SomeText());
  const std::string config = ReadFile(tiny.model() + "/config.json");
  ExpectOneLineError(RunTaipan({"generate", "--model", tiny.model(), "--prompt", "a", "--budget", "0.3"}), 1,
                     {"selection.json", "taipan calibrate"});
  const ProgramResult done =
      RunTaipan({"calibrate", tiny.model(), "--text", tiny / "text.txt", "--budget", "0.2", "--json"});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(Json::parse(done.out).at("budget"), 0.2);
  EXPECT_NE(ReadFile(tiny.model() + "/config.json"), config);
  EXPECT_NEAR(ShareOf(tiny, {}), 0.2, 0.01);
  EXPECT_NEAR(ShareOf(tiny, {"--budget", "0.6"}), 0.6, 0.02);
  const ProgramResult text = RunTaipan(
      {"generate", "--model", tiny.model(), "--prompt", SomeText(), "--budget", "0.6", "--max-tokens", "1", "--json"});
  ASSERT_EQ(text.exit_code, 0) << text.err;
  EXPECT_NEAR(Json::parse(text.out).at("selected_share").at(0).get<double>(), 0.6, 0.02);
}

TEST(Calibrate, SplitsTheLossByRecallHits) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "text.txt", SomeText());
  for (const char* window : {"", "64"}) {
    std::vector<std::string> arguments = {"score",  "--model", tiny.model(), "--text",       tiny / "text.txt",
                                          "--json", "--dtype", "f32",        "--recall-hits"};
    if (*window != 0) arguments.insert(arguments.end(), {"--context", window});
    const ProgramResult result = RunTaipan(arguments);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const Json report = Json::parse(result.out), hits = report.at("recall_hits");
    const double share = hits.at("share").get<double>();
    EXPECT_GT(share, 0.5);
    EXPECT_NEAR(share * hits.at("nll").get<double>() + (1 - share) * hits.at("other_nll").get<double>(),
                report.at("nll_per_token").get<double>(), 1e-6);
  }
}

TEST(Calibrate, RefusalsLeaveTheModelAlone) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "short.txt", "too short");
  const std::string config = ReadFile(tiny.model() + "/config.json");
  ExpectOneLineError(RunTaipan({"calibrate", tiny.model(), "--text", tiny / "short.txt"}), 1,
                     {"short.txt", "too few tokens for a quantile at 0.15", "at least 134", "9"});
  for (const char* budget : {"0", "1.5", "nan"}) {
    ExpectOneLineError(RunTaipan({"calibrate", tiny.model(), "--text", tiny / "short.txt", "--budget", budget}), 2,
                       {"--budget"});
  }
  const std::string none = tiny / "none";
  ASSERT_EQ(RunTaipan({"init", "--preset", "mamba2-1m", "--out", none}).exit_code, 0);
  ExpectOneLineError(RunTaipan({"calibrate", none, "--text", tiny / "short.txt"}), 1,
                     {"no selective attention layers"});
  WriteFileAtomically(tiny.model() + "/selection.json", R"({"tokens": 9, "shares": [0.5], "margins_0": [1, 2]})");
  ExpectOneLineError(RunTaipan({"score", "--model", tiny.model(), "--text", tiny / "short.txt", "--budget", "0.5"}), 1,
                     {"selection.json", "another length"});
  EXPECT_EQ(ReadFile(tiny.model() + "/config.json"), config);
}

}  // namespace
}  // namespace taipan
