// taipan init, and what becomes of damaged model folders.

#include <gtest/gtest.h>

#include <cstdlib>

#include "e2e/tiny_model.h"

namespace taipan {
namespace {

TEST(Init, WritesAModelFolderOnlyItsSeedDecides) {
  const TinyModelFolder a("256", "7"), b("256", "7"), c("256", "8");
  EXPECT_EQ(ListDirectory(a.model()), (std::vector<std::string>{"config.json", "model.safetensors", "tokenizer.json"}));
  for (const std::string& name : ListDirectory(a.model())) {
    EXPECT_EQ(ReadFile(a.model() + "/" + name), ReadFile(b.model() + "/" + name)) << name;
  }
  EXPECT_NE(ReadFile(a.model() + "/model.safetensors"), ReadFile(c.model() + "/model.safetensors"));
  const TinyModelFolder other_vocabulary("97");
  EXPECT_FALSE(PathExists(other_vocabulary.model() + "/tokenizer.json"));
  const ProgramResult inspect = RunTaipan({"inspect", a.model()});
  EXPECT_EQ(inspect.exit_code, 0) << inspect.err;
}

TEST(Init, TakesAPresetAndAVocabulary) {
  const TestFolder folder;
  const ProgramResult result =
      RunTaipan({"init", "--preset", "mamba2-1m", "--vocab-size", "300", "--out", folder / "new/model/"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(ReadFile(folder / "new/model/config.json").find("\"vocab_size\": 300"), std::string::npos);
  ExpectOneLineError(RunTaipan({"init", "--preset", "mamba-1m", "--out", folder / "x"}), 1, {"mamba-1m", "mamba2-1m"});
  EXPECT_FALSE(PathExists(folder / "x"));
}

TEST(Init, OverwritesNothing) {
  const TinyModelFolder tiny;
  const std::string before = ReadFile(tiny.model() + "/model.safetensors");
  ExpectOneLineError(RunTaipan({"init", "--preset", "taipan-1m", "--out", tiny.model()}), 1,
                     {tiny.model(), "not empty"});
  EXPECT_EQ(ReadFile(tiny.model() + "/model.safetensors"), before);
  ExpectOneLineError(RunTaipan({"init", "--preset", "taipan-1m", "--out", tiny / "given.json"}), 1, {"given.json"});
  EXPECT_EQ(ReadFile(tiny / "given.json"), TinyConfigText());
}

TEST(Init, LeavesNothingWhereItCannotWrite) {
  const TinyModelFolder tiny;
  ExpectOneLineError(RunTaipan({"init", "--config", tiny / "given.json", "--out", "/proc/taipan/model"}), 1,
                     {"/proc/"});
  // A file in the place of the parent folder.
  ExpectOneLineError(RunTaipan({"init", "--config", tiny / "given.json", "--out", tiny / "given.json/model"}), 1,
                     {"given.json"});
}

// What a full disk does: the limit is far below the size of the weights.
TEST(Init, LeavesNothingWhereTheFileSystemIsFull) {
  const TestFolder folder;
  const std::string command = fmt::format("ulimit -f 100; \"{}\" init --preset taipan-1m --out \"{}\" 2>\"{}\"",
                                          TAIPAN_PROGRAM, folder / "model", folder / "err");
  EXPECT_EQ(std::system(command.c_str()) >> 8, 1);
  EXPECT_TRUE(ReadFile(folder / "err").starts_with("taipan: error: ")) << ReadFile(folder / "err");
  EXPECT_EQ(ListDirectory(folder.path()), std::vector<std::string>{"err"});
}

TEST(Init, RefusesBadConfigs) {
  const TestFolder folder;
  const std::string path = folder / "config.json";
  auto expect_refused = [&](const std::string& text, const std::vector<std::string>& parts) {
    WriteFileAtomically(path, text);
    std::vector<std::string> all = parts;
    all.push_back(path);
    ExpectOneLineError(RunTaipan({"init", "--config", path, "--out", folder / "out"}), 1, all);
    EXPECT_EQ(ListDirectory(folder.path()), std::vector<std::string>{"config.json"});
  };
  auto replaced = [](const std::string& from, const std::string& to) {
    std::string text = TinyConfigText();
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  expect_refused("", {});
  expect_refused("{\"model_type\": \"taipan\"", {});
  expect_refused("[1]", {});
  expect_refused(replaced("sliding_window", "sliding_windov"), {"sliding_windov", "sliding_window"});
  expect_refused(replaced("\"hidden_size\": 32, ", ""), {"hidden_size"});
  expect_refused(replaced("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3"), {"num_key_value_heads", "3"});
  expect_refused(replaced("\"head_dim\": 16", "\"head_dim\": 15"), {"head_dim", "15"});
  expect_refused(replaced("\"sliding_window\": 48", "\"sliding_window\": 0"), {"sliding_window", "0"});
  expect_refused(replaced("[\"mamba2\", \"selective_attention\", \"mamba2\"]", "[]"), {"layer_pattern"});
  expect_refused(replaced("\"mamba2\"", "\"mamba3\""), {"mamba3"});
  expect_refused(replaced("\"hidden_size\": 32", "\"hidden_size\": \"32\""), {"hidden_size"});
}

// What a user meets when a download broke off or files were mixed up.
TEST(ModelFolder, DamageIsNamed) {
  const TinyModelFolder tiny;
  const TestFolder folder;
  const std::string weights = folder / "model.safetensors", config = folder / "config.json";
  const std::string good = ReadFile(tiny.model() + "/model.safetensors");
  auto expect_refused = [&](const std::vector<std::string>& parts) {
    for (const char* command : {"score", "generate"}) {
      std::vector<std::string> arguments = {command, "--model", folder.path()};
      if (command == std::string("score")) arguments.insert(arguments.end(), {"--text", tiny / "given.json"});
      ExpectOneLineError(RunTaipan(arguments), 1, parts);
    }
    ExpectOneLineError(RunTaipan({"inspect", folder.path()}), 1, {folder.path()});
  };
  ExpectOneLineError(RunTaipan({"score", "--model", folder / "none", "--text", tiny / "given.json"}), 1,
                     {folder / "none"});
  ExpectOneLineError(RunTaipan({"generate", "--model", tiny / "given.json"}), 1, {"given.json", "folder"});
  expect_refused({folder.path(), "config.json"});
  WriteFileAtomically(config, ReadFile(tiny.model() + "/config.json"));
  expect_refused({folder.path() + ": no weights", "model.safetensors"});
  WriteFileAtomically(weights, "");
  expect_refused({weights});
  WriteFileAtomically(weights, good.substr(0, good.size() / 2));
  expect_refused({weights});
  WriteFileAtomically(weights, std::string(4096, '\xff'));
  expect_refused({weights});
  WriteFileAtomically(weights, good + "x");
  expect_refused({weights});
  WriteFileAtomically(config, TinyConfigText("200"));
  WriteFileAtomically(weights, good);
  expect_refused({weights});
}

}  // namespace
}  // namespace taipan
