// taipan generate.

#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "e2e/tiny_model.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

using Json = nlohmann::json;

std::vector<std::string> Command(const TinyModelFolder& tiny, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"generate", "--model", tiny.model(), "--max-tokens", "60"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// An untrained model draws bytes of all kinds: most of them are no characters.
TEST(Generate, StreamsValidUtf8ThatItsSeedFixes) {
  const TinyModelFolder tiny;
  const ProgramResult first = RunTaipan(Command(tiny, {"--prompt", "Hello", "--seed", "3", "--temperature", "1"}));
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_FALSE(first.out.empty());
  EXPECT_EQ(ToValidUtf8(first.out), first.out);
  EXPECT_NE(first.err.find("prompt 5 tokens"), std::string::npos) << first.err;
  EXPECT_NE(first.err.find("generated 60 tokens"), std::string::npos) << first.err;
  EXPECT_NE(first.err.find("selected share"), std::string::npos) << first.err;
  const ProgramResult again =
      RunTaipan(Command(tiny, {"--prompt", "Hello", "--seed", "3", "--temperature", "1", "--threads", "2"}));
  EXPECT_EQ(again.out, first.out);
  EXPECT_NE(RunTaipan(Command(tiny, {"--prompt", "Hello", "--seed", "4", "--temperature", "1"})).out, first.out);
}

TEST(Generate, JsonHoldsWhatThePlainOutputSays) {
  const TinyModelFolder tiny;
  const std::vector<std::string> flags = {"--prompt", "Hello", "--seed", "3", "--top-k", "40"};
  std::vector<std::string> json_flags = flags;
  json_flags.push_back("--json");
  const Json json = Json::parse(RunTaipan(Command(tiny, json_flags)).out);
  EXPECT_EQ(json.at("text").get<std::string>(), RunTaipan(Command(tiny, flags)).out);
  EXPECT_EQ(json.at("tokens").size(), 60u);
  EXPECT_EQ(json.at("prompt_tokens"), 5);
  EXPECT_EQ(json.at("generated_tokens"), 60);
  EXPECT_EQ(json.at("stop_reason"), "max_tokens");
  EXPECT_EQ(json.at("seed"), 3);
  EXPECT_EQ(json.at("selected_share").size(), 1u);
}

TEST(Generate, LogprobsAndBiasReachTheCommand) {
  const TinyModelFolder tiny;
  const std::vector<std::string> flags = {"--prompt", "Hello", "--temperature", "0", "--json", "--logprobs", "2"};
  const Json json = Json::parse(RunTaipan(Command(tiny, flags)).out);
  ASSERT_EQ(json.at("logprobs").size(), 60u);
  for (size_t i = 0; i < 60; ++i) {
    const Json& entry = json.at("logprobs").at(i);
    EXPECT_EQ(entry.at("token"), json.at("tokens").at(i));
    EXPECT_EQ(entry.at("top").at(0).at("token"), entry.at("token"));
    EXPECT_LE(entry.at("top").at(1).at("logprob"), entry.at("logprob"));
  }
  std::vector<std::string> biased = flags;
  biased.insert(biased.end(), {"--logit-bias", "120=500", "--logit-bias", "121=400", "--frequency-penalty", "2"});
  const Json other = Json::parse(RunTaipan(Command(tiny, biased)).out);
  EXPECT_EQ(other.at("text").get<std::string>().substr(0, 50), std::string(50, 'x'));
  ExpectOneLineError(RunTaipan(Command(tiny, {"--logit-bias", "256=1"})), 2, {"--logit-bias", "0 to 255", "256"});
  ExpectOneLineError(RunTaipan(Command(tiny, {"--logit-bias", "x"})), 2, {"--logit-bias", "ID=X"});
  ExpectOneLineError(RunTaipan(Command(tiny, {"--presence-penalty", "3"})), 2, {"--presence-penalty", "from -2 to 2"});
  ExpectOneLineError(RunTaipan(Command(tiny, {"--logprobs", "2"})), 2, {"--logprobs", "--json"});
  EXPECT_NE(
      RunTaipan(Command(tiny, {"--typical-p", "0.5", "--temperature", "0"})).err.find("without effect: --typical-p"),
      std::string::npos);
}

TEST(Generate, APromptMayComeFromAFileOrStandardInput) {
  const TinyModelFolder tiny;
  std::string prompt;
  for (int i = 0; i < 20000; ++i) prompt += static_cast<char>('a' + i * 7 % 26);  // more than one slice of the file
  WriteFileAtomically(tiny / "prompt.txt", prompt);
  const ProgramResult from_file =
      RunTaipan(Command(tiny, {"--prompt-file", tiny / "prompt.txt", "--temperature", "0", "--json"}));
  ASSERT_EQ(from_file.exit_code, 0) << from_file.err;
  EXPECT_EQ(Json::parse(from_file.out).at("prompt_tokens"), 20000);
  const ProgramResult from_flag = RunTaipan(Command(tiny, {"--prompt", prompt, "--temperature", "0", "--json"}));
  EXPECT_EQ(Json::parse(from_flag.out).at("text"), Json::parse(from_file.out).at("text"));
  const ProgramResult piped = RunTaipan(Command(tiny, {"--prompt-file", "-", "--temperature", "0", "--json"}), prompt);
  EXPECT_EQ(Json::parse(piped.out).at("tokens"), Json::parse(from_file.out).at("tokens"));
}

TEST(Generate, AnEmptyPromptStartsFromALineFeedAndARandomSeedIsShown) {
  const TinyModelFolder tiny;
  const ProgramResult result = RunTaipan(Command(tiny, {}));
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_NE(result.err.find("line feed"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("\nseed "), std::string::npos) << result.err;
  const std::vector<std::string> greedy = {"--temperature", "0", "--prompt"};
  auto with = [&](const char* prompt) {
    std::vector<std::string> flags = greedy;
    flags.push_back(prompt);
    return RunTaipan(Command(tiny, flags)).out;
  };
  EXPECT_EQ(with(""), with("\n"));
}

TEST(Generate, RefusesWhatItCannotRead) {
  const TinyModelFolder tiny, tokens_only("97");
  ExpectOneLineError(RunTaipan(Command(tiny, {"--prompt-file", tiny / "none"})), 1, {tiny / "none"});
  ExpectOneLineError(RunTaipan(Command(tiny, {"--prompt-file", tiny.model()})), 1, {tiny.model()});
  ExpectOneLineError(RunTaipan({"generate", "--model", tokens_only.model(), "--prompt", "a", "--seed", "1"}), 1,
                     {tokens_only.model(), "tokenizer"});
  ExpectOneLineError(RunTaipan({"generate", "--model", "taipan-1m", "--seed", "1"}), 1, {"taipan-1m", "taipan init"});
}

// Whether the CPU multiplies bf16 in instructions, as the system says.
bool CpuHasBF16() {
  const std::string cpu = ReadFile("/proc/cpuinfo");
  return cpu.find("avx512_bf16") != std::string::npos || cpu.find("amx_bf16") != std::string::npos;
}

TEST(Generate, ElementTypeFollowsFileAndCpu) {
  const TinyModelFolder tiny;
  const std::string half = tiny / "half";
  ASSERT_EQ(RunTaipan({"convert", tiny.model(), half, "--dtype", "bf16"}).exit_code, 0);
  const std::string fast = CpuHasBF16() ? "bf16" : "f32";
  const auto dtype = [&](const std::vector<std::string>& flags, std::string* err = nullptr) {
    std::vector<std::string> all = {"generate", "--max-tokens", "2", "--seed", "1", "--json"};
    all.insert(all.end(), flags.begin(), flags.end());
    const ProgramResult result = RunTaipan(all);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    if (err != nullptr) *err = result.err;
    return nlohmann::json::parse(result.out).at("dtype").get<std::string>();
  };
  std::string err;
  EXPECT_EQ(dtype({"--model", tiny.model()}), "f32");
  EXPECT_EQ(dtype({"--model", half}, &err), fast);
  EXPECT_EQ(err.find("computes in bf16") != std::string::npos, CpuHasBF16()) << err;
  EXPECT_EQ(dtype({"--model", half, "--dtype", "f32"}, &err), "f32");
  EXPECT_EQ(err.find("computes in"), std::string::npos) << err;
  EXPECT_EQ(dtype({"--model", tiny.model(), "--dtype", "bf16"}), "bf16");
  EXPECT_EQ(dtype({"--model", half, "--isa", "scalar"}), "f32");

  // Log-probabilities stay exact; a text's total follows the rule.
  WriteFileAtomically(tiny / "text", "some text");
  const auto score = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> all = {"score", "--model", half};
    all.insert(all.end(), flags.begin(), flags.end());
    return RunTaipan(all, "[1, 2, 3]").err.find("computes in bf16") != std::string::npos ? "bf16" : "f32";
  };
  EXPECT_EQ(score({"--text", tiny / "text"}), fast);
  EXPECT_EQ(score({"--text", tiny / "text", "--logits", tiny / "l.safetensors"}), std::string("f32"));
  EXPECT_EQ(score({"--tokens", "-"}), std::string("f32"));
}

TEST(Generate, StatisticsBeginALineOfTheirOwn) {
  const TinyModelFolder tiny;
  const std::string command = std::string("\"") + TAIPAN_PROGRAM + "\" generate --model \"" + tiny.model() +
                              "\" --prompt a --max-tokens 3 --temperature 0 >\"" + (tiny / "both") + "\" 2>&1";
  ASSERT_EQ(std::system(command.c_str()), 0);
  const std::string both = ReadFile(tiny / "both");
  const size_t at = both.find("prompt 1 tokens");
  ASSERT_NE(at, std::string::npos) << both;
  EXPECT_EQ(both[at - 1], '\n') << both;
}

}  // namespace
}  // namespace taipan
