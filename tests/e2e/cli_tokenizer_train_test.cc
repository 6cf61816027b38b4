// taipan tokenizer train.

#include <gtest/gtest.h>

#include "base/files.h"
#include "base/test_folder.h"
#include "e2e/run_program.h"

namespace taipan {
namespace {

TEST(TokenizerTrainCommand, WritesATokenizerThatEncodes) {
  TestFolder folder;
  WriteFileAtomically(folder / "a.txt", "the cat and the hat\nthe rat and the bat\n");
  const auto train = [&](const std::string& size, const std::string& out) {
    return RunTaipan({"tokenizer", "train", "--vocab-size", size, "--data", folder / "a.txt", "--out", out,
                      "--special-token", "<|end|>"});
  };
  ASSERT_EQ(train("265", folder / "t").exit_code, 0);
  ASSERT_EQ(train("265", folder / "t.json").exit_code, 0);
  EXPECT_EQ(ReadFile(folder / "t/tokenizer.json"), ReadFile(folder / "t.json"));
  const std::vector<std::string> encode = {"tokenizer", "encode", "--tokenizer",    folder / "t",
                                           "--text",    "-",      "--parse-special"};
  EXPECT_EQ(RunTaipan(encode, "<|end|>!").out, "[0, 1]\n");
  EXPECT_EQ(RunTaipan(encode, " the the").out.find(','), RunTaipan(encode, " the the").out.rfind(','));  // two tokens

  ExpectOneLineError(train("256", folder / "t"), 2, {"--vocab-size", "at least 257"});
  ExpectOneLineError(
      RunTaipan({"tokenizer", "train", "--vocab-size", "300", "--data", folder / "none", "--out", folder / "t"}), 1,
      {folder / "none", "no such file"});
}

}  // namespace
}  // namespace taipan
