// Wrong usage, and the commands that only report.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "e2e/run_program.h"

namespace taipan {
namespace {

using Json = nlohmann::json;

TEST(Usage, VersionAndHelpGoToStdout) {
  const ProgramResult version = RunTaipan({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_EQ(version.out.rfind("taipan ", 0), 0u) << version.out;
  for (const char* command : {"presets", "init", "inspect", "train", "generate", "score"}) {
    const ProgramResult help = RunTaipan({command, "--help"});
    EXPECT_EQ(help.exit_code, 0) << command;
    EXPECT_NE(help.out.find("--threads"), std::string::npos) << command;
    EXPECT_EQ(help.err, "") << command;
  }
  for (const char* command : {"roof", "train", "prefill", "decode", "kernels"}) {
    EXPECT_NE(RunTaipan({"bench", command, "--help"}).out.find("--threads"), std::string::npos) << command;
  }
  EXPECT_NE(RunTaipan({"generate", "--help"}).out.find("0.95"), std::string::npos);  // defaults are shown
}

TEST(Usage, WrongUsageExitsWith2AndAHint) {
  ExpectOneLineError(RunTaipan({}), 2, {"subcommand", "--help"});
  ExpectOneLineError(RunTaipan({"generat"}), 2, {"generat", "did you mean generate?"});
  ExpectOneLineError(RunTaipan({"presets", "--jsn"}), 2, {"--jsn", "did you mean --json?"});
  ExpectOneLineError(RunTaipan({"score", "--modell", "x", "--text", "y"}), 2, {"--modell", "did you mean --model?"});
  ExpectOneLineError(RunTaipan({"generate", "--max-token=5"}), 2, {"--max-token", "did you mean --max-tokens?"});
  ExpectOneLineError(RunTaipan({"generate"}), 2, {"--model"});
  ExpectOneLineError(RunTaipan({"generate", "--model", "x", "--top-p", "2"}), 2, {"--top-p"});
  ExpectOneLineError(RunTaipan({"generate", "--model", "x", "--temperature", "warm"}), 2, {"--temperature"});
  ExpectOneLineError(RunTaipan({"generate", "--model", "x", "--temperature", "nan"}), 2, {"--temperature", "nan"});
  ExpectOneLineError(RunTaipan({"generate", "--model", "x", "--prompt", "a", "--prompt-file", "b"}), 2, {"--prompt"});
  ExpectOneLineError(RunTaipan({"generate", "--model", "x", "--seed", "-1"}), 2, {"--seed", "-1"});
  ExpectOneLineError(RunTaipan({"generate", "--model", "x", "--max-tokens", "4.5"}), 2, {"--max-tokens", "4.5"});
  ExpectOneLineError(RunTaipan({"presets", "--threads", "0"}), 2, {"--threads"});
  ExpectOneLineError(RunTaipan({"score", "--model", "x"}), 2, {"--text", "--tokens"});
  ExpectOneLineError(RunTaipan({"init", "--out", "x"}), 2, {"--preset", "--config"});
  ExpectOneLineError(RunTaipan({"init", "--preset", "taipan-1m", "--config", "y", "--out", "x"}), 2, {"--config"});
  ExpectOneLineError(RunTaipan({"bench"}), 2, {"subcommand"});
}

TEST(Presets, AreListedWithParametersAndMemory) {
  const ProgramResult table = RunTaipan({"presets"});
  EXPECT_EQ(table.exit_code, 0);
  for (const char* text : {"taipan-190m", "mamba2-1.3b", "taipan-1m", "parameters", "selective attention"}) {
    EXPECT_NE(table.out.find(text), std::string::npos) << text;
  }
  const Json presets = Json::parse(RunTaipan({"presets", "--json"}).out);
  ASSERT_TRUE(presets.is_array());
  EXPECT_GE(presets.size(), 30u);
  for (const Json& preset : presets) {
    // Weights, gradients and two moments are 16 bytes a parameter, running needs the weights alone.
    EXPECT_GT(preset.at("train_bytes").get<int64_t>(), 16 * preset.at("parameters").get<int64_t>()) << preset;
    EXPECT_GT(preset.at("run_bytes").get<int64_t>(), 4 * preset.at("parameters").get<int64_t>()) << preset;
    EXPECT_EQ(preset.at("layer_pattern").size(), preset.at("layers").get<size_t>());
  }
}

TEST(Inspect, ShowsAPreset) {
  const ProgramResult text = RunTaipan({"inspect", "taipan-190m"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  for (const char* part : {"hidden_size", "128K", "1M", "total", "mamba2 x 6, selective_attention"}) {
    EXPECT_NE(text.out.find(part), std::string::npos) << part;
  }
  const Json json = Json::parse(RunTaipan({"inspect", "taipan-190m", "--json"}).out);
  EXPECT_EQ(json.at("config").at("hidden_size"), 768);
  int64_t sum = 0;
  for (const Json& group : json.at("parameter_groups")) sum += group.at("count").get<int64_t>();
  EXPECT_EQ(json.at("parameters"), sum);
  ASSERT_EQ(json.at("run").size(), 3u);
  // A window of 2048 is full at 4K, so the state does not grow from there to 1M.
  EXPECT_EQ(json.at("run")[0].at("state_bytes"), json.at("run")[2].at("state_bytes"));
}

TEST(Inspect, RefusesWhatIsNoModel) {
  ExpectOneLineError(RunTaipan({"inspect", "taipan-190n"}), 1, {"taipan-190n", "did you mean the preset taipan-190m?"});
  ExpectOneLineError(RunTaipan({"inspect", "/does/not/exist/config.json"}), 1, {"/does/not/exist/config.json"});
}

}  // namespace
}  // namespace taipan
