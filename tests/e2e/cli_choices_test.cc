// taipan generate --n and --best-of.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "e2e/running.h"
#include "e2e/tiny_model.h"

namespace taipan {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

ProgramResult Generate(const TinyModelFolder& tiny, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"generate", "-m", tiny.model(), "-p", "Hello", "--max-tokens", "12"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunTaipan(arguments);
}

TEST(GenerateChoices, AreThoseThatTheirSeedsGive) {
  const TinyModelFolder tiny;
  const ProgramResult result =
      Generate(tiny, {"--seed", "3", "--n", "2", "--best-of", "5", "--json", "--logprobs", "0"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = Json::parse(result.out), &choices = json.at("choices");
  ASSERT_EQ(choices.size(), 2u);
  EXPECT_EQ(json.at("best_of"), 5);
  EXPECT_EQ(json.at("generated_tokens"), 60);
  EXPECT_EQ(json.at("position"), 17);
  EXPECT_EQ(json.at("text"), choices[0].at("text"));
  double least = 0;
  for (const Json& choice : choices) {
    EXPECT_EQ(choice.at("seed"), 3 + choice.at("candidate").get<int>());
    const std::string seed = std::to_string(choice.at("seed").get<int>());
    const Json alone = Json::parse(Generate(tiny, {"--seed", seed, "--json"}).out);
    EXPECT_EQ(alone.at("tokens"), choice.at("tokens"));
    EXPECT_EQ(alone.at("text"), choice.at("text"));
    double sum = 0;
    for (const Json& token : choice.at("logprobs")) sum += token.at("logprob").get<double>();
    EXPECT_NEAR(choice.at("mean_logprob").get<double>(), sum / 12, 1e-9);
    EXPECT_LE(choice.at("mean_logprob").get<double>(), least);
    least = choice.at("mean_logprob").get<double>();
  }
  const ProgramResult shown = Generate(tiny, {"--seed", "3", "--best-of", "5"});
  EXPECT_EQ(shown.out, choices[0].at("text").get<std::string>());
  EXPECT_THAT(shown.err, HasSubstr("best of 5: seed "));
}

TEST(GenerateChoices, TheStateIsThatOfTheBest) {
  const TinyModelFolder tiny;
  const ProgramResult result =
      Generate(tiny, {"--seed", "3", "--best-of", "5", "--json", "--save-state", tiny / "best"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string seed = std::to_string(Json::parse(result.out).at("choices")[0].at("seed").get<int>());
  Generate(tiny, {"--seed", seed, "--save-state", tiny / "alone"});
  EXPECT_EQ(ReadFile(tiny / "best"), ReadFile(tiny / "alone"));
}

TEST(GenerateChoices, EndAtAStopText) {
  const TinyModelFolder tiny;
  const std::vector<std::string> flags = {"--seed", "3", "--n", "4", "--json", "--logit-bias", "120=4"};
  const auto with_stop = [&] {
    std::vector<std::string> all = flags;
    all.insert(all.end(), {"--stop", "x"});
    return Json::parse(Generate(tiny, all).out).at("choices");
  };
  const Json choices = with_stop();
  ASSERT_EQ(choices.size(), 4u);
  int stopped = 0;
  for (const Json& choice : choices) {
    EXPECT_EQ(choice.at("text").get<std::string>().find('x'), std::string::npos);
    if (choice.at("stop_reason") != "stop_text") continue;
    EXPECT_EQ(choice.at("tokens").back(), 'x');
    ++stopped;
  }
  EXPECT_GT(stopped, 0);
}

TEST(GenerateChoices, RefuseWhatContradicts) {
  const TinyModelFolder tiny;
  ExpectOneLineError(Generate(tiny, {"--n", "3", "--best-of", "2"}), 2, {"--best-of", "from n (3) to 1024", "found 2"});
  ExpectOneLineError(Generate(tiny, {"--best-of", "2", "--temperature", "0"}), 2, {"--best-of", "temperature 0"});
  ExpectOneLineError(Generate(tiny, {"--n", "2", "--temperature", "0"}), 2, {"--n", "temperature 0"});
  ExpectOneLineError(Generate(tiny, {"--n", "2", "--save-state", tiny / "s"}), 2, {"--save-state", "--n 1"});
  ExpectOneLineError(Generate(tiny, {"--n", "0"}), 2, {"--n", "1 to 1024"});
}

TEST(GenerateChoices, ASignalKeepsTheBestSoFar) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "err", "");
  Running run({"generate", "-m", tiny.model(), "--max-tokens", "1000000000", "--best-of", "3", "--json", "--save-state",
               tiny / "state", "--threads", "1"},
              tiny / "err", tiny / "out");
  while (ReadFile(tiny / "err").find("seed") == std::string::npos && !run.Ended()) ::usleep(1000);
  ::usleep(20000);
  run.Send(SIGINT);
  const int status = run.Wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGINT) << status << ReadFile(tiny / "err");
  const Json json = Json::parse(ReadFile(tiny / "out"));
  EXPECT_EQ(json.at("stop_reason"), "stopped");
  EXPECT_GT(json.at("tokens").size(), 0u);
  const Json on = Json::parse(Generate(tiny, {"--load-state", tiny / "state", "--json"}).out);
  EXPECT_EQ(on.at("restored_tokens"), json.at("position"));
}

}  // namespace
}  // namespace taipan
