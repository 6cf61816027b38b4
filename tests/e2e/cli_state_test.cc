// taipan generate --save-state and --load-state: what is written in two calls is what one would have written.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "e2e/chain_model.h"
#include "e2e/running.h"
#include "e2e/tiny_model.h"
#include "formats/safetensors.h"

namespace taipan {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing::Not;

Json Generate(const TinyModelFolder& tiny, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"generate", "--model", tiny.model(), "--temperature",
                                        "0.9",      "--seed",  "3",          "--json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const ProgramResult result = RunTaipan(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return Json::parse(result.out);
}

TEST(GenerateState, TwoCallsWriteWhatOneWrites) {
  const TinyModelFolder tiny;
  for (const char* dtype : {"f32", "bf16"}) {
    const Json whole = Generate(tiny, {"-p", "Hello", "--max-tokens", "50", "--dtype", dtype});
    const Json first =
        Generate(tiny, {"-p", "Hello", "--max-tokens", "20", "--dtype", dtype, "--save-state", tiny / "state"});
    const Json second = Generate(tiny, {"--max-tokens", "30", "--dtype", dtype, "--load-state", tiny / "state"});
    EXPECT_EQ(second.at("tokens").size(), 30u);
    EXPECT_EQ(second.at("restored_tokens"), 25);
    EXPECT_EQ(second.at("prompt_tokens"), 0);
    EXPECT_EQ(second.at("position"), 55);
    Json both = first.at("tokens");
    both.insert(both.end(), second.at("tokens").begin(), second.at("tokens").end());
    EXPECT_EQ(both, whole.at("tokens"));
  }
}

// One file may be both.
TEST(GenerateState, APromptGoesOnAfterTheState) {
  const TinyModelFolder tiny;
  const Json whole = Generate(tiny, {"-p", "Hello there", "--max-tokens", "10"});
  Generate(tiny, {"-p", "Hello", "--max-tokens", "0", "--save-state", tiny / "state"});
  const Json more = Generate(
      tiny, {"-p", " there", "--max-tokens", "10", "--load-state", tiny / "state", "--save-state", tiny / "state"});
  EXPECT_EQ(more.at("tokens"), whole.at("tokens"));
  const SafetensorsFile file(tiny / "state");
  EXPECT_EQ(file.At("tokens").shape, std::vector<int64_t>{21});
  EXPECT_EQ(std::string(1, static_cast<const char*>(file.At("tokens").data)[0]), "H");
}

TEST(GenerateState, BosIsNotAddedAgain) {
  const ChainModel model({256, 'a', 'b', 'c', 'd', 'e'}, {"<s>"});
  Json tokenizer = Json::parse(ReadFile(model.path() + "/tokenizer.json"));
  tokenizer["post_processor"] = Json::parse(R"({"type": "TemplateProcessing", "pair": [],
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}}})");
  model.Write("tokenizer.json", tokenizer.dump());
  const TestFolder folder;
  const auto generate = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"generate", "-m", model.path(), "--temperature", "0", "--json"});
    const ProgramResult result = RunTaipan(more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return Json::parse(result.out);
  };
  const Json first = generate({"-p", "a", "--max-tokens", "1", "--save-state", folder / "s"});
  EXPECT_EQ(first.at("prompt_tokens"), 2);
  EXPECT_EQ(first.at("text"), "b");
  const Json second = generate({"-p", "c", "--max-tokens", "2", "--load-state", folder / "s"});
  EXPECT_EQ(second.at("prompt_tokens"), 1);
  EXPECT_EQ(second.at("text"), "de");
}

TEST(GenerateState, BadStatesAreRefusedWithTheirReason) {
  const TinyModelFolder tiny, other("256", "2");
  Generate(tiny, {"-p", "Hello", "--max-tokens", "5", "--dtype", "f32", "--save-state", tiny / "state"});
  const auto load = [&](const TinyModelFolder& folder, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"generate", "-m", folder.model(), "--max-tokens", "5"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTaipan(arguments);
  };
  ExpectOneLineError(load(other, {"--dtype", "f32", "--load-state", tiny / "state"}), 1, {"state", "another model"});
  ExpectOneLineError(load(tiny, {"--dtype", "bf16", "--load-state", tiny / "state"}), 1, {"number format", "bf16"});
  ExpectOneLineError(load(tiny, {"--load-state", tiny / "none"}), 1, {"none", "No such file"});
  ExpectOneLineError(load(tiny, {"--load-state", ""}), 2, {"--load-state", "the name is empty"});
  ExpectOneLineError(load(tiny, {"--save-state", tiny / "no/folder/state"}), 1, {"no/folder"});
  ExpectOneLineError(load(tiny, {"--load-state", tiny / "state", "--chat"}), 2, {"--load-state", "--chat"});
  WriteFileAtomically(tiny / "state", ReadFile(tiny / "state").substr(0, 3000));
  ExpectOneLineError(load(tiny, {"--dtype", "f32", "--load-state", tiny / "state"}), 1, {"state"});
}

// What was generated is not lost with the state.
TEST(GenerateState, AFullDiskStillGivesTheText) {
  const TinyModelFolder tiny;
  rlimit before{}, full{};
  CHECK_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  full = before;
  full.rlim_cur = 2048;
  std::vector<std::string> arguments = {"generate", "-m", tiny.model(), "-p", "x", "--max-tokens", "5", "--json"};
  arguments.insert(arguments.end(), {"--save-state", tiny / "state"});
  CHECK_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
  const ProgramResult result = RunTaipan(arguments);
  CHECK_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(Json::parse(result.out).at("tokens").size(), 5u);
  EXPECT_THAT(result.err, HasSubstr("state: cannot write"));
  EXPECT_FALSE(PathExists(tiny / "state"));
}

// `taipan generate` without an end, its state saved in "state" when a signal stops it.
std::vector<std::string> Endless(const TinyModelFolder& tiny) {
  return {"generate", "-m",           tiny.model(),   "--max-tokens", "1000000000",
          "--json",   "--save-state", tiny / "state", "--threads",    "1"};
}

Json StoppedBy(int signal, Running& run, const TinyModelFolder& tiny) {
  run.Send(signal);
  const int status = run.Wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 128 + signal) << status << ReadFile(tiny / "err");
  const Json json = Json::parse(ReadFile(tiny / "out"));
  EXPECT_EQ(json.at("stop_reason"), "stopped");
  const Json on = Generate(tiny, {"--load-state", tiny / "state", "--max-tokens", "4", "-p", "y"});
  EXPECT_EQ(on.at("restored_tokens"), json.at("position"));
  return json;
}

TEST(GenerateState, ASignalInAnAnswerStillSaves) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "err", "");
  Running run(Endless(tiny), tiny / "err", tiny / "out");
  while (ReadFile(tiny / "err").find("seed") == std::string::npos && !run.Ended()) ::usleep(1000);
  ::usleep(20000);
  EXPECT_GT(StoppedBy(SIGINT, run, tiny).at("tokens").size(), 0u);
}

// It waits for more of the prompt; what came in whole slices was read.
TEST(GenerateState, ASignalInAPromptStillSaves) {
  const TinyModelFolder tiny;
  int pipe[2];
  CHECK_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  std::vector<std::string> arguments = Endless(tiny);
  arguments.insert(arguments.end(), {"--prompt-file", "-"});
  WriteFileAtomically(tiny / "err", "");
  Running run(arguments, tiny / "err", tiny / "out", pipe[0]);
  constexpr int kBytes = 60000, kPiece = 512, kSlice = 16 * kPiece;
  const std::string text(kBytes, 'x');
  CHECK_EQ(::write(pipe[1], text.data(), text.size()), kBytes);
  int waiting = kBytes;
  while (waiting > 0 && !run.Ended()) {
    ::usleep(1000);
    CHECK_EQ(::ioctl(pipe[0], FIONREAD, &waiting), 0);
  }
  const Json json = StoppedBy(SIGTERM, run, tiny);
  // Whole pieces of what had come, the last slice perhaps not to its end.
  const int64_t read = json.at("prompt_tokens");
  EXPECT_GT(read, 0);
  EXPECT_LE(read, kBytes / kSlice * kSlice);
  EXPECT_EQ(read % kPiece, 0);
  EXPECT_EQ(json.at("tokens").size(), 0u);
  ::close(pipe[0]);
  ::close(pipe[1]);
}

}  // namespace
}  // namespace taipan
