// taipan convert, and inspect and score of what it writes.

#include <gtest/gtest.h>

#include "e2e/tiny_model.h"

namespace taipan {
namespace {

constexpr const char* kMamba2Config =
    R"({"model_type": "taipan", "vocab_size": 256, "hidden_size": 32, "layer_pattern": ["mamba2", "mamba2"],
    "head_dim": 16, "state_size": 16, "chunk_size": 32})";

// A Mamba-2 model of bytes.
class Mamba2Folder {
 public:
  Mamba2Folder() {
    WriteFileAtomically(folder_ / "given.json", kMamba2Config);
    const ProgramResult init = RunTaipan({"init", "--config", folder_ / "given.json", "--out", folder_ / "model"});
    if (init.exit_code != 0) throw std::runtime_error(init.err);
    WriteFileAtomically(folder_ / "text.txt", "It was a bright cold day in April, and the clocks were striking.\n");
  }
  std::string operator/(const std::string& name) const { return folder_ / name; }

  // What the model in that folder makes of the text.
  std::string Score(const std::string& name) const {
    const ProgramResult score =
        RunTaipan({"score", "--model", folder_ / name, "--text", folder_ / "text.txt", "--json"});
    EXPECT_EQ(score.exit_code, 0) << score.err;
    return score.out.substr(0, score.out.find("\"tokens_per_second\""));  // what does not depend on time
  }

 private:
  TestFolder folder_;
};

void ExpectConverts(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "convert");
  const ProgramResult result = RunTaipan(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
}

TEST(Convert, EveryFormatScoresTheSame) {
  const Mamba2Folder f;
  ExpectConverts({f / "model", f / "hf", "--to", "hf"});
  ExpectConverts({f / "hf", f / "ssm", "--to", "mamba_ssm"});
  ExpectConverts({f / "ssm", f / "back", "--to", "taipan"});
  EXPECT_EQ(ReadFile(f / "model/model.safetensors"), ReadFile(f / "back/model.safetensors"));
  EXPECT_EQ(ReadFile(f / "model/tokenizer.json"), ReadFile(f / "back/tokenizer.json"));
  ExpectConverts({f / "model", f / "x.gguf"});
  ExpectConverts({f / "x.gguf", f / "from_gguf"});
  const ProgramResult inspect = RunTaipan({"inspect", f / "x.gguf"});
  EXPECT_EQ(inspect.exit_code, 0) << inspect.err;
  EXPECT_NE(inspect.out.find("format: GGUF"), std::string::npos) << inspect.out;
  const ProgramResult hf = RunTaipan({"inspect", f / "hf", "--json"});
  EXPECT_NE(hf.out.find("Mamba-2 (transformers)"), std::string::npos) << hf.out;
  EXPECT_NE(hf.out.find("\"F32\":20"), std::string::npos) << hf.out;
}

TEST(Convert, TokenizersTravelAlong) {
  const Mamba2Folder f;
  ExpectConverts({f / "model", f / "hf", "--to", "hf"});
  EXPECT_EQ(f.Score("model"), f.Score("hf"));
}

// Byte-level BPE into a GGUF file of a model with more rows than tokens, and back.
TEST(Convert, TrainedTokenizersTravelThroughGguf) {
  TestFolder f;
  std::string text;
  for (int i = 0; i < 20; ++i) text += "It was a bright cold day in April, and the clocks were striking thirteen.\n";
  WriteFileAtomically(f / "text.txt", text);
  std::string config = kMamba2Config;
  WriteFileAtomically(f / "given.json", config.replace(config.find("256"), 3, "320"));
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"init", "--config", f / "given.json", "--out", f / "model"},
        {"tokenizer", "train", "--vocab-size", "300", "--data", f / "text.txt", "--out", f / "trained.json",
         "--special-token", "<|endoftext|>"}}) {
    const ProgramResult result = RunTaipan(command);
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }
  WriteFileAtomically(f / "model/tokenizer.json", ReadFile(f / "trained.json"));
  WriteFileAtomically(f / "model/tokenizer_config.json", R"({"eos_token": "<|endoftext|>"})");
  ExpectConverts({f / "model", f / "x.gguf"});
  ExpectConverts({f / "x.gguf", f / "back"});
  const auto ids = [&](const std::string& folder) {
    const ProgramResult encode = RunTaipan({"tokenizer", "encode", "--tokenizer", folder, "--text", f / "text.txt"});
    EXPECT_EQ(encode.exit_code, 0) << encode.err;
    return encode.out;
  };
  EXPECT_EQ(ids(f / "model"), ids(f / "back"));
  ExpectConverts({f / "back", f / "y.gguf"});
  ExpectConverts({f / "y.gguf", f / "again"});
  EXPECT_EQ(ReadFile(f / "back/tokenizer.json"), ReadFile(f / "again/tokenizer.json"));

  WriteFileAtomically(f / "back/tokenizer.json", "{}");
  const ProgramResult without = RunTaipan({"convert", f / "back", f / "z.gguf"});
  EXPECT_EQ(without.exit_code, 0) << without.err;
  EXPECT_NE(without.err.find("the tokenizer stays behind: "), std::string::npos) << without.err;
  EXPECT_NE(without.err.find(", no tokenizer"), std::string::npos) << without.err;
}

// Weights of another program are a beginning like any other.
TEST(Convert, TrainingStartsFromTransformersFolders) {
  const Mamba2Folder f;
  ExpectConverts({f / "model", f / "hf", "--to", "hf"});
  std::string text;
  for (int i = 0; i < 40; ++i) text += "The quick brown fox jumps over the lazy dog.\n";
  WriteFileAtomically(f / "data.txt", text);
  for (const char* start : {"model", "hf"}) {
    const ProgramResult train =
        RunTaipan({"train", "--model", f / start, "--data", f / "data.txt", "--out", f / (std::string(start) + "-run"),
                   "--steps", "2", "--context", "32", "--batch-size", "2", "--learning-rate", "1e-3"});
    ASSERT_EQ(train.exit_code, 0) << train.err;
  }
  EXPECT_EQ(ReadFile(f / "model-run/model/model.safetensors"), ReadFile(f / "hf-run/model/model.safetensors"));
  ExpectConverts({f / "model", f / "x.gguf"});
  ExpectOneLineError(RunTaipan({"train", "--model", f / "x.gguf", "--data", f / "data.txt", "--out", f / "z"}), 1,
                     {"x.gguf", "taipan convert"});
}

TEST(Convert, RefusesWhatCannotBe) {
  const TinyModelFolder tiny;
  ExpectOneLineError(RunTaipan({"convert", tiny.model(), tiny / "hf", "--to", "hf"}), 1,
                     {tiny.model(), "transformers cannot hold this model", "selective_attention"});
  ExpectOneLineError(RunTaipan({"convert", tiny.model(), tiny / "x.gguf"}), 1, {tiny.model(), "GGUF cannot hold"});
  ExpectOneLineError(RunTaipan({"convert", tiny.model(), tiny.model()}), 1, {"not empty", "nothing was written"});
  ExpectOneLineError(RunTaipan({"convert", tiny.model(), tiny / "y", "--to", "gguf"}), 2, {"--to", ".gguf"});
  ExpectOneLineError(RunTaipan({"convert", tiny / "none", tiny / "y"}), 1, {"none", "not a model"});
  ExpectOneLineError(RunTaipan({"convert", tiny.model(), tiny / "y", "--dtype", "q8_0"}), 2, {"q8_0", "--to gguf"});
  for (const char* name : {"hf", "x.gguf", "y"}) EXPECT_FALSE(PathExists(tiny / name)) << name;
  ExpectConverts({tiny.model(), tiny / "half", "--dtype", "bf16"});
  const ProgramResult inspect = RunTaipan({"inspect", tiny / "half"});
  EXPECT_NE(inspect.out.find(" BF16"), std::string::npos) << inspect.out;
}

}  // namespace
}  // namespace taipan
