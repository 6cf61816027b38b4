// taipan score.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

#include "e2e/tiny_model.h"
#include "formats/safetensors.h"

namespace taipan {
namespace {

using Json = nlohmann::json;

std::vector<Json> Lines(const std::string& text) {
  std::vector<Json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
  return lines;
}

TEST(Score, TokensAsJsonWithLogits) {
  const TinyModelFolder tiny;
  const std::string tokens = tiny / "tokens.jsonl", logits_path = tiny / "logits.safetensors";
  WriteFileAtomically(tokens, "[72, 101, 108, 108, 111]\n[9]\n[255,0]");
  const ProgramResult result =
      RunTaipan({"score", "--model", tiny.model(), "--tokens", tokens, "--json", "--logits", logits_path});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::vector<Json> lines = Lines(result.out);
  ASSERT_EQ(lines.size(), 3u);
  const SafetensorsFile file(logits_path);
  const std::vector<std::vector<int>> ids = {{72, 101, 108, 108, 111}, {9}, {255, 0}};
  for (size_t i = 0; i < 3; ++i) {
    const size_t n = ids[i].size();
    EXPECT_EQ(lines[i].at("index"), i);
    EXPECT_EQ(lines[i].at("tokens"), n);
    ASSERT_EQ(lines[i].at("logprobs").size(), n);
    EXPECT_TRUE(lines[i].at("logprobs")[0].is_null());
    const Tensor logits = file.ReadF32(std::to_string(i), {static_cast<int64_t>(n), 256});
    double sum = 0;
    for (size_t t = 1; t < n; ++t) {
      const float* row = logits.F32() + (t - 1) * 256;
      double total = 0;
      for (int v = 0; v < 256; ++v) total += std::exp(static_cast<double>(row[v]));
      const double expected = row[ids[i][t]] - std::log(total);
      // f32 logits below 8 in size: a few units of 2^-23 * 8.
      EXPECT_NEAR(lines[i].at("logprobs")[t].get<double>(), expected, 1e-5);
      sum += lines[i].at("logprobs")[t].get<double>();
    }
    EXPECT_EQ(lines[i].at("sum_logprob").get<double>(), sum);  // f64 survives the way through text
    if (n == 1) {
      EXPECT_EQ(lines[i].at("sum_logprob"), 0.0);
      EXPECT_TRUE(lines[i].at("mean_logprob").is_null());
    } else {
      EXPECT_EQ(lines[i].at("mean_logprob").get<double>(), sum / static_cast<double>(n - 1));
    }
  }
  const ProgramResult piped =
      RunTaipan({"score", "--model", tiny.model(), "--tokens", "-", "--json"}, ReadFile(tokens));
  EXPECT_EQ(piped.out, result.out);
  const ProgramResult table = RunTaipan({"score", "--model", tiny.model(), "--tokens", tokens});
  EXPECT_NE(table.out.find("perplexity"), std::string::npos);
}

TEST(Score, TextTotalsAndBitsPerByte) {
  const TinyModelFolder tiny;
  std::string text;
  for (int i = 0; i < 3000; ++i) text += static_cast<char>('a' + i * i % 26);
  WriteFileAtomically(tiny / "text.txt", text);
  const ProgramResult result = RunTaipan({"score", "--model", tiny.model(), "--text", tiny / "text.txt", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json.at("tokens"), 3000);
  EXPECT_EQ(json.at("scored_tokens"), 2999);
  EXPECT_EQ(json.at("bytes"), 3000);
  const double nll = json.at("nll").get<double>();
  EXPECT_GT(nll, 0);
  EXPECT_NEAR(json.at("nll_per_token").get<double>(), nll / 2999, 1e-12 * nll);
  EXPECT_NEAR(json.at("bits_per_byte").get<double>(), nll / std::log(2.0) / 3000, 1e-12 * nll);
  ASSERT_EQ(json.at("selected_share").size(), 1u);

  std::string ids = "[";
  for (const char c : text) ids += fmt::format("{}{}", ids.size() > 1 ? "," : "", static_cast<int>(c));
  const ProgramResult tokens = RunTaipan({"score", "--model", tiny.model(), "--tokens", "-", "--json"}, ids + "]");
  EXPECT_EQ(Lines(tokens.out).at(0).at("sum_logprob").get<double>(), -nll);
  const ProgramResult table = RunTaipan({"score", "--model", tiny.model(), "--text", "-", "--threads", "1"}, text);
  EXPECT_NE(table.out.find("bits per byte"), std::string::npos) << table.err;
}

TEST(Score, WindowsAndLossByPosition) {
  const TinyModelFolder tiny;
  std::string text;
  for (int i = 0; i < 500; ++i) text += i % 7 == 0 ? ' ' : static_cast<char>('a' + i * i % 26);
  WriteFileAtomically(tiny / "text.txt", text);
  const ProgramResult result = RunTaipan({"score", "--model", tiny.model(), "--text", tiny / "text.txt", "--context",
                                          "64", "--stride", "64", "--svg", tiny / "loss.svg", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json.at("scored_tokens"), 500 - 8);  // the first of each of eight windows has nothing before it
  EXPECT_EQ(json.at("context"), 64);
  EXPECT_EQ(json.at("words"), 72);
  const double nll = json.at("nll").get<double>();
  EXPECT_NEAR(json.at("perplexity").get<double>(), std::exp(nll / 492), 1e-9);
  EXPECT_NEAR(std::log(json.at("word_perplexity").get<double>()), nll / 72, 1e-9);
  EXPECT_NEAR(json.at("byte_perplexity").get<double>(), std::exp(nll / 500), 1e-9);
  double sum = 0;
  int64_t tokens = 0;
  for (const Json& bucket : json.at("by_position")) {
    tokens += bucket.at("tokens").get<int64_t>();
    sum += bucket.at("tokens").get<double>() * bucket.at("nll").get<double>();
  }
  EXPECT_EQ(json.at("by_position").size(), 6u);  // 1, 2-3, ..., 32-63
  EXPECT_EQ(json.at("by_position")[0].at("tokens"), 8);
  EXPECT_EQ(tokens, 492);
  EXPECT_NEAR(sum, nll, 1e-9 * nll);
  EXPECT_EQ(ReadFile(tiny / "loss.svg").rfind("<svg", 0), 0u);

  // Half a window apart unless --stride says otherwise: every token but the first.
  const ProgramResult half =
      RunTaipan({"score", "--model", tiny.model(), "--text", tiny / "text.txt", "--context", "64", "--json"});
  EXPECT_EQ(Json::parse(half.out).at("scored_tokens"), 499);
  EXPECT_EQ(Json::parse(half.out).at("stride"), 32);
}

TEST(Score, PairsAreCutAndScoredAsInTheHarness) {
  const TinyModelFolder tiny;
  // White space that ends a context goes with the continuation; equal contexts apart.
  const std::string pairs = R"({"context": "abc", "continuation": " de"}
{"context": "xy", "continuation": "z"}
{"context": "abc ", "continuation": "de"}
{"context": "abc", "continuation": "q"}
)";
  const ProgramResult result = RunTaipan({"score", "--model", tiny.model(), "--pairs", "-", "--json"}, pairs);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto lines = Lines(result.out);
  ASSERT_EQ(lines.size(), 4u);
  const auto whole =
      Lines(RunTaipan({"score", "--model", tiny.model(), "--tokens", "-", "--json"}, "[97,98,99,32,100,101]").out);
  double expected = 0;
  for (size_t i = 3; i < 6; ++i) expected += whole.at(0).at("logprobs")[i].get<double>();
  EXPECT_NEAR(lines[0].at("sum_logprob").get<double>(), expected, 1e-5);
  EXPECT_EQ(lines[0].at("context_tokens"), 3);
  EXPECT_EQ(lines[0].at("continuation_tokens"), 3);
  EXPECT_EQ(lines[2].at("sum_logprob"), lines[0].at("sum_logprob"));
  EXPECT_EQ(lines[3].at("continuation_tokens"), 1);
  EXPECT_TRUE(lines[1].at("greedy").is_boolean());

  // Blank lines count as lines and are no pairs.
  std::string spaced = "\n" + pairs + " \t\r\n";
  const ProgramResult blanks = RunTaipan({"score", "--model", tiny.model(), "--pairs", "-", "--json"}, spaced);
  EXPECT_EQ(blanks.out, result.out) << blanks.err;
  ExpectOneLineError(RunTaipan({"score", "--model", tiny.model(), "--pairs", "-"}, spaced + "x"), 1, {"line 7"});
  ExpectOneLineError(RunTaipan({"score", "--model", tiny.model(), "--pairs", "-", "--context", "2"}, spaced), 1,
                     {"line 2"});

  // What lies further back than --context is dropped.
  const ProgramResult cut =
      RunTaipan({"score", "--model", tiny.model(), "--pairs", "-", "--context", "3", "--json"}, pairs);
  EXPECT_EQ(Lines(cut.out).at(0).at("context_tokens"), 1);
  ExpectOneLineError(RunTaipan({"score", "--model", tiny.model(), "--pairs", "-", "--context", "2"}, pairs), 1,
                     {"line 1", "--context", "3"});
  EXPECT_NE(RunTaipan({"score", "--model", tiny.model(), "--pairs", "-"}, pairs).out.find("greedy"), std::string::npos);
}

TEST(Score, BadPairsAndFlagsThatDoNotGoTogether) {
  const TinyModelFolder tiny;
  auto refused = [&](const std::string& text, const std::vector<std::string>& parts) {
    ExpectOneLineError(RunTaipan({"score", "--model", tiny.model(), "--pairs", "-"}, text), 1, parts);
  };
  refused("", {"empty"});
  refused("[1]\n", {"line 1"});
  refused("{\"context\": \"a\"}\n", {"line 1", "continuation"});
  refused("{\"context\": \"a\", \"continuation\": 3}\n", {"line 1", "continuation"});
  refused("{\"context\": \"a\", \"continuation\": \"b\"}\n{\"context\": \"a\", \"continuation\": \"\"}\n", {"line 2"});
  refused("{\"context\": \"\", \"continuation\": \"b\"}\n", {"line 1", "BOS"});
  refused("{\"context\": \"a\"", {"line 1"});
  auto usage = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> all = {"score", "--model", tiny.model()};
    all.insert(all.end(), flags.begin(), flags.end());
    EXPECT_EQ(RunTaipan(all, "[1]").exit_code, 2) << flags.back();
  };
  usage({"--text", "-", "--tokens", "-"});
  usage({"--tokens", "-", "--context", "8"});
  usage({"--text", "-", "--stride", "8"});
  usage({"--text", "-", "--context", "8", "--stride", "9"});
  usage({"--pairs", "-", "--by-position"});
  usage({"--text", "-", "--context", "8", "--logits", tiny / "x"});
}

TEST(Score, BadTokensAreNamedByFileAndLine) {
  const TinyModelFolder tiny;
  const std::string path = tiny / "tokens.jsonl", logits = tiny / "logits.safetensors";
  auto expect_refused = [&](const std::string& text, const std::vector<std::string>& parts) {
    WriteFileAtomically(path, text);
    std::vector<std::string> all = parts;
    all.push_back(path);
    ExpectOneLineError(RunTaipan({"score", "--model", tiny.model(), "--tokens", path, "--json", "--logits", logits}), 1,
                       all);
    EXPECT_FALSE(PathExists(logits));
  };
  expect_refused("", {"empty"});
  expect_refused("[1]\n[]\n", {"line 2", "empty"});
  expect_refused("[1, 256]\n", {"line 1", "0 to 255", "256"});
  expect_refused("[1]\n[3]\n[1, -1]\n", {"line 3", "-1"});
  expect_refused("[1.0]\n", {"line 1", "1.0"});
  expect_refused("[1.5]\n", {"line 1", "1.5"});
  expect_refused("[99999999999999999999999]\n", {"line 1"});
  expect_refused("[18446744073709551615]\n", {"line 1", "18446744073709551615"});
  expect_refused("[4294967297]\n", {"line 1", "4294967297"});
  expect_refused("[\"1\"]\n", {"line 1"});
  expect_refused("[true]\n", {"line 1", "true"});
  expect_refused("[null]\n", {"line 1", "null"});
  expect_refused("{\"tokens\": [1]}\n", {"line 1", "array"});
  expect_refused("[1]\n[1, 2\n", {"line 2"});
  expect_refused("[1]\nhello\n", {"line 2"});
  expect_refused("[1]\n\n[2]\n[300]\n", {"line 4"});
  expect_refused("[1] [2]\n", {"line 1"});
  ExpectOneLineError(RunTaipan({"score", "--model", tiny.model(), "--tokens", tiny / "none"}), 1, {tiny / "none"});
}

TEST(Score, BadTextAndMissingTokenizer) {
  const TinyModelFolder tiny, tokens_only("97");
  WriteFileAtomically(tiny / "empty", "");
  ExpectOneLineError(RunTaipan({"score", "--model", tiny.model(), "--text", tiny / "empty"}), 1, {tiny / "empty"});
  ExpectOneLineError(RunTaipan({"score", "--model", tiny.model(), "--text", tiny / "none"}), 1, {tiny / "none"});
  ExpectOneLineError(RunTaipan({"score", "--model", tokens_only.model(), "--text", tiny / "given.json"}), 1,
                     {tokens_only.model(), "tokenizer"});
  EXPECT_EQ(RunTaipan({"score", "--model", tokens_only.model(), "--tokens", "-"}, "[1,96]").exit_code, 0);
  ExpectOneLineError(
      RunTaipan({"score", "--model", tiny.model(), "--tokens", "-", "--logits", "/proc/none/x"}, "[1,2]"), 1,
      {"/proc"});
}

TEST(Score, AFullDiskIsAnError) {
  if (!PathExists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  const TinyModelFolder tiny;
  const std::string command = std::string("\"") + TAIPAN_PROGRAM + "\" score --model \"" + tiny.model() +
                              "\" --text \"" + (tiny / "given.json") + "\" >/dev/full 2>\"" + (tiny / "err") + "\"";
  const int status = std::system(command.c_str());
  EXPECT_EQ(status >> 8, 1);
  EXPECT_NE(ReadFile(tiny / "err").find("standard output"), std::string::npos);
}

TEST(Score, OnlyTextIsText) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "a.png", std::string("\x89PNG\r\n\x1a\n\0\0", 10));
  WriteFileAtomically(tiny / "u.txt", std::string("\xff\xfeH\0i\0", 6));
  ExpectOneLineError(RunTaipan({"score", "--model", tiny.model(), "--text", tiny / "a.png"}), 1,
                     {"a.png: looks like a PNG image, expected UTF-8 text"});
  ExpectOneLineError(RunTaipan({"score", "--model", tiny.model(), "--text", tiny / "u.txt"}), 1, {"UTF-16 text"});
  ExpectOneLineError(RunTaipan({"score", "--model", tiny.model(), "--text", "-"}, ReadFile(tiny / "u.txt")), 1,
                     {"standard input: looks like UTF-16 text"});
}

TEST(Score, PromptsInBracketsAreText) {
  const TinyModelFolder tiny;
  const auto generate = [&](const std::string& prompt) {
    return RunTaipan({"generate", "--model", tiny.model(), "--prompt", prompt, "--max-tokens", "1", "--json"});
  };
  for (const char* prompt : {"[INST] x", "[INST]", "[a,b]", "[]"}) {
    const ProgramResult result = generate(prompt);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(Json::parse(result.out)["prompt_tokens"], std::string(prompt).size()) << prompt;
  }
}

}  // namespace
}  // namespace taipan
