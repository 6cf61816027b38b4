#pragma once
// For tests: runs in a folder of their own, and the straight run that they must be equal to.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/logging.h"
#include "base/test_folder.h"
#include "train/run.h"
#include "train/test_model.h"

namespace taipan {

inline std::string SomeText(int64_t bytes) {
  std::string text;
  for (int32_t id : TestTokens(bytes, 64)) text += static_cast<char>(' ' + id);
  return text;
}

class RunFixture : public testing::Test {
 protected:
  void SetUp() override {
    SetNumThreads(1);
    SetLogLevel(LogLevel::kError);
    WriteFileAtomically(data_, SomeText(3000));
    WriteFileAtomically(valid_, SomeText(500));
  }

  RunRequest Request(const std::string& run) const {
    RunRequest request;
    request.config = TestConfig(256);
    request.settings = TestSettings();
    request.settings.model = "test";
    request.settings.data = {data_};
    request.settings.valid_data = {valid_};
    request.settings.valid_every = 4;
    request.settings.save_every = 5;
    request.settings.out = folder_ / run;
    return request;
  }
  RunRequest Resume(const std::string& run) const {
    RunRequest request = Request(run);
    request.resume = true;
    return request;
  }
  std::string ErrorOf(const RunRequest& request) const {
    return UserErrorOf([&] { RunTraining(request, {}); });
  }
  // Calls `act` after step `step` in place of a sample.
  static RunHooks At(RunRequest& request, int64_t step, std::function<void()> act) {
    request.settings.sample_every = step;
    RunHooks hooks;
    hooks.sample = [=](const LanguageModel&, const Tokenizer*, int64_t now) {
      if (now == step) act();
      return std::string();
    };
    return hooks;
  }
  // It is written while training goes on.
  void WaitForCheckpoint(const std::string& run, int64_t step) const {
    const std::string state = folder_ / run + "/trainer.json";  // written last
    for (int i = 0; i < 100000 && nlohmann::json::parse(ReadFile(state)).at("step") != step; ++i) usleep(100);
  }
  // metrics.jsonl without what the clock says.
  std::vector<std::string> Metrics(const std::string& run) const {
    std::vector<std::string> lines;
    const std::string all = ReadFile(folder_ / run + "/metrics.jsonl");
    for (size_t begin = 0, end; (end = all.find('\n', begin)) != std::string::npos; begin = end + 1) {
      auto line = nlohmann::json::parse(all.substr(begin, end - begin));
      line.erase("seconds");
      line.erase("tokens_per_second");
      lines.push_back(line.dump());
    }
    return lines;
  }
  // The reference: ten steps in one go.
  void ExpectLikeStraightRun(const std::string& run) {
    if (!PathExists(folder_ / "straight")) {
      ASSERT_EQ(RunTraining(Request("straight"), {}), RunEnd::kFinished);
    }
    EXPECT_EQ(Metrics(run), Metrics("straight"));
    for (const char* file : {"model/model.safetensors", "model/config.json", "model/tokenizer.json",
                             "checkpoints/step-10/optimizer.safetensors"}) {
      EXPECT_EQ(ReadFile(folder_ / run + "/" + file), ReadFile(folder_ / "straight/" + file)) << file;
    }
  }

  TestFolder folder_;
  const std::string data_ = folder_ / "text.txt", valid_ = folder_ / "valid.txt";
};

}  // namespace taipan
