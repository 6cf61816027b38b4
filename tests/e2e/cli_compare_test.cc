// taipan compare.

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "e2e/tiny_model.h"

namespace taipan {
namespace {

using Json = nlohmann::json;

class CompareCommand : public testing::Test {
 protected:
  void SetUp() override {
    WriteFileAtomically(folder_ / "model.json", TinyConfigText());
    WriteFileAtomically(folder_ / "mamba.json", R"({"vocab_size": 256, "hidden_size": 32, "layer_pattern": ["mamba2"],
      "head_dim": 16, "state_size": 16, "chunk_size": 32})");
    std::string text;
    for (int i = 0; i < 200; ++i) text += "the number " + std::to_string(i) + " follows\n";
    WriteFileAtomically(folder_ / "text.txt", text);
    WriteFileAtomically(folder_ / "valid.txt", text.substr(0, 3000));
  }
  void Train(const std::string& run, const std::string& model, const std::vector<std::string>& more) const {
    std::vector<std::string> all = {"train",
                                    "--model",
                                    folder_ / model,
                                    "--data",
                                    folder_ / "text.txt",
                                    "--out",
                                    folder_ / run,
                                    "--steps",
                                    "4",
                                    "--context",
                                    "32",
                                    "--batch-size",
                                    "2",
                                    "--dtype",
                                    "f32",
                                    "--threads",
                                    "1"};
    all.insert(all.end(), more.begin(), more.end());
    const ProgramResult result = RunTaipan(all);
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }
  const TestFolder folder_;
};

TEST_F(CompareCommand, RunsSideBySideFinishedOrNot) {
  Train("whole", "model.json", {"--valid-data", folder_ / "valid.txt", "--valid-every", "2"});
  Train("begun", "mamba.json", {"--time-limit", "0.000001"});
  // A line that is being written at this moment.
  const std::string metrics = folder_ / "begun/metrics.jsonl";
  WriteFileAtomically(metrics, ReadFile(metrics) + "{\"step\": 2, \"lo");

  const ProgramResult json =
      RunTaipan({"compare", folder_ / "whole", folder_ / "begun/", "--json", "--svg", folder_ / "c.svg"});
  ASSERT_EQ(json.exit_code, 0) << json.err;
  const Json runs = Json::parse(json.out).at("runs");
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0].at("steps"), 4);
  EXPECT_EQ(runs[0].at("finished"), true);
  EXPECT_EQ(runs[0].at("tokens"), 4 * 2 * 32);
  EXPECT_EQ(runs[0].at("layers"), "2 mamba2, 1 selective_attention");
  EXPECT_EQ(runs[0].at("selected_share").size(), 1u);
  EXPECT_EQ(runs[1].at("steps"), 1);
  EXPECT_EQ(runs[1].at("finished"), false);
  EXPECT_TRUE(runs[1].at("valid_bits_per_byte").is_null());
  EXPECT_LT(runs[1].at("parameters").get<int64_t>(), runs[0].at("parameters").get<int64_t>());
  // The figures are those of the lines.
  std::vector<Json> lines;
  const std::string all = ReadFile(folder_ / "whole/metrics.jsonl");
  for (size_t begin = 0, end; (end = all.find('\n', begin)) != std::string::npos; begin = end + 1) {
    lines.push_back(Json::parse(all.substr(begin, end - begin)));
  }
  double ce = 0, last_valid = 0, best = 1e9;
  for (const Json& line : lines) {
    if (line.contains("ce")) ce += line.at("ce").get<double>() / 4;
    if (line.contains("valid_ce")) {
      last_valid = line.at("valid_bits_per_byte").get<double>();
      best = std::min(best, last_valid);
    }
  }
  EXPECT_NEAR(runs[0].at("ce").get<double>(), ce, 1e-12);
  EXPECT_EQ(runs[0].at("valid_bits_per_byte"), last_valid);
  EXPECT_EQ(runs[0].at("best_valid_bits_per_byte"), best);

  EXPECT_NE(json.err.find("differ in validation data"), std::string::npos) << json.err;
  EXPECT_EQ(json.err.find("differ in context"), std::string::npos) << json.err;
  const std::string svg = ReadFile(folder_ / "c.svg");
  for (const char* part : {">whole<", ">begun (training)<", "nats a token"}) {
    EXPECT_NE(svg.find(part), std::string::npos) << part;
  }
  const ProgramResult table = RunTaipan({"compare", folder_ / "whole", folder_ / "begun"});
  for (const char* part : {"whole", "begun", "1 of 4", "valid bits/byte", "2 mamba2, 1 selective_attention"}) {
    EXPECT_NE(table.out.find(part), std::string::npos) << part << "\n" << table.out;
  }
}

TEST_F(CompareCommand, LossesByPosition) {
  const TinyModelFolder a("256", "1"), b("256", "2");
  const auto score = [&](const TinyModelFolder& model, const std::string& context, const std::string& file) {
    const ProgramResult result = RunTaipan({"score", "--model", model.model(), "--text", folder_ / "text.txt",
                                            "--context", context, "--by-position", "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    WriteFileAtomically(folder_ / file, result.out);
  };
  score(a, "32", "a.json");
  score(b, "64", "b.json");
  const ProgramResult table =
      RunTaipan({"compare", folder_ / "a.json", folder_ / "b.json", "--svg", folder_ / "p.svg"});
  ASSERT_EQ(table.exit_code, 0) << table.err;
  EXPECT_NE(table.err.find("differ in windows"), std::string::npos) << table.err;
  EXPECT_NE(table.out.find("32 to 63"), std::string::npos) << table.out;
  EXPECT_NE(ReadFile(folder_ / "p.svg").find("Loss by position"), std::string::npos);
  const ProgramResult json = RunTaipan({"compare", folder_ / "a.json", folder_ / "b.json", "--json"});
  const Json results = Json::parse(json.out).at("results");
  EXPECT_EQ(results[1].at("by_position"), Json::parse(ReadFile(folder_ / "b.json")).at("by_position"));
}

TEST_F(CompareCommand, RefusesWhatIsNoRun) {
  ExpectOneLineError(RunTaipan({"compare"}), 2, {"RUN"});
  ExpectOneLineError(RunTaipan({"compare", folder_.path()}), 1, {"holds no run", "run.json"});
  ExpectOneLineError(RunTaipan({"compare", folder_ / "none"}), 1, {"none", "nothing of that name"});
  ExpectOneLineError(RunTaipan({"compare", folder_ / "text.txt"}), 1, {"text.txt: line 1"});
  ExpectOneLineError(RunTaipan({"compare", folder_ / "text.txt", folder_.path()}), 2, {"RUN", "alone"});
  ExpectOneLineError(RunTaipan({"compare", folder_ / "model.json"}), 1, {"model.json"});
}

}  // namespace
}  // namespace taipan
