// What a command takes for a model: files and folders that lead to one, tensors that another program added.

#include <gtest/gtest.h>

#include <filesystem>

#include "e2e/tiny_model.h"
#include "formats/safetensors.h"

namespace taipan {
namespace {

constexpr const char* kMamba2Config =
    R"({"model_type": "taipan", "vocab_size": 256, "hidden_size": 32, "layer_pattern": ["mamba2"], "head_dim": 16,
    "state_size": 16, "chunk_size": 32})";

ProgramResult RunOn(const std::string& model, const std::string& text, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"score", "--model", model, "--text", text, "--json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  ProgramResult result = RunTaipan(arguments);
  result.out = result.out.substr(0, result.out.find("\"tokens_per_second\""));  // what does not depend on time
  return result;
}

TEST(ModelPathOfCommands, TheSameModelByManyNames) {
  const TestFolder f;
  WriteFileAtomically(f / "given.json", kMamba2Config);
  WriteFileAtomically(f / "text.txt", "It was a bright cold day in April.\n");
  ASSERT_EQ(RunTaipan({"init", "--config", f / "given.json", "--out", f / "m"}).exit_code, 0);
  ASSERT_EQ(RunTaipan({"convert", f / "m", f / "m.gguf"}).exit_code, 0);
  for (const char* folder : {"one", "hub/models--a--b/snapshots/11", "hub/models--a--b/blobs"})
    MakeDirectories(f / folder);
  std::filesystem::copy(f / "m.gguf", f / "hub/models--a--b/blobs/sha256-22");
  std::filesystem::copy(f / "m.gguf", f / "one/M.GGUF");
  std::filesystem::create_symlink("../../blobs/sha256-22", f / "hub/models--a--b/snapshots/11/m.gguf");
  std::filesystem::create_symlink(f / "m", f / "link");
  const ProgramResult folder = RunOn(f / "m", f / "text.txt"), gguf = RunOn(f / "m.gguf", f / "text.txt");
  ASSERT_EQ(folder.exit_code, 0) << folder.err;
  ASSERT_EQ(gguf.exit_code, 0) << gguf.err;
  for (const char* name : {"m/", "link", "link/", "m/config.json", "m/model.safetensors"}) {
    EXPECT_EQ(RunOn(f / name, f / "text.txt").out, folder.out) << name;
  }
  for (const char* name : {"one", "one/M.GGUF", "hub/models--a--b", "hub/models--a--b/blobs/sha256-22"}) {
    const ProgramResult result = RunOn(f / name, f / "text.txt");
    EXPECT_EQ(result.out, gguf.out) << name << ": " << result.err;
  }
  const std::string root = f / "hub/models--a--b";
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
           {"inspect", root},
           {"generate", "--model", root, "--prompt", "It", "--max-tokens", "2"},
           {"convert", root, f / "converted"},
           {"bench", "decode", "--model", root, "--context", "8", "--tokens", "2", "--runs", "1", "--no-roof"}}) {
    const ProgramResult result = RunTaipan(command);
    EXPECT_EQ(result.exit_code, 0) << command[0] << ": " << result.err;
    EXPECT_NE(result.err.find("reads " + root + "/snapshots/11/m.gguf"), std::string::npos) << result.err;
  }
  EXPECT_TRUE(PathExists(f / "converted/tokenizer.json"));
  ExpectOneLineError(RunTaipan({"score", "--model", f / "text.txt", "--text", f / "text.txt"}), 1,
                     {"text.txt", "not a model", "another file"});
}

TEST(ModelPathOfCommands, IgnoreExtraIsAFlagOfAll) {
  const TinyModelFolder f;
  const SafetensorsFile file(f.model() + "/model.safetensors");
  std::vector<SafetensorsItem> items;
  std::vector<Tensor> values;
  for (const std::string& name : file.Names()) values.push_back(file.ReadF32(name, file.Stored(name).shape));
  for (size_t i = 0; i < values.size(); ++i) {
    items.push_back({file.Names()[i], DType::kF32, values[i].shape(), values[i].data()});
  }
  items.push_back({"score.weight", DType::kF32, {2}, values[0].data()});
  MakeDirectories(f / "extra");
  for (const char* name : {"config.json", "tokenizer.json"}) {
    WriteFileAtomically(f / ("extra/" + std::string(name)), ReadFile(f.model() + "/" + name));
  }
  WriteSafetensors(f / "extra/model.safetensors", items);
  WriteFileAtomically(f / "text.txt", std::string(400, 'a'));
  const std::string model = f / "extra";
  for (std::vector<std::string> command : std::vector<std::vector<std::string>>{
           {"inspect", model, "--json"},
           {"score", "--model", model, "--text", f / "text.txt", "--json"},
           {"generate", "--model", model, "--prompt", "It", "--max-tokens", "2"},
           {"convert", model, f / "converted"},
           {"bench", "decode", "--model", model, "--context", "8", "--tokens", "2", "--runs", "1", "--no-roof"},
           {"train", "--model", model, "--data", f / "text.txt", "--out", f / "run", "--steps", "1", "--context", "16",
            "--batch-size", "1"}}) {
    const ProgramResult refused = RunTaipan(command);
    EXPECT_EQ(refused.exit_code, 1) << command[0];
    EXPECT_NE(refused.err.find("\"score.weight\" (--ignore-extra loads the rest)"), std::string::npos) << refused.err;
    command.push_back("--ignore-extra");
    const ProgramResult result = RunTaipan(command);
    EXPECT_EQ(result.exit_code, 0) << command[0] << ": " << result.err;
    EXPECT_NE(result.err.find("left out 1 tensor that the config does not have"), std::string::npos) << result.err;
  }
}

}  // namespace
}  // namespace taipan
