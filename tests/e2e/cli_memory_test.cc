// Little memory and few threads: each command works or says in one line that memory is short.

#include <gtest/gtest.h>

#include <cstdlib>

#include "e2e/tiny_model.h"

namespace taipan {
namespace {

// Exit code of `taipan ARGUMENTS` in a shell after SETTINGS; err gets what it says.
int Taipan(const TinyModelFolder& tiny, const std::string& settings, const std::string& arguments) {
  const std::string command =
      fmt::format("cd {}; {}; {} {} >out 2>err", tiny / "", settings, TAIPAN_PROGRAM, arguments);
  const int status = std::system(("bash -c '" + command + "'").c_str());
  return WEXITSTATUS(status);
}

TEST(Memory, ACommandThatHasTooLittleSaysSo) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers map terabytes";
#endif
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "text.txt", std::string(5000, 'x'));
  const auto limit_of = [](int megabytes) { return fmt::format("ulimit -c 0 -v {}", megabytes << 10); };
  int too_little = 30, least = 2000;  // what the program's libraries take
  while (least - too_little > 2) {
    const int middle = (too_little + least) / 2;
    (Taipan(tiny, limit_of(middle), "--version") == 0 ? least : too_little) = middle;
  }
  int failed = 0;
  for (const int more : {0, 4, 16, 48}) {
    const std::string limit = limit_of(least + more);
    for (const std::string command :
         {"init --preset taipan-8m --out init",
          "bench kernels --model taipan-1m --runs 1 --run-seconds 0.001 --tokens 32 --threads 1",
          "train --model taipan-1m --data text.txt --steps 1 --context 64 --threads 2 --out run",
          "train --model taipan-1m --dtype bf16 --data text.txt --steps 1 --context 64 --threads 2 --out run2",
          "generate --model model --prompt x --max-tokens 2 --seed 1 --threads 16"}) {
      for (const char* folder : {"init", "run", "run2"}) RemoveTree(tiny / folder);
      const int code = Taipan(tiny, limit, command);
      if (code == 0) continue;
      ++failed;
      const std::string err = ReadFile(tiny / "err");
      ASSERT_EQ(code, 1) << limit << " " << command << "\n" << err;
      const std::string last = err.substr(err.rfind("taipan: error: "));
      EXPECT_EQ(last.find('\n'), last.size() - 1) << err;
      EXPECT_TRUE(last.find("memory") != last.npos) << limit << " " << command << "\n" << err;
      EXPECT_TRUE(last.find("report it") == last.npos) << limit << " " << command << "\n" << err;
    }
  }
  EXPECT_GT(failed, 5);
}

TEST(Threads, AsManyAsAreAskedForOrANote) {
  const TinyModelFolder tiny;
  EXPECT_EQ(Taipan(tiny, "export OMP_NUM_THREADS=99999", "generate --model model --prompt x --max-tokens 2 --seed 1"),
            0)
      << ReadFile(tiny / "err");
  EXPECT_NE(ReadFile(tiny / "err").find("OMP_NUM_THREADS=99999: more than 4096, takes the "), std::string::npos)
      << ReadFile(tiny / "err");
  const std::string text = ReadFile(tiny / "out");
  for (const std::string threads : {"99999", "0", "-1", "99999999999999999999"}) {
    EXPECT_EQ(Taipan(tiny, ":", "presets --threads " + threads), 2);
    EXPECT_NE(ReadFile(tiny / "err").find("a whole number from 1 to 4096, found " + threads), std::string::npos)
        << ReadFile(tiny / "err");
  }
  for (const std::string wanted : {"99999999999999999999", "0", "-3", "x", ""}) {
    EXPECT_EQ(
        Taipan(tiny, "export OMP_NUM_THREADS=" + wanted, "generate --model model --prompt x --max-tokens 2 --seed 1"),
        0)
        << wanted << ReadFile(tiny / "err");
    EXPECT_EQ(ReadFile(tiny / "out"), text);
  }
}

}  // namespace
}  // namespace taipan
