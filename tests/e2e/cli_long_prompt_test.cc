// Long prompts: loss by position while they are read, going on where a run stopped, and what does not fit into memory.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

#include "e2e/tiny_model.h"

namespace taipan {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

std::string Text(int64_t bytes) {
  std::string text;
  for (int64_t i = 0; i < bytes; ++i) text += static_cast<char>('a' + (i * i / 7 + i % 5) % 26);
  return text;
}

ProgramResult Generate(const TinyModelFolder& tiny, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"generate", "--model", tiny.model(), "--temperature",
                                        "0",        "--json",  "--dtype",    "f32"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunTaipan(arguments);
}

struct Rows {
  int64_t next = 1;  // position behind the last row; rows follow each other
  int64_t count = 0;
  double nll = 0;
};
Rows ReadRows(const std::string& path) {
  Rows rows;
  std::istringstream lines(ReadFile(path));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("from,")) continue;
    Json row;
    if (line.starts_with('{')) {
      row = Json::parse(line);
    } else {
      double nll = 0;
      long from = 0, to = 0;
      EXPECT_EQ(std::sscanf(line.c_str(), "%ld,%ld,%lf,", &from, &to, &nll), 3) << line;
      row = {{"from", from}, {"to", to}, {"nll", nll}};
    }
    EXPECT_EQ(row.at("from"), rows.next);
    rows.next = row.at("to").get<int64_t>() + 1;
    rows.nll += row.at("nll").get<double>() * static_cast<double>(rows.next - row.at("from").get<int64_t>());
    ++rows.count;
  }
  return rows;
}

TEST(LongPrompt, LossByPositionIsThatOfScore) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "text", Text(3000));
  const ProgramResult score =
      RunTaipan({"score", "--model", tiny.model(), "--text", tiny / "text", "--json", "--dtype", "f32"});
  ASSERT_EQ(score.exit_code, 0) << score.err;
  const double nll = Json::parse(score.out).at("nll");
  EXPECT_EQ(Json::parse(score.out).at("scored_tokens"), 2999);
  for (const char* name : {"loss.csv", "loss.jsonl"}) {
    const ProgramResult run = Generate(
        tiny, {"--prompt-file", tiny / "text", "--max-tokens", "3", "--loss", tiny / name, "--loss-every", "500"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Rows rows = ReadRows(tiny / name);
    EXPECT_EQ(rows.count, 6);
    EXPECT_EQ(rows.next, 3000);
    EXPECT_NEAR(rows.nll, nll, 1e-4 * nll);
  }
}

TEST(LongPrompt, GoesOnWhereItStopped) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "whole", Text(3000));
  WriteFileAtomically(tiny / "half", Text(1536));  // as far as a run that was stopped had read
  WriteFileAtomically(tiny / "other", "x" + Text(3000));
  const ProgramResult once =
      Generate(tiny, {"--prompt-file", tiny / "whole", "--max-tokens", "8", "--loss", tiny / "once.csv"});
  const ProgramResult first = Generate(tiny, {"--prompt-file", tiny / "half", "--max-tokens", "0", "--loss",
                                              tiny / "loss.csv", "--save-state", tiny / "state", "--forget-tokens"});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_EQ(ReadRows(tiny / "loss.csv").next, 1536);
  const ProgramResult second = Generate(tiny, {"--prompt-file", tiny / "whole", "--max-tokens", "8", "--loss",
                                               tiny / "loss.csv", "--load-state", tiny / "state", "--resume"});
  ASSERT_EQ(second.exit_code, 0) << second.err;
  const Json a = Json::parse(once.out), b = Json::parse(second.out);
  EXPECT_EQ(b.at("restored_tokens"), 1536);
  EXPECT_EQ(b.at("prompt_tokens"), 3000 - 1536);
  EXPECT_EQ(b.at("tokens"), a.at("tokens"));
  EXPECT_EQ(ReadRows(tiny / "loss.csv").next, 3000);
  EXPECT_NEAR(ReadRows(tiny / "loss.csv").nll, ReadRows(tiny / "once.csv").nll, 0.05);
  ExpectOneLineError(Generate(tiny, {"--prompt-file", tiny / "other", "--load-state", tiny / "state", "--resume"}), 1,
                     {"the state has read another text"});
  ExpectOneLineError(Generate(tiny, {"--prompt-file", tiny / "whole", "--resume"}), 2, {"--load-state"});
}

TEST(LongPrompt, SavesWhileItReads) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "text", Text(200'000));
  const ProgramResult run =
      Generate(tiny, {"--prompt-file", tiny / "text", "--max-tokens", "0", "--loss", tiny / "loss.csv", "--save-state",
                      tiny / "state", "--save-every", "60000"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(ReadRows(tiny / "loss.csv").next, 200'000);
  EXPECT_GT(ReadRows(tiny / "loss.csv").count, 200) << "a row ends where a state was saved";
}

// A transformer's memory grows: what cannot fit is refused before anything is loaded, with the plan.
TEST(LongPrompt, WhatDoesNotFitIsRefusedWithAPlan) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers map terabytes";
#endif
  const TinyModelFolder tiny;
  std::string config = TinyConfigText();
  for (size_t at; (at = config.find("selective_attention")) != config.npos;) config.replace(at, 19, "attention");
  WriteFileAtomically(tiny / "full.json", config);
  const ProgramResult init = RunTaipan({"init", "--config", tiny / "full.json", "--out", tiny / "full"});
  ASSERT_EQ(init.exit_code, 0) << init.err;
  WriteFileAtomically(tiny / "text", std::string(12'000'000, 'x'));
  const auto run = [&](const std::string& arguments) {
    const std::string command = fmt::format("cd {}; ulimit -c 0 -v 2000000; {} {} --model full >out 2>err", tiny / "",
                                            TAIPAN_PROGRAM, arguments);
    return WEXITSTATUS(std::system(("bash -c '" + command + "'").c_str()));
  };
  EXPECT_EQ(run("generate --prompt-file text --kv-dtype f32"), 1);
  const std::string err = ReadFile(tiny / "err");
  EXPECT_THAT(err, HasSubstr("text: 12,000,000 tokens do not fit into memory, expected at most "));
  EXPECT_THAT(err, HasSubstr("keys and values 2.9 GiB in f32, scratch "));
  EXPECT_THAT(err, HasSubstr("tokens fit, more with --kv-dtype int8"));
  EXPECT_EQ(run("score --text text --dtype f32"), 1);
  EXPECT_THAT(ReadFile(tiny / "err"), HasSubstr("text: 12,000,000 tokens do not fit into memory"));
}

TEST(LongPrompt, KeysAsIntegers) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "text", Text(2000));
  const auto nll = [&](const char* kv) {
    const ProgramResult run = RunTaipan(
        {"score", "--model", tiny.model(), "--text", tiny / "text", "--json", "--dtype", "f32", "--kv-dtype", kv});
    EXPECT_EQ(run.exit_code, 0) << run.err;
    return Json::parse(run.out).at("nll_per_token").get<double>();
  };
  EXPECT_NE(nll("int8"), nll("f32"));
  EXPECT_NEAR(nll("int8"), nll("f32"), 1e-3);
  EXPECT_EQ(nll("auto"), nll("f32"));
  EXPECT_EQ(Generate(tiny, {"-p", "abc", "--kv-dtype", "int8", "--save-state", tiny / "state"}).exit_code, 0);
  EXPECT_EQ(Generate(tiny, {"--kv-dtype", "int8", "--load-state", tiny / "state"}).exit_code, 0);
  ExpectOneLineError(Generate(tiny, {"--load-state", tiny / "state"}), 1, {"expected f32, found I8", "--kv-dtype"});
}

}  // namespace
}  // namespace taipan
