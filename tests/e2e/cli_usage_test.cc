// Wrong usage, and the commands that only report.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "e2e/tiny_model.h"
#include "model/presets.h"

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
  ExpectOneLineError(RunTaipan({"train", "--out", "x"}), 2, {"--model"});
  ExpectOneLineError(RunTaipan({"train", "--steps="}), 2, {"--steps needs a value"});
  ExpectOneLineError(RunTaipan({"score", "--model", "x", "--text", "y", "--logits", ""}), 2, {"--logits", "empty"});
  ExpectOneLineError(RunTaipan({"compare", "x", "--svg", ""}), 2, {"--svg", "empty"});
  ExpectOneLineError(RunTaipan({"compare", ""}), 2, {"RUN", "empty"});
  ExpectOneLineError(RunTaipan({"train", "--data", "", "--model", "x", "--out", "y"}), 2, {"--data", "empty"});
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

TEST(Usage, NumbersNeitherSaturateNorReadAsOctal) {
  const auto refused = [](const std::vector<std::string>& flags, const std::string& range) {
    ExpectOneLineError(RunTaipan(flags), 2, {flags[flags.size() - 2], range, "found " + flags.back()});
  };
  const std::string huge = "99999999999999999999", seeds = "from 0 to 18446744073709551615";
  refused({"init", "--preset", "taipan-1m", "--out", "x", "--seed", huge}, seeds);
  refused({"init", "--preset", "taipan-1m", "--out", "x", "--seed", "-1"}, seeds);
  refused({"generate", "--model", "x", "--seed", huge}, seeds);
  refused({"generate", "--model", "x", "--max-tokens", huge}, "from 0 to 1099511627776");
  refused({"generate", "--model", "x", "--top-k", "010"}, "from 0 to 9223372036854775807");
  refused({"generate", "--model", "x", "--top-k", "0x10"}, "from 0 to 9223372036854775807");
  refused({"generate", "--model", "x", "--temperature", "inf"}, "a number from 0 to 1000");
  refused({"score", "--model", "x", "--text", "y", "--context", "9223372036854775807"}, "from 1 to 1099511627776");
  refused({"presets", "--threads", "4294967297"}, "from 1 to 4096");
  const std::vector<std::string> train = {"train", "--model", "taipan-1m", "--data", "x", "--out", "y"};
  const auto train_refused = [&](const std::string& flag, const std::string& value, const std::string& range) {
    std::vector<std::string> all = train;
    all.insert(all.end(), {flag, value});
    ExpectOneLineError(RunTaipan(all), 2, {flag, range, "found " + value});
  };
  train_refused("--seed", "18446744073709551615", "from 0 to 9223372036854775807");
  train_refused("--seed", "-1", "from 0 to 9223372036854775807");
  for (const char* flag : {"--context", "--batch-size", "--micro-batch-size", "--vocab-size"}) {
    train_refused(flag, "9223372036854775807", "from 1 to 2147483647");
    train_refused(flag, "0", "from 1 to 2147483647");
  }
  for (const char* flag : {"--steps", "--keep"}) train_refused(flag, "4294967296", "from 1 to 4294967295");
  for (const char* flag : {"--warmup-steps", "--valid-every", "--save-every", "--sample-every"}) {
    train_refused(flag, "-3", "from 0 to 4294967295");
  }
  train_refused("--valid-tokens", "9223372036854775807", "from 1 to 1099511627776");
  train_refused("--steps", "010", "from 1 to 4294967295");
  train_refused("--sample-tokens", "0", "from 1 to 1048576");
  for (const char* flag : {"--learning-rate", "--min-learning-rate", "--weight-decay", "--clip-norm", "--beta1",
                           "--beta2", "--eps", "--budget", "--budget-loss-weight", "--gate-bias", "--time-limit",
                           "--initializer-range", "--gumbel-temperature"}) {
    for (const char* value : {"nan", "inf", "1e999"})
      EXPECT_EQ(RunTaipan([&] {
                  std::vector<std::string> all = train;
                  all.insert(all.end(), {flag, value});
                  return all;
                }())
                    .exit_code,
                2)
          << flag << value;
  }
  train_refused("--budget", "0", "above 0 and at most 1");
}

TEST(Usage, SeedsUseAll64Bits) {
  const TestFolder folder;
  WriteFileAtomically(folder / "c.json", TinyConfigText());
  const auto weights = [&](const std::string& seed) {
    const std::string out = folder / ("seed-" + seed);
    const ProgramResult init = RunTaipan({"init", "--config", folder / "c.json", "--out", out, "--seed", seed});
    EXPECT_EQ(init.exit_code, 0) << init.err;
    return ReadFile(out + "/model.safetensors");
  };
  EXPECT_NE(weights("18446744073709551615"), weights("9223372036854775807"));
}

// Wrong values that only the model or another flag reveals are wrong usage too; files that are wrong are not.
TEST(Usage, EveryFlagThatIsWrongExitsWith2) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "text.txt", std::string(500, 'x'));
  const auto train = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> all = {"train", "--model", tiny.model(), "--data", tiny / "text.txt", "--out", tiny / "r"};
    all.insert(all.end(), flags.begin(), flags.end());
    return RunTaipan(all);
  };
  ExpectOneLineError(RunTaipan({"presets", "--isa", "sse9"}), 2, {"--isa", "sse9"});
  ExpectOneLineError(train({"--budget-ramp", "5"}), 2, {"--budget-ramp", "A:B"});
  ExpectOneLineError(train({"--batch-size", "2", "--micro-batch-size", "5"}), 2, {"--micro-batch-size", "at most 2"});
  ExpectOneLineError(train({"--steps", "5", "--warmup-steps", "6"}), 2, {"--warmup-steps", "at most 5"});
  ExpectOneLineError(train({"--min-learning-rate", "1"}), 2, {"--min-learning-rate"});
  ExpectOneLineError(train({"--context", "2000000000", "--batch-size", "2000000000"}), 2,
                     {"--batch-size", "1099511627776"});
  ExpectOneLineError(
      RunTaipan({"bench", "train", "--model", tiny.model(), "--context", "1073741824", "--batch-size", "1073741824"}),
      2, {"--batch-size", "1099511627776"});
  WriteFileAtomically(tiny / "run.json", R"({"steps": -1})");
  ExpectOneLineError(train({"--config", tiny / "run.json"}), 1, {"run.json", "steps", "1 to 4294967295"});
  WriteFileAtomically(tiny / "run.json", R"({"seed": 18446744073709551615})");
  ExpectOneLineError(train({"--config", tiny / "run.json"}), 1, {"run.json", "seed", "below 2^63"});
  EXPECT_FALSE(PathExists(tiny / "r"));
}

TEST(Usage, OutputsAreTriedBeforeTheWork) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "text.txt", std::string(500, 'x'));
  const std::string none = tiny / "none/x";
  const auto refused = [&](std::vector<std::string> command, const std::string& part) {
    const ProgramResult result = RunTaipan(command, "[1, 2]");
    ExpectOneLineError(result, 1, {part});
  };
  const std::string text = tiny / "text.txt", missing_model = tiny / "no-model";
  // A model that is not there shows that the output was looked at first.
  refused({"score", "--model", missing_model, "--text", text, "--svg", none}, none);
  refused({"score", "--model", missing_model, "--text", text, "--logits", none}, none);
  refused({"score", "--model", missing_model, "--text", text, "--svg", tiny.model()}, "a folder of this name");
  refused({"score", "--model", missing_model, "--text", none}, none);
  refused({"generate", "--model", missing_model, "--prompt-file", none}, none);
  refused({"bench", "train", "--model", "no-such-preset", "--svg", none}, none);
  refused({"bench", "kernels", "--model", "no-such-preset", "--svg", none}, none);
  refused({"tokenizer", "train", "--vocab-size", "300", "--data", none, "--out", text + "/t"}, text + "/t");
  refused({"tokenizer", "train", "--vocab-size", "300", "--data", none, "--out", tiny / "none/t.json"}, "t.json");
  refused({"train", "--model", "taipan-1m", "--data", none, "--out", text + "/run"}, text + "/run");
  EXPECT_FALSE(PathExists(tiny / "none"));
}

TEST(Usage, FlagsWithoutEffectAreNamed) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "mamba.json", R"({"vocab_size": 256, "hidden_size": 32, "layer_pattern": ["mamba2"],
    "head_dim": 16, "state_size": 16, "chunk_size": 32})");
  WriteFileAtomically(tiny / "text.txt", std::string(500, 'x'));
  WriteFileAtomically(tiny / "run.json", R"({"gumbel-noise": "off"})");
  const ProgramResult train =
      RunTaipan({"train", "--model", tiny / "mamba.json", "--data", tiny / "text.txt", "--out", tiny / "r", "--steps",
                 "1", "--context", "16", "--budget", "0.3", "--config", tiny / "run.json", "--sample-tokens", "5"});
  EXPECT_EQ(train.exit_code, 0) << train.err;
  EXPECT_NE(train.err.find("without effect: --budget, --gumbel-noise: the model has no selective attention layers; "
                           "--sample-tokens: without --sample-every\n"),
            std::string::npos)
      << train.err;
  const ProgramResult init =
      RunTaipan({"init", "--config", tiny / "mamba.json", "--out", tiny / "m", "--gate-bias", "1"});
  EXPECT_NE(init.err.find("without effect: --gate-bias"), std::string::npos) << init.err;
  const ProgramResult generate = RunTaipan(
      {"generate", "--model", tiny.model(), "--max-tokens", "1", "--temperature", "0", "--top-k", "5", "--seed", "1"});
  EXPECT_NE(generate.err.find("without effect: --top-k, --seed"), std::string::npos) << generate.err;
  EXPECT_EQ(RunTaipan({"generate", "--model", tiny.model(), "--max-tokens", "1", "--top-k", "5", "--seed", "1"})
                .err.find("without effect"),
            std::string::npos);
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
