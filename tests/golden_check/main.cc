// The golden checks: one test for each set found in the folder, whatever its models, shapes and seeds.

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <exception>
#include <functional>

#include "base/files.h"
#include "base/parallel.h"
#include "golden_check/golden.h"

namespace taipan::golden {
namespace {

struct Kind {
  const char* name;
  Check check;
};
constexpr Kind kKinds[] = {
    {"logits", CheckLogits},
    {"states", CheckStates},
    {"grads", CheckGradients},
    {"trajectory", CheckTrajectory},
};

// The same weights in another naming, which have no logits of their own.
struct Twin {
  const char *model, *logits;
};
constexpr Twin kTwins[] = {{"models/mamba2-ssm", "logits/mamba2-hf"},
                           {"models/llama3-scaled-legacy", "logits/llama3-scaled"}};

class GoldenSet : public testing::Test {
 public:
  GoldenSet(std::function<void()> check, std::string folder) : check_(std::move(check)), folder_(std::move(folder)) {}
  void TestBody() override {
    try {
      check_();
    } catch (const std::exception& error) {
      FAIL() << folder_ << ": " << error.what();
    }
  }

 private:
  std::function<void()> check_;
  std::string folder_;
};

class GoldenTokenizer : public testing::Test {
 public:
  explicit GoldenTokenizer(std::string name) : name_(std::move(name)) {}
  void TestBody() override {
    if (TokenizerFile(name_).empty()) {
      Note("skipped tokenizer " + name_ + ": its file is not in the folder TAIPAN_TOKENIZERS");
      GTEST_SKIP() << "no file";
    }
    try {
      CheckTokenizer(name_);
    } catch (const std::exception& error) {
      FAIL() << name_ << ": " << error.what();
    }
  }

 private:
  std::string name_;
};

// A minus in a test's name would read as "without" in --gtest_filter.
std::string TestName(std::string set) {
  std::replace_if(
      set.begin(), set.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return set;
}

void Register(const char* kind, const std::string& set, const std::string& folder, std::function<void()> check) {
  testing::RegisterTest(
      kind, TestName(set).c_str(), nullptr, folder.c_str(), __FILE__, __LINE__,
      [folder, check = std::move(check)]() -> testing::Test* { return new GoldenSet(check, folder); });
}

int RegisterTokenizers() {
  if (!PathExists(PathOf("tokenizers/samples.jsonl"))) return 0;
  const auto samples = ReadJsonLines("tokenizers/samples.jsonl");
  if (samples.empty()) return 0;
  int count = 0;
  for (const auto& item : samples[0].at("ids").items()) {
    testing::RegisterTest("tokenizers", TestName(item.key()).c_str(), nullptr, item.key().c_str(), __FILE__, __LINE__,
                          [name = item.key()]() -> testing::Test* { return new GoldenTokenizer(name); });
    ++count;
  }
  return count;
}

int RegisterSets() {
  int sets = 0;
  for (const Kind& kind : kKinds) {
    for (const std::string& set : SetsOf(kind.name)) {
      const std::string folder = fmt::format("{}/{}", kind.name, set);
      Register(kind.name, set, folder, [&kind, folder] { kind.check(folder); });
      ++sets;
    }
  }
  for (const Twin& twin : kTwins) {
    if (!IsDirectory(PathOf(twin.model)) || !IsDirectory(PathOf(twin.logits))) continue;
    Register("logits", twin.model, twin.model, [&twin] { CheckLogits(twin.logits, twin.model); });
    ++sets;
  }
  return sets + RegisterTokenizers();
}

int Run() {
  const int sets = RegisterSets();
  std::printf("golden folder %s: %d sets\n", Root().c_str(), sets);
  if (sets == 0) {
    std::fprintf(stderr,
                 "error: %s: no golden sets: expected folders below logits, states, grads or trajectory, or "
                 "tokenizers/samples.jsonl\n",
                 Root().c_str());
    return 1;
  }
  const int result = RUN_ALL_TESTS();
  const testing::UnitTest& unit = *testing::UnitTest::GetInstance();
  for (const std::string& note : Notes()) std::printf("note: %s\n", note.c_str());
  std::printf("golden cases: %d passed, %d failed, %d skipped\n", unit.successful_test_count(),
              unit.failed_test_count(), unit.skipped_test_count());
  return result;
}

}  // namespace
}  // namespace taipan::golden

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  taipan::SetNumThreads(1);  // tiny models; the property tests show that the number of threads changes no bit
  try {
    return taipan::golden::Run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
