// taipan train as a user runs it: a short run, its folder, wrong flags, bad data.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/files.h"
#include "e2e/run_program.h"
#include "e2e/tiny_model.h"
#include "text/tokenizer.h"

namespace taipan {
namespace {

class TrainCommand : public testing::Test {
 protected:
  void SetUp() override {
    WriteFileAtomically(folder_ / "model.json", TinyConfigText());
    std::string text;
    for (int i = 0; i < 200; ++i) text += "the number " + std::to_string(i) + " follows\n";
    WriteFileAtomically(folder_ / "text.txt", text);
    WriteFileAtomically(folder_ / "valid.txt", text.substr(0, 3000));
  }
  // taipan train with a small model and some data, changed by the arguments that follow.
  ProgramResult Train(const std::string& run, const std::vector<std::string>& more = {},
                      const std::string& data = "text.txt") const {
    std::vector<std::string> arguments = {"train",       "--model",      folder_ / "model.json",
                                          "--data",      folder_ / data, "--out",
                                          folder_ / run, "--steps",      "4",
                                          "--context",   "32",           "--batch-size",
                                          "2",           "--threads",    "1"};
    for (size_t i = 0; i < more.size(); ++i) {
      // A flag of its own takes the place of the one above.
      const auto twice = std::find(arguments.begin(), arguments.end(), more[i]);
      if (i + 1 < more.size() && more[i].starts_with("--") && twice != arguments.end())
        arguments.erase(twice, twice + 2);
    }
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTaipan(arguments);
  }
  std::vector<nlohmann::json> Metrics(const std::string& run) const {
    std::vector<nlohmann::json> lines;
    const std::string all = ReadFile(folder_ / run + "/metrics.jsonl");
    for (size_t begin = 0, end; (end = all.find('\n', begin)) != std::string::npos; begin = end + 1) {
      lines.push_back(nlohmann::json::parse(all.substr(begin, end - begin)));
    }
    return lines;
  }

  TestFolder folder_;
};

// A folder or a file of it: what stands beside a tokenizer goes into the model's folder too.
TEST_F(TrainCommand, ATokenizerWithItsFolder) {
  const std::string folder = folder_ / "tokenizer";
  MakeDirectories(folder);
  WriteFileAtomically(folder + "/tokenizer.json", ByteTokenizerJson());
  WriteFileAtomically(folder + "/tokenizer_config.json",
                      R"({"eos_token": "<e>", "added_tokens_decoder": {"256": {"content": "<e>", "special": true}}})");
  std::string model = ReadFile(folder_ / "model.json");
  model.replace(model.find("256"), 3, "257");
  WriteFileAtomically(folder_ / "model.json", model);
  for (const std::string& tokenizer : {folder, folder + "/tokenizer.json"}) {
    const ProgramResult result = Train("run", {"--tokenizer", tokenizer, "--steps", "1"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const ProgramResult ids = RunTaipan(
        {"tokenizer", "encode", "--tokenizer", folder_ / "run/model", "--text", "-", "--parse-special"}, "a<e>");
    EXPECT_EQ(ids.out, "[97, 256]\n") << ids.err;
    std::filesystem::remove_all(folder_ / "run");
  }
  EXPECT_EQ(Train("run", {"--tokenizer", folder_.path()}).exit_code, 1);
}

// What `tokenizer train` makes with an end of text is found, trained with, and stopped at.
TEST_F(TrainCommand, LearnsToStop) {
  std::string lines;
  for (int i = 0; i < 200; ++i) lines += "{\"text\": \"to be or not to be\"}\n";
  WriteFileAtomically(folder_ / "lines.jsonl", lines);
  const ProgramResult tokenizer =
      RunTaipan({"tokenizer", "train", "--vocab-size", "270", "--special-token", "<|endoftext|>", "--data",
                 folder_ / "lines.jsonl", "--out", folder_ / "tokenizer"});
  ASSERT_EQ(tokenizer.exit_code, 0) << tokenizer.err;
  WriteFileAtomically(folder_ / "model.json", TinyConfigText("270"));
  const ProgramResult train =
      Train("run", {"--tokenizer", folder_ / "tokenizer", "--steps", "60", "--learning-rate", "0.02"}, "lines.jsonl");
  ASSERT_EQ(train.exit_code, 0) << train.err;
  EXPECT_NE(train.err.find("in 200 documents"), std::string::npos) << train.err;
  EXPECT_NE(train.err.find("end of text <|endoftext|>"), std::string::npos) << train.err;
  const ProgramResult text = RunTaipan({"generate", "--model", folder_ / "run/model", "--prompt", "to be or", "--json",
                                        "--max-tokens", "50", "--temperature", "0"});
  ASSERT_EQ(text.exit_code, 0) << text.err;
  EXPECT_EQ(nlohmann::json::parse(text.out).at("text"), " not to be") << text.out;
}

TEST_F(TrainCommand, ShardsTrainLikeTheirText) {
  WriteFileAtomically(folder_ / "lines.jsonl", "{\"text\": \"" + std::string(300, 'a') + "\"}\n{\"text\": \"b\"}\n");
  const ProgramResult made =
      RunTaipan({"tokenize", "--data", folder_ / "lines.jsonl", folder_ / "text.txt", "--tokenizer", "byte", "--eos",
                 "0", "--shard-tokens", "1000", "--out", folder_ / "shards"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_NE(made.err.find("tokens in 3 documents, 2 shards, end of text 0"), std::string::npos) << made.err;
  const ProgramResult shards = Train("shards-run", {"--valid-split", "0.1"}, "shards");
  ASSERT_EQ(shards.exit_code, 0) << shards.err;
  ASSERT_EQ(
      Train("text-run", {"--data", folder_ / "lines.jsonl", folder_ / "text.txt", "--eos", "0", "--valid-split", "0.1"})
          .exit_code,
      0);
  EXPECT_EQ(ReadFile(folder_ / "shards-run/model/model.safetensors"),
            ReadFile(folder_ / "text-run/model/model.safetensors"));
  EXPECT_TRUE(PathExists(folder_ / "shards-run/model/tokenizer.json"));
  EXPECT_EQ(RunTaipan({"train", "--out", folder_ / "shards-run", "--resume", "--steps", "6"}).exit_code, 0);
}

TEST_F(TrainCommand, TrainsValidatesSamplesAndSaves) {
  const ProgramResult result = Train("run", {"--valid-data", folder_ / "valid.txt", "--valid-every", "2",
                                             "--sample-every", "4", "--sample-prompt", "the number"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "");
  for (const char* part :
       {"step 4/4", "bits/byte", "selected", "tokens/s", "valid", "sample after step 4", "the number"}) {
    EXPECT_NE(result.err.find(part), std::string::npos) << part << "\n" << result.err;
  }
  const std::vector<nlohmann::json> lines = Metrics("run");
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_TRUE(lines[2].contains("valid_bits_per_byte"));
  EXPECT_EQ(lines[4]["tokens"], 4 * 2 * 32);
  const ProgramResult score =
      RunTaipan({"score", "--model", folder_ / "run/model", "--text", folder_ / "text.txt", "--threads", "1"});
  EXPECT_EQ(score.exit_code, 0) << score.err;
  EXPECT_NE(ReadFile(folder_ / "run/curve.svg").find("</svg>"), std::string::npos);
}

TEST_F(TrainCommand, ResumesWithTheSettingsOfTheRun) {
  ASSERT_EQ(Train("run", {"--time-limit", "0.000001"}).exit_code, 0);
  EXPECT_EQ(Metrics("run").size(), 1u);
  const ProgramResult resumed = RunTaipan({"train", "--out", folder_ / "run", "--resume", "--time-limit", "0"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_NE(resumed.err.find("after step 1"), std::string::npos) << resumed.err;
  EXPECT_EQ(Metrics("run").size(), 4u);
  ASSERT_EQ(Train("straight").exit_code, 0);
  EXPECT_EQ(ReadFile(folder_ / "run/model/model.safetensors"), ReadFile(folder_ / "straight/model/model.safetensors"));
  const ProgramResult again = RunTaipan({"train", "--out", folder_ / "run", "--resume"});
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_NE(again.err.find("finished"), std::string::npos) << again.err;
}

TEST_F(TrainCommand, ElementTypeFollowsTheCpuAndStays) {
  const auto saved = [&](const std::string& run) {
    return nlohmann::json::parse(ReadFile(folder_ / run + "/run.json")).at("dtype").get<std::string>();
  };
  const std::string cpu = ReadFile("/proc/cpuinfo");
  const bool fast = cpu.find("avx512_bf16") != std::string::npos || cpu.find("amx_bf16") != std::string::npos;
  const ProgramResult native = Train("native");
  ASSERT_EQ(native.exit_code, 0) << native.err;
  EXPECT_EQ(saved("native"), fast ? "bf16" : "f32");
  EXPECT_EQ(native.err.find("parameters in bf16") != std::string::npos, fast) << native.err;
  ASSERT_EQ(Train("scalar", {"--isa", "scalar", "--time-limit", "0.000001"}).exit_code, 0);
  EXPECT_EQ(saved("scalar"), "f32");
  const ProgramResult resumed = RunTaipan({"train", "--out", folder_ / "scalar", "--resume", "--time-limit", "0"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_EQ(saved("scalar"), "f32");
}

TEST_F(TrainCommand, RecomputationChangesNoBitInBF16) {
  ASSERT_EQ(Train("plain", {"--dtype", "bf16"}).exit_code, 0);
  ASSERT_EQ(Train("again", {"--dtype", "bf16", "--recompute", "block"}).exit_code, 0);
  EXPECT_EQ(ReadFile(folder_ / "plain/model/model.safetensors"), ReadFile(folder_ / "again/model/model.safetensors"));
}

TEST_F(TrainCommand, RefusesWhatMemoryCannotHold) {
  // A million sequences of 32 tokens in one forward.
  ExpectOneLineError(Train("x", {"--batch-size", "1000000"}), 1,
                     {"does not fit", "moments", "it fits with --micro-batch-size"});
}

TEST_F(TrainCommand, FlagsOverrideTheRunFile) {
  WriteFileAtomically(folder_ / "run.json", R"({"learning-rate": 0.5, "weight_decay": 0.25, "gumbel_noise": "off"})");
  ASSERT_EQ(Train("run", {"--config", folder_ / "run.json", "--learning-rate", "0.125"}).exit_code, 0);
  const auto saved = nlohmann::json::parse(ReadFile(folder_ / "run/run.json"));
  EXPECT_EQ(saved["learning_rate"], 0.125);
  EXPECT_EQ(saved["weight_decay"], 0.25);
  EXPECT_EQ(saved["gumbel_noise"], "off");
  EXPECT_EQ(saved["budget_loss_weight"], 30.0);
  WriteFileAtomically(folder_ / "bad.json", R"({"learning_rat": 1})");
  ExpectOneLineError(Train("bad", {"--config", folder_ / "bad.json"}), 1,
                     {"bad.json", "learning_rat", "learning_rate"});
}

TEST_F(TrainCommand, RefusesWrongUsageAndLeavesNothing) {
  ExpectOneLineError(Train("x", {"--learning-rat", "1"}), 2, {"--learning-rat", "did you mean --learning-rate?"});
  ExpectOneLineError(Train("x", {"--learning-rate", "fast"}), 2, {"--learning-rate", "fast"});
  ExpectOneLineError(Train("x", {"--learning-rate", "-1"}), 2, {"--learning-rate", "0 to 1000"});
  ExpectOneLineError(Train("x", {"--learning-rate", "nan"}), 2, {"--learning-rate"});
  ExpectOneLineError(Train("x", {"--steps", "0"}), 2, {"--steps", "from 1"});
  ExpectOneLineError(Train("x", {"--order", "backwards"}), 2, {"--order", "sequential"});
  ExpectOneLineError(RunTaipan({"train", "--data", "y", "--out", folder_ / "x"}), 2, {"--model"});
  ExpectOneLineError(RunTaipan({"train", "--model", "y", "--out", folder_ / "x"}), 2, {"--data"});
  ExpectOneLineError(RunTaipan({"train", "--model", "y", "--data", "z"}), 2, {"--out"});
  ExpectOneLineError(Train("x", {"--dtype", "f16"}), 2, {"--dtype", "bf16"});
  ExpectOneLineError(Train("x", {"--micro-batch-size", "1", "--recompute", "all"}), 2, {"--recompute", "block"});
  ExpectOneLineError(Train("x", {"--budget-ramp", "9"}), 2, {"--budget-ramp", "A:B"});
  ExpectOneLineError(Train("x", {"--context", "99999"}), 1, {"text.txt", "at least 100000 tokens"});
  EXPECT_FALSE(PathExists(folder_ / "x"));
}

TEST_F(TrainCommand, RefusesBadDataByName) {
  WriteFileAtomically(folder_ / "empty.txt", "");
  WriteFileAtomically(folder_ / "odd.u16", "abc");
  WriteFileAtomically(folder_ / "high.u16", std::string(200, '\xff'));
  ExpectOneLineError(Train("x", {}, "empty.txt"), 1, {"empty.txt", "empty"});
  ExpectOneLineError(Train("x", {}, "odd.u16"), 1, {"odd.u16", "multiple of 2 bytes", "3 bytes"});
  ExpectOneLineError(Train("x", {}, "missing"), 1, {"missing"});
  EXPECT_FALSE(PathExists(folder_ / "x"));
  const ProgramResult high = Train("y", {}, "high.u16");  // found when it is read: the run has begun
  EXPECT_EQ(high.exit_code, 1);
  EXPECT_NE(high.err.find("high.u16: token "), std::string::npos) << high.err;
  EXPECT_NE(high.err.find("expected an id below 256, found 65535"), std::string::npos) << high.err;
}

TEST_F(TrainCommand, RefusesToOverwriteOrToContinueAnotherRun) {
  ASSERT_EQ(Train("run", {"--time-limit", "0.000001"}).exit_code, 0);
  const std::string before = ReadFile(folder_ / "run/model/model.safetensors");
  ExpectOneLineError(Train("run"), 1, {"run", "already holds a run", "--resume"});
  ExpectOneLineError(Train("run", {"--resume", "--seed", "5"}), 1, {"run.json", "\"seed\"", "expected 0, found 5"});
  WriteFileAtomically(folder_ / "other.txt", "another text that is no shorter than a context of 32 tokens\n");
  ExpectOneLineError(Train("run", {"--resume"}, "other.txt"), 1, {"other data", "text.txt"});
  WriteFileAtomically(folder_ / "model.json", TinyConfigText("300"));
  ExpectOneLineError(Train("run", {"--resume"}), 1, {"vocab_size", "expected 256, found 300"});
  EXPECT_EQ(ReadFile(folder_ / "run/model/model.safetensors"), before);
}

TEST_F(TrainCommand, OneOfTwoThatBeginTogetherTrains) {
  ProgramResult results[2];
  std::thread other([&] { results[1] = Train("a/run", {"--steps", "300"}); });
  results[0] = Train("a/run", {"--steps", "300"});
  other.join();
  if (results[0].exit_code != 0) std::swap(results[0], results[1]);
  EXPECT_EQ(results[0].exit_code, 0) << results[0].err;
  EXPECT_EQ(Metrics("a/run").size(), 300u);
  EXPECT_EQ(results[1].exit_code, 1) << results[1].err;
  const bool told = results[1].err.find("another process is training in this folder") != std::string::npos ||
                    results[1].err.find("already holds a run") != std::string::npos;  // where it came that late
  EXPECT_TRUE(told) << results[1].err;
}

TEST_F(TrainCommand, AFinishedRunGoesOn) {
  ASSERT_EQ(Train("run").exit_code, 0);
  const ProgramResult longer = RunTaipan({"train", "--out", folder_ / "run", "--resume", "--steps", "8"});
  ASSERT_EQ(longer.exit_code, 0) << longer.err;
  EXPECT_NE(longer.err.find("goes to step 8 instead of 4: from here on the learning rate follows the schedule of 8 "
                            "steps ("),
            std::string::npos)
      << longer.err;
  EXPECT_EQ(Metrics("run").size(), 8u);
  EXPECT_EQ(nlohmann::json::parse(ReadFile(folder_ / "run/trainer.json"))["ended"], "finished");
  ExpectOneLineError(RunTaipan({"train", "--out", folder_ / "run", "--resume", "--steps", "7"}), 2,
                     {"--steps", "at least 8", "found 7"});
  ExpectOneLineError(RunTaipan({"train", "--out", folder_ / "run", "--resume", "--model", "mamba2-1m"}), 1,
                     {"config.json", "the run was begun with another \"hidden_size\""});
}

TEST_F(TrainCommand, PathsWithBracketsAreTheirNames) {
  MakeDirectories(folder_ / "[v2]");
  MakeDirectories(folder_ / "[w]");
  WriteFileAtomically(folder_ / "[w]/[a,b].txt", ReadFile(folder_ / "valid.txt"));
  WriteFileAtomically(folder_ / "[v2]/[a,b].txt", ReadFile(folder_ / "text.txt"));
  WriteFileAtomically(folder_ / "list.txt", ReadFile(folder_ / "text.txt"));
  const std::string here = std::filesystem::current_path().string();
  std::filesystem::current_path(folder_ / "");
  const ProgramResult folder = Train("folder", {"--data", "[v2]", "list.txt"});
  const ProgramResult file = Train("file", {"--valid-data", "[w]/[a,b].txt"}, "[v2]/[a,b].txt");
  std::filesystem::current_path(folder_ / "[v2]");
  const ProgramResult list = Train("list", {"--data", "[a,b].txt", "--valid-data", "../[w]/[a,b].txt"});
  const ProgramResult missing = Train("missing", {"--data", "[x]"});
  std::filesystem::current_path(here);
  EXPECT_NE(folder.err.find("2 files (text)"), std::string::npos) << folder.err;
  EXPECT_EQ(file.exit_code, 0) << file.err;
  EXPECT_EQ(list.exit_code, 0) << list.err;
  ExpectOneLineError(missing, 1, {"[x]: no such file"});
}

TEST_F(TrainCommand, MixesCorporaByWeight) {
  WriteFileAtomically(folder_ / "digits.txt", std::string(2000, '7'));
  const std::vector<std::string> data = {"--data", folder_ / "text.txt=3", folder_ / "digits.txt=1"};
  const ProgramResult mixed = Train("mixed", data);
  ASSERT_EQ(mixed.exit_code, 0) << mixed.err;
  EXPECT_NE(mixed.err.find(" tokens; 1 file (text), 2.0 KiB, 2.0K tokens"), std::string::npos) << mixed.err;
  std::vector<std::string> stopped = data;
  stopped.insert(stopped.end(), {"--time-limit", "0.000001"});
  ASSERT_EQ(Train("stopped", stopped).exit_code, 0);
  ExpectOneLineError(Train("stopped", {"--data", folder_ / "text.txt=2", folder_ / "digits.txt=1", "--resume"}), 1,
                     {"trained on other data: file 3, expected a weight of --data, 3 ("});
  ASSERT_EQ(RunTaipan({"train", "--out", folder_ / "stopped", "--resume", "--time-limit", "0"}).exit_code, 0);
  EXPECT_EQ(ReadFile(folder_ / "stopped/model/model.safetensors"), ReadFile(folder_ / "mixed/model/model.safetensors"));
  ExpectOneLineError(Train("x", {"--data", folder_ / "text.txt=3", folder_ / "digits.txt"}), 2,
                     {"--data", "some paths have a weight"});
}

TEST_F(TrainCommand, RefusesToValidateOnTrainingData) {
  WriteFileAtomically(folder_ / "copy.txt", ReadFile(folder_ / "text.txt"));
  ExpectOneLineError(Train("x", {"--valid-data", folder_ / "copy.txt"}), 1,
                     {"copy.txt: has the content of a training file, text.txt", "--valid-split"});
  EXPECT_FALSE(PathExists(folder_ / "x"));
}

TEST_F(TrainCommand, ReadsStandardInput) {
  const std::string text = ReadFile(folder_ / "text.txt");
  const auto train = [&](const std::string& run, const std::string& input, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {
        "train",     "--model", folder_ / "model.json", "--data", "-",         "--out", folder_ / run, "--steps", "4",
        "--context", "32",      "--batch-size",         "2",      "--threads", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTaipan(arguments, input);
  };
  const ProgramResult stopped = train("run", text, {"--time-limit", "0.000001"});
  EXPECT_NE(stopped.err.find("1 file (text)"), std::string::npos) << stopped.err;
  EXPECT_NE(stopped.err.find("no validation data"), std::string::npos) << stopped.err;
  ExpectOneLineError(train("run", text + "x", {"--resume"}), 1, {"trained on other data", "file 1, expected - ("});
  EXPECT_NE(train("run", text, {"--resume", "--time-limit", "0"}).err.find("step 4/4"), std::string::npos);
  ASSERT_EQ(Train("file").exit_code, 0);
  EXPECT_EQ(ReadFile(folder_ / "run/model/model.safetensors"), ReadFile(folder_ / "file/model/model.safetensors"));

  EXPECT_NE(train("lines", "{\"text\": \"" + std::string(500, 'a') + "\"}\n", {}).err.find("1 file (JSONL)"),
            std::string::npos);
  ExpectOneLineError(train("x", "", {}), 1, {"standard input: the file is empty"});
  ExpectOneLineError(train("x", text, {"--valid-data", "-"}), 1, {"standard input: was read already"});
  ExpectOneLineError(train("x", std::string("\x89PNG\r\n\x1a\n\0\0", 10), {}), 1, {"standard input: ", "a PNG image"});
  EXPECT_FALSE(PathExists(folder_ / "x"));
}

TEST_F(TrainCommand, HoldsOutAShareToValidateOn) {
  const ProgramResult result = Train("run", {"--valid-split", "0.1", "--time-limit", "0.000001"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.err.find("tokens held out"), std::string::npos) << result.err;
  EXPECT_EQ(result.err.find("no validation data"), std::string::npos) << result.err;
  EXPECT_EQ(nlohmann::json::parse(ReadFile(folder_ / "run/run.json"))["valid_split"], 0.1);
  ExpectOneLineError(RunTaipan({"train", "--out", folder_ / "run", "--resume", "--valid-split", "0.2"}), 1,
                     {"another \"valid_split\"", "0.1", "0.2"});
  EXPECT_EQ(RunTaipan({"train", "--out", folder_ / "run", "--resume", "--time-limit", "0"}).exit_code, 0);
  ExpectOneLineError(Train("x", {"--valid-split", "0.1", "--valid-data", folder_ / "text.txt"}), 2,
                     {"--valid-split", "not together with --valid-data"});
  for (const char* share : {"1", "-0.1", "nan"})
    ExpectOneLineError(Train("x", {"--valid-split", share}), 2, {"--valid-split"});
  ExpectOneLineError(Train("x", {"--valid-split", "0.0001"}), 2, {"--valid-split", "at least 2 tokens"});
  ExpectOneLineError(Train("x", {"--valid-split", "0.999"}), 2, {"--valid-split", "leaves too little to train on"});
}

}  // namespace
}  // namespace taipan
