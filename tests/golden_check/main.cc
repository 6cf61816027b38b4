// The golden checks: one test for each set found in the folder, whatever its models, shapes and seeds.

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <exception>

#include "base/files.h"
#include "base/parallel.h"
#include "golden_check/golden.h"

namespace taipan::golden {
namespace {

struct Kind {
  const char* name;
  const char* info;  // the file that names the model
  Check check;
};
constexpr Kind kKinds[] = {
    {"logits", "info.json", CheckLogits},
    {"states", "info.json", CheckStates},
    {"grads", "expected.json", CheckGradients},
    {"trajectory", "train.json", CheckTrajectory},
};

class GoldenSet : public testing::Test {
 public:
  GoldenSet(const Kind& kind, std::string folder) : kind_(kind), folder_(std::move(folder)) {}
  void TestBody() override {
    try {
      const std::string model = ReadJson(folder_ + "/" + kind_.info).at("model");
      const std::string foreign = ForeignModel(model);
      if (!foreign.empty()) {
        Note("skipped " + folder_ + ": " + foreign);
        GTEST_SKIP() << foreign;
      }
      kind_.check(folder_);
    } catch (const std::exception& error) {
      FAIL() << folder_ << ": " << error.what();
    }
  }

 private:
  const Kind& kind_;
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
      testing::RegisterTest(kind.name, TestName(set).c_str(), nullptr, folder.c_str(), __FILE__, __LINE__,
                            [&kind, folder]() -> testing::Test* { return new GoldenSet(kind, folder); });
      ++sets;
    }
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
