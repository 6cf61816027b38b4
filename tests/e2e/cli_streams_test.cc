// Standard streams that are closed, full or read by nobody: messages that cannot be written end no work, results that
// cannot be written are exit code 1 after everything else.

#include <gtest/gtest.h>

#include <cstdlib>

#include "e2e/tiny_model.h"

namespace taipan {
namespace {

const char* const kUnwritable[] = {"2>/dev/full", "2>&-", "2>&1 >/dev/null | true", "<&- 2>&-"};

class Streams : public testing::Test {
 protected:
  Streams() {
    std::string text;
    for (int i = 0; i < 200; ++i) text += "the number " + std::to_string(i) + " follows\n";
    WriteFileAtomically(tiny_ / "text.txt", text);
    WriteFileAtomically(tiny_ / "valid.txt", text.substr(0, 3000));
  }
  // Exit code of `taipan ARGUMENTS REDIRECTIONS` in a shell; in a pipeline that of taipan.
  int Taipan(const std::string& arguments, const std::string& redirections) const {
    const std::string command = fmt::format("cd {}; set -o pipefail; OMP_NUM_THREADS=1 {} {} {}", tiny_ / "",
                                            TAIPAN_PROGRAM, arguments, redirections);
    const int status = std::system(("bash -c '" + command + "'").c_str());
    return WEXITSTATUS(status);
  }
  std::string Train(const std::string& run, const std::string& model = "given.json") const {
    return "train --model " + model +
           " --data text.txt --valid-data valid.txt --valid-every 1 --sample-every 1 "
           "--sample-tokens 4 --steps 3 --context 32 --batch-size 2 --out " +
           run;
  }

  TinyModelFolder tiny_;
};

TEST_F(Streams, MessagesThatCannotBeWrittenEndNoTraining) {
  ASSERT_EQ(Taipan(Train("straight"), "2>/dev/null"), 0);
  int number = 0;
  for (const std::string streams : kUnwritable) {
    const std::string run = "run" + std::to_string(number++);
    EXPECT_EQ(Taipan(Train(run), streams), 0) << streams;
    for (const std::string file : {"model/config.json", "model/model.safetensors", "data.json"}) {
      EXPECT_EQ(ReadFile(tiny_ / (run + "/" + file)), ReadFile(tiny_ / ("straight/" + file))) << streams << file;
    }
  }
}

TEST_F(Streams, MessagesThatCannotBeWrittenEndNoCommand) {
  int number = 0;
  for (const std::string streams : kUnwritable) {
    const std::string out = "out" + std::to_string(number++);
    EXPECT_EQ(Taipan("init --preset mamba2-1m --out " + out, streams), 0) << streams;
    EXPECT_EQ(Taipan("convert " + out + " " + out + ".gguf", streams), 0) << streams;
    EXPECT_EQ(Taipan("generate --model model --prompt x --max-tokens 3 >" + out + ".txt", streams), 0) << streams;
    EXPECT_EQ(Taipan("tokenizer train --vocab-size 260 --data text.txt --out " + out + ".json", streams), 0) << streams;
    EXPECT_EQ(Taipan("score --model model --text text.txt >" + out + ".score", streams), 0) << streams;
    EXPECT_EQ(Taipan("score --model nothing --text text.txt", streams), 1) << streams;
    EXPECT_EQ(Taipan("scores", streams), 2) << streams;
    EXPECT_EQ(ReadFile(tiny_ / (out + ".json")), ReadFile(tiny_ / "out0.json"));
    EXPECT_NE(ReadFile(tiny_ / (out + ".score")), "");
  }
}

TEST_F(Streams, ResultsThatCannotBeWrittenAreAnErrorAfterTheRest) {
  WriteFileAtomically(tiny_ / "lines", "[1, 2, 3]\n[4, 5]\n");
  for (const std::string streams : {">/dev/full", ">&-", ">&- <&-", "| true"}) {
    for (const std::string command :
         {"presets", "inspect model", "--help", "train --help", "--version", "generate --model model --max-tokens 4",
          "generate --model model --max-tokens 4 --json", "score --model model --tokens lines --json",
          "tokenizer encode --tokenizer byte --text text.txt"}) {
      // A pipe takes what is written before its reader is gone: not an error each time.
      const int code = Taipan(command, "2>err " + streams);
      if (streams == "| true" && code == 0) continue;
      EXPECT_EQ(code, 1) << command << " " << streams;
      EXPECT_NE(ReadFile(tiny_ / "err").find("taipan: error: standard output: cannot be written: "), std::string::npos)
          << ReadFile(tiny_ / "err");
    }
  }
  EXPECT_EQ(Taipan("generate --model model --max-tokens 1000000 --seed 1", "2>err | head -c 5 >/dev/null"), 1);
  EXPECT_NE(ReadFile(tiny_ / "err").find("Broken pipe"), std::string::npos) << ReadFile(tiny_ / "err");
  EXPECT_EQ(Taipan("score --model model --tokens lines --json --by-position --svg loss.svg --logits logits.st",
                   "2>/dev/null >/dev/full"),
            1);
  EXPECT_TRUE(PathExists(tiny_ / "loss.svg") && PathExists(tiny_ / "logits.st"));
}

}  // namespace
}  // namespace taipan
