// taipan bench: reports and their shape; nothing here depends on how long anything took.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "base/files.h"
#include "base/test_folder.h"
#include "e2e/run_program.h"
#include "e2e/tiny_model.h"

namespace taipan {
namespace {

using Json = nlohmann::json;

// A config file of the tiny model, and a cache of roofs of our own, which the tests share: measuring takes seconds.
class BenchTest : public ::testing::Test {
 protected:
  BenchTest() {
    WriteFileAtomically(config(), TinyConfigText());
    static const TestFolder cache;
    UseCache(cache.path());
  }
  ~BenchTest() override { ::unsetenv("XDG_CACHE_HOME"); }
  static void UseCache(const std::string& folder) { ::setenv("XDG_CACHE_HOME", folder.c_str(), 1); }

  std::string config() const { return folder_ / "tiny.json"; }
  std::string operator/(const std::string& name) const { return folder_ / name; }

  // A model of few shapes, for what measures each of them.
  std::string OneBlock() const {
    const std::string model = folder_ / "one_block.json";
    WriteFileAtomically(model, R"({"model_type": "taipan", "hidden_size": 32, "layer_pattern": ["mamba2"],
      "head_dim": 16, "state_size": 16, "chunk_size": 32, "vocab_size": 256})");
    return model;
  }

  // The report of `bench COMMAND --model tiny --json FLAGS`.
  Json Report(const std::string& command, std::vector<std::string> flags, const std::string& model = "") {
    std::vector<std::string> arguments = {"bench", command, "--model", model.empty() ? config() : model, "--json"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const ProgramResult result = RunTaipan(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return Json::parse(result.out);
  }

  TestFolder folder_;
};

double Sum(const Json& list, const char* key) {
  double sum = 0;
  for (const Json& entry : list) sum += entry.at(key).get<double>();
  return sum;
}

double Total(const Json& numbers) {
  double sum = 0;
  for (const Json& number : numbers) sum += number.get<double>();
  return sum;
}

// What the contract promises of every report.
void ExpectContract(const Json& r, int64_t tokens_per_run, size_t runs) {
  const Json& rate = r.at("tokens_per_second");
  EXPECT_LE(rate.at("min"), rate.at("median"));
  EXPECT_LE(rate.at("median"), rate.at("max"));
  EXPECT_GT(rate.at("min"), 0);
  EXPECT_EQ(r.at("samples").size(), runs);
  EXPECT_EQ(r.at("tokens_per_run"), tokens_per_run);
  EXPECT_GT(r.at("peak_rss_bytes"), 1 << 20);
  EXPECT_EQ(r.at("threads"), 1);
  EXPECT_TRUE(r.at("cpu").is_string());
  // The parts are the whole, and what no timer saw is named.
  ASSERT_FALSE(r.at("breakdown").empty());
  EXPECT_NEAR(Sum(r.at("breakdown"), "share"), 1.0, 1e-6);
  EXPECT_NEAR(Sum(r.at("breakdown"), "seconds") * static_cast<double>(runs), Total(r.at("seconds")), 1e-6);
  for (const Json& op : r.at("breakdown")) {
    for (const char* key : {"seconds", "share", "gflops", "gbytes_per_second"}) EXPECT_GE(op.at(key), 0) << op;
  }
  EXPECT_EQ(r.at("breakdown").back().at("op"), "other");
  const double per_token = r.at("flops_per_token").get<double>();
  EXPECT_NEAR(Sum(r.at("floor"), "flops"), per_token * static_cast<double>(tokens_per_run), per_token * 1e-6);
}

TEST_F(BenchTest, TrainReportsWhatTheContractNames) {
  const Json r = Report("train", {"--context", "256", "--batch-size", "4", "--micro-batch-size", "2", "--runs", "3"});
  ExpectContract(r, 4 * 256, 3);
  EXPECT_EQ(r.at("context"), 256);
  EXPECT_EQ(r.at("batch_size"), 4);
  EXPECT_EQ(r.at("micro_batch_size"), 2);
  EXPECT_EQ(r.at("dtype"), "f32");
  EXPECT_EQ(r.at("selection"), "forced");
  ASSERT_EQ(r.at("selected_share").size(), 1u);
  // 1024 draws at the budget of 0.15: five standard deviations are 0.056.
  EXPECT_NEAR(r.at("selected_share")[0].get<double>(), 0.15, 0.056);
  const double roof = r.at("roof").at("gflops").get<double>();
  EXPECT_NEAR(
      r.at("share_of_roof").get<double>(),
      r.at("flops_per_token").get<double>() * r.at("tokens_per_second").at("median").get<double>() / roof * 1e-9, 1e-9);
}

// Of models that are worth measuring; in the tiny one a call is little more than its bookkeeping.
TEST_F(BenchTest, TimersCoverAtLeast97PercentOfAPreset) {
  for (const char* command : {"train", "prefill"}) {
    const Json breakdown = Report(command, {"--runs", "1", "--no-roof"}, "taipan-1m").at("breakdown");
    EXPECT_LE(breakdown.back().at("share"), 0.03) << breakdown;
  }
}

TEST_F(BenchTest, EveryOperationOfTheFloorIsTimed) {
  for (const char* command : {"train", "prefill", "decode"}) {
    const Json r = Report(command, {"--runs", "1", "--no-roof", "--selected-share", "0.5"});
    std::set<std::string> timed;
    for (const Json& op : r.at("breakdown")) timed.insert(op.at("op").get<std::string>());
    for (const Json& op : r.at("floor")) {
      EXPECT_TRUE(timed.count(op.at("op").get<std::string>())) << command << ": " << op << "\n" << r.at("breakdown");
    }
    EXPECT_TRUE(r.at("roof").is_null());
    EXPECT_TRUE(r.at("share_of_roof").is_null());
  }
}

TEST_F(BenchTest, PrefillAndDecodeCountTheirTokens) {
  const Json prefill = Report("prefill", {"--prompt", "300", "--piece", "64", "--runs", "2", "--no-roof"});
  ExpectContract(prefill, 300, 2);
  EXPECT_EQ(prefill.at("piece"), 64);
  const Json decode = Report("decode", {"--context", "100", "--tokens", "5", "--batch-size", "3", "--runs", "2"});
  ExpectContract(decode, 15, 2);
  EXPECT_EQ(decode.at("roof").at("bound"), "memory");
  ExpectContract(Report("decode", {"--tokens", "4", "--batch-size", "3", "--runs", "1", "--no-roof"}), 12, 1);
}

TEST_F(BenchTest, SelectionIsForcedOrLeftToTheGates) {
  auto share = [&](const char* command, const std::vector<std::string>& flags, const std::string& model = "") {
    std::vector<std::string> all = {"--runs", "1", "--warmup", "0", "--no-roof"};
    all.insert(all.end(), flags.begin(), flags.end());
    const Json r = Report(command, all, model);
    return std::pair(r.at("selected_share").at(0).get<double>(), r.at("selection").get<std::string>());
  };
  EXPECT_EQ(share("train", {"--context", "64", "--selected-share", "1"}), std::pair(1.0, std::string("forced")));
  EXPECT_EQ(share("prefill", {"--prompt", "64", "--selected-share", "0"}), std::pair(0.0, std::string("forced")));
  // 400 draws: five standard deviations at a half are 0.125. Other pieces, the same tokens.
  const auto whole = share("prefill", {"--prompt", "400", "--piece", "400", "--selected-share", "0.5"});
  EXPECT_NEAR(whole.first, 0.5, 0.125);
  EXPECT_EQ(share("prefill", {"--prompt", "400", "--piece", "32", "--selected-share", "0.5"}), whole);
  const TinyModelFolder trained;
  EXPECT_EQ(share("prefill", {"--prompt", "64"}, trained.model()).second, "gates");
  EXPECT_EQ(share("prefill", {"--prompt", "64", "--selected-share", "1"}, trained.model()).first, 1.0);
}

TEST_F(BenchTest, TheRoofIsMeasuredOnce) {
  UseCache(folder_.path());
  const std::string model = OneBlock();
  auto roof = [&](const char* prompt, std::vector<std::string> flags = {}) {
    flags.insert(flags.end(), {"--prompt", prompt, "--runs", "1"});
    return Report("prefill", flags, model).at("roof");
  };
  const Json first = roof("64"), second = roof("64");
  EXPECT_FALSE(first.at("cached"));
  EXPECT_TRUE(second.at("cached"));
  EXPECT_EQ(first.at("gflops"), second.at("gflops"));
  // Other shapes are another roof; a file that is no cache is written anew.
  EXPECT_FALSE(roof("32").at("cached"));
  EXPECT_FALSE(roof("64", {"--refresh"}).at("cached"));
  WriteFileAtomically(*this / "taipan/roof.json", "{\"torn");
  EXPECT_FALSE(roof("64").at("cached"));
  EXPECT_TRUE(roof("64").at("cached"));
}

TEST_F(BenchTest, RoofCommandReportsEachTypeAndKeepsIt) {
  const std::vector<std::string> command = {"bench", "roof",   "--model", OneBlock(), "--rows",
                                            "32",    "--runs", "1",       "--json"};
  const Json report = Json::parse(RunTaipan(command).out);
  EXPECT_FALSE(report.at("cached"));
  for (const char* dtype : {"f32", "bf16"}) EXPECT_GT(report.at("best_gflops").at(dtype).at("median"), 0) << dtype;
  // A type each, on one thread; int8 where the CPU has it.
  EXPECT_EQ(report.at("model_gflops").size(), report.at("best_gflops").contains("int8") ? 3u : 2u);
  EXPECT_EQ(report.at("memory").size(), 4u);
  Json again = Json::parse(RunTaipan(command).out);
  EXPECT_TRUE(again.at("cached"));
  EXPECT_EQ(again.at("matmul"), report.at("matmul"));
}

TEST_F(BenchTest, KernelsAreMeasuredOneByOne) {
  const Json report = Report("kernels", {"--tokens", "64", "--runs", "1", "--run-seconds", "0.001"});
  std::set<std::string> ops;
  std::vector<double> shares;
  for (const Json& kernel : report.at("kernels")) {
    const std::string op = kernel.at("op").get<std::string>();
    ops.insert(op);
    if (op == "attention") shares.push_back(kernel.at("selected_share").get<double>());
    EXPECT_GT(kernel.at("seconds").at("median"), 0);
    EXPECT_GT(kernel.at("gbytes_per_second"), 0);
  }
  for (const char* op :
       {"in_proj", "in_proj backward, input", "in_proj backward, weight", "ssd", "ssd backward", "conv",
        "conv backward", "gated norm backward", "norm", "attention backward", "swiglu", "head, loss", "adamw"}) {
    EXPECT_TRUE(ops.count(op)) << op;
  }
  ASSERT_FALSE(shares.empty());
  EXPECT_EQ(shares.front(), 0.05);
  EXPECT_EQ(shares.back(), 1.0);
  EXPECT_EQ(Report("kernels", {"--tokens", "16", "--runs", "1", "--only", "conv"}).at("kernels").size(), 2u);
}

TEST_F(BenchTest, WritesATableAndAChart) {
  const std::string chart = *this / "chart.svg";
  const ProgramResult table =
      RunTaipan({"bench", "train", "--model", config(), "--context", "64", "--runs", "1", "--no-roof", "--svg", chart});
  EXPECT_EQ(table.exit_code, 0) << table.err;
  for (const char* text : {"operation", "in_proj backward", "other", "tokens/s", "peak memory", "(forced)"}) {
    EXPECT_NE(table.out.find(text), std::string::npos) << text << " in\n" << table.out;
  }
  const std::string svg = ReadFile(chart);
  EXPECT_TRUE(svg.starts_with("<svg "));
  EXPECT_NE(svg.find("in_proj backward"), std::string::npos);
}

TEST_F(BenchTest, Bf16RunsEverywhere) {
  for (const char* command : {"train", "prefill", "decode"}) {
    EXPECT_EQ(Report(command, {"--dtype", "bf16", "--runs", "1", "--no-roof"}).at("dtype"), "bf16") << command;
  }
  Report("kernels", {"--tokens", "16", "--runs", "1", "--run-seconds", "0.001", "--dtype", "bf16", "--only",
                     "backward"});  // forwards run first
}

TEST_F(BenchTest, RefusesWrongFlags) {
  ExpectOneLineError(RunTaipan({"bench", "train"}), 2, {"--model"});
  ExpectOneLineError(RunTaipan({"bench", "train", "--model", config(), "--dtype", "f16"}), 2, {"--dtype"});
  ExpectOneLineError(RunTaipan({"bench", "train", "--model", config(), "--recompute", "all"}), 2, {"--recompute"});
  ExpectOneLineError(RunTaipan({"bench", "train", "--model", config(), "--selected-share", "1.5"}), 2,
                     {"--selected-share", "1.5"});
  ExpectOneLineError(RunTaipan({"bench", "train", "--model", config(), "--runs", "0"}), 2, {"--runs"});
  ExpectOneLineError(RunTaipan({"bench", "train", "--model", config(), "--micro-batch-size", "2"}), 2,
                     {"--micro-batch-size", "at most 1"});
  ExpectOneLineError(RunTaipan({"bench", "decode", "--model", config(), "--context", "-1"}), 2, {"--context"});
  ExpectOneLineError(RunTaipan({"bench", "prefill", "--model", "taipan-1n"}), 1, {"taipan-1m"});
  ExpectOneLineError(RunTaipan({"bench", "kernels", "--model", config(), "--only", "quark"}), 2, {"--only", "quark"});
  ExpectOneLineError(RunTaipan({"bench", "roof", "--dtype", "int4"}), 2, {"--dtype", "bf16", "int4"});
}

TEST_F(BenchTest, StateIsSavedRestoredAndFound) {
  const std::string folder = *this / "states";
  std::filesystem::create_directory(folder);
  const Json report = Report("state", {"--context", "64", "--runs", "2", "--warmup", "0", "--folder", folder});
  EXPECT_EQ(report.at("context"), 64);
  EXPECT_EQ(report.at("reused_tokens"), 64);
  EXPECT_GT(report.at("file_bytes"), 1000);
  for (const char* key : {"read_seconds", "save_seconds", "restore_seconds", "first_token_seconds"}) {
    EXPECT_GT(report.at(key).at("median"), 0) << key;
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  ExpectOneLineError(RunTaipan({"bench", "state", "--model", config(), "--folder", folder + "/none"}), 1, {"/none"});
}

TEST_F(BenchTest, LatencyMeasuresLengthsAndPredictsTheRest) {
  const std::string out = *this / "latency";
  const std::vector<std::string> base = {"bench", "latency", "--model", config(), "--tokens",
                                         "2",     "--runs",  "1",       "--json"};
  std::vector<std::string> arguments = base;
  arguments.insert(arguments.end(), {"--lengths", "32,64,1K", "--out", out});
  const ProgramResult result = RunTaipan(arguments);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json points = Json::parse(result.out).at("models").at(0).at("points");
  ASSERT_EQ(points.size(), 3u);
  for (const Json& point : points) {
    EXPECT_FALSE(point.at("predicted").get<bool>());
    EXPECT_GT(point.at("prefill_seconds").get<double>(), 0);
    EXPECT_GT(point.at("token_seconds").get<double>(), 0);
  }
  EXPECT_LT(points[0].at("prefill_seconds").get<double>(), points[2].at("prefill_seconds").get<double>());
  EXPECT_EQ(ReadFile(out + "/latency.csv").substr(0, 23), "model,parameters,tokens");
  for (const char* chart : {"/prefill.svg", "/generation.svg", "/memory.svg"}) EXPECT_TRUE(PathExists(out + chart));

  arguments = base;
  arguments.insert(arguments.end(), {"--lengths", "64,1024M", "--time-limit", "1"});
  const ProgramResult predicted = RunTaipan(arguments);
  ASSERT_EQ(predicted.exit_code, 0) << predicted.err;
  const Json model = Json::parse(predicted.out).at("models").at(0);
  EXPECT_TRUE(model.at("points").at(1).at("predicted").get<bool>());
  EXPECT_TRUE(model.contains("stopped"));
}

TEST_F(BenchTest, LatencyRefusesLengthsThatAreNone) {
  for (const char* lengths : {"", "1K,", "2K,1K", "1k", "-5", "2048M"}) {
    const ProgramResult result = RunTaipan({"bench", "latency", "--model", config(), "--lengths", lengths});
    EXPECT_EQ(result.exit_code, 2) << lengths;
    EXPECT_THAT(result.err, testing::HasSubstr("--lengths: no list of lengths")) << lengths;
  }
}

}  // namespace
}  // namespace taipan
