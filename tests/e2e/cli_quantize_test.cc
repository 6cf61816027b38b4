// taipan quantize, and what other commands make of its output.

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "e2e/tiny_model.h"

namespace taipan {
namespace {

constexpr const char* kMamba2Config =
    R"({"model_type": "taipan", "vocab_size": 256, "hidden_size": 64, "layer_pattern": ["mamba2", "mamba2"],
    "head_dim": 16, "state_size": 16, "chunk_size": 32})";
constexpr const char* kTaipanConfig =
    R"({"model_type": "taipan", "vocab_size": 256, "hidden_size": 64, "layer_pattern": ["mamba2", "selective_attention"],
    "head_dim": 16, "state_size": 16, "chunk_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
    "attention_head_dim": 16, "intermediate_size": 96, "sliding_window": 32})";

class Quantize : public testing::Test {
 protected:
  void Init(const char* config) {
    WriteFileAtomically(folder_ / "given.json", config);
    const ProgramResult init = RunTaipan({"init", "--config", folder_ / "given.json", "--out", folder_ / "model"});
    ASSERT_EQ(init.exit_code, 0) << init.err;
    WriteFileAtomically(folder_ / "text.txt", "It was a bright cold day in April, and the clocks were striking.\n");
  }
  ProgramResult Run(const std::string& out, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"quantize", folder_ / "model", folder_ / out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTaipan(arguments);
  }
  // Every command that runs a model reads it, and says how.
  void ExpectRuns(const std::string& out) {
    const ProgramResult score =
        RunTaipan({"score", "--model", folder_ / out, "--text", folder_ / "text.txt", "--json"});
    EXPECT_EQ(score.exit_code, 0) << score.err;
    EXPECT_NE(score.err.find("runs quantized weights as they are stored"), std::string::npos) << score.err;
    const ProgramResult generate =
        RunTaipan({"generate", "--model", folder_ / out, "--prompt", "It was", "--max-tokens", "8"});
    EXPECT_EQ(generate.exit_code, 0) << generate.err;
    EXPECT_EQ(RunTaipan({"inspect", folder_ / out}).exit_code, 0);
  }
  TestFolder folder_;
};

TEST_F(Quantize, AFolderOfOurOwn) {
  Init(kTaipanConfig);
  const ProgramResult result =
      Run("out", {"--type", "q4_k", "--keep", "in_proj=q8_0", "--text", folder_ / "text.txt", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json json = nlohmann::json::parse(result.out);
  EXPECT_LT(json["bytes_after"].get<double>(), 0.25 * json["bytes_before"].get<double>());
  for (const auto& tensor : json["tensors"]) {
    const std::string name = tensor["name"];
    const bool in_proj = name.find("in_proj") != std::string::npos, head = name == "model.embeddings.weight";
    EXPECT_EQ(tensor["type"], in_proj || head ? "Q8_0" : "IQ4_NL") << name;  // rows of 64 hold no block of 256
    EXPECT_GT(tensor["relative_error"].get<double>(), 1e-3) << name;
    EXPECT_LT(tensor["relative_error"].get<double>(), in_proj || head ? 0.01 : 0.1) << name;
  }
  EXPECT_EQ(json["text"]["scored_tokens"], 64);
  EXPECT_GT(json["text"]["kl_mean"].get<double>(), 0);
  EXPECT_LT(json["text"]["kl_mean"].get<double>(), 0.05);
  EXPECT_GT(json["text"]["same_top"].get<double>(), 0.7);
  ExpectRuns("out");
  const ProgramResult decoded =
      RunTaipan({"generate", "--model", folder_ / "out", "--dtype", "f32", "--prompt", "It was", "--max-tokens", "8"});
  EXPECT_EQ(decoded.exit_code, 0) << decoded.err;
  const ProgramResult bench = RunTaipan({"bench", "decode", "--model", folder_ / "out", "--tokens", "4", "--runs", "1",
                                         "--warmup", "0", "--no-roof", "--json"});
  ASSERT_EQ(bench.exit_code, 0) << bench.err;
  const nlohmann::json report = nlohmann::json::parse(bench.out);
  EXPECT_TRUE(report["weights"].contains("IQ4_NL")) << bench.out;
  EXPECT_GT(report["bytes_per_token"].get<double>(), report["weights"]["IQ4_NL"].get<double>());
}

TEST_F(Quantize, AGgufFile) {
  Init(kMamba2Config);
  const ProgramResult result = Run("out.gguf", {"--type", "Q4_0"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.out.find("mamba2 in_proj"), std::string::npos) << result.out;
  ExpectRuns("out.gguf");
  const ProgramResult again = Run("out.gguf", {"--type", "q4_0"});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_NE(again.err.find("exists already"), std::string::npos) << again.err;
}

// Long enough to calibrate with.
std::string Book() {
  std::string text;
  for (int i = 0; i < 60; ++i)
    text += fmt::format("It was day {} in April, and {} clocks were striking.\n", i, i * i % 17);
  return text;
}

// Rows of rotating pairs have another order in GGUF files, and take their blocks along.
TEST_F(Quantize, CalibratedOnAText) {
  Init(R"({"model_type": "taipan", "vocab_size": 256, "hidden_size": 64, "layer_pattern": ["attention", "attention"],
    "num_attention_heads": 4, "num_key_value_heads": 2, "attention_head_dim": 16, "intermediate_size": 96, "rope_theta": 10000})");
  WriteFileAtomically(folder_ / "book.txt", Book());
  for (const std::string out : {"out", "out.gguf"}) {
    const ProgramResult result = Run(out, {"--type", "q4_0", "--calibrate", folder_ / "book.txt", "--text",
                                           folder_ / "book.txt", "--context", "128", "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const nlohmann::json json = nlohmann::json::parse(result.out);
    for (const auto& tensor : json["tensors"]) EXPECT_LT(tensor["relative_error"].get<double>(), 0.2) << tensor["name"];
    const ProgramResult plain =
        Run("plain-" + out, {"--type", "q4_0", "--text", folder_ / "book.txt", "--context", "128", "--json"});
    ASSERT_EQ(plain.exit_code, 0) << plain.err;
    const nlohmann::json uncalibrated = nlohmann::json::parse(plain.out);
    EXPECT_LT(json["text"]["kl_mean"].get<double>(), 0.6 * uncalibrated["text"]["kl_mean"].get<double>()) << out;
    ExpectRuns(out);
  }
}

TEST_F(Quantize, TextsThatCannotCalibrateAreRefused) {
  Init(kMamba2Config);
  WriteFileAtomically(folder_ / "empty.txt", "");
  WriteFileAtomically(folder_ / "short.txt", Book().substr(0, 1000));
  WriteFileAtomically(folder_ / "book.txt", Book());
  const auto refused = [&](const std::string& file, const std::vector<std::string>& parts) {
    const ProgramResult result = Run("out", {"--type", "q4_0", "--calibrate", folder_ / file});
    ExpectOneLineError(result, 1, parts);
    EXPECT_FALSE(PathExists(folder_ / "out"));
  };
  refused("none.txt", {"none.txt"});
  refused("empty.txt", {"empty.txt", "too short to calibrate with", "at least 1024 tokens", "found 0"});
  refused("short.txt", {"short.txt", "too short to calibrate with", "found 1000"});
  RemoveTree(folder_ / "model/tokenizer.json");
  refused("book.txt", {"tokenizer"});
}

TEST_F(Quantize, WhatCannotBeIsRefused) {
  Init(kTaipanConfig);
  const auto refused = [&](std::vector<std::string> more, const std::string& out, const std::string& message) {
    const ProgramResult result = Run(out, std::move(more));
    EXPECT_NE(result.exit_code, 0);
    EXPECT_NE(result.err.find(message), std::string::npos) << result.err;
    EXPECT_FALSE(PathExists(folder_ / out));
  };
  refused({"--type", "q3"}, "out", "--type: unknown type, expected q8_0, q4_0");
  refused({"--type", "q8_0", "--keep", "head"}, "out", "--keep: no rule, expected PATTERN=TYPE");
  refused({"--type", "q8_0", "--keep", "head=q1"}, "out", "--keep: unknown type, expected f32, f16, bf16, q8_0");
  refused({"--type", "q8_0"}, "out.gguf", "");  // llama.cpp has no such architecture
}

}  // namespace
}  // namespace taipan
