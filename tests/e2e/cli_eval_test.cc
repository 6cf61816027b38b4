// taipan eval.

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "e2e/running.h"
#include "e2e/tiny_model.h"

namespace taipan {
namespace {

using Json = nlohmann::json;

std::string Questions(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += fmt::format(R"({{"question":"What is {} plus {}?","choices":["{}","{}","many"],"answer":{}}})", i, i + 1,
                        2 * i + 1, 2 * i, i % 3) +
            "\n";
  }
  return text;
}

TEST(Eval, OwnQuestionsAsJsonAndTable) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "sums.jsonl", Questions(7));
  const std::vector<std::string> arguments = {"eval", tiny.model(), "--tasks", tiny / "sums.jsonl"};
  std::vector<std::string> with_json = arguments;
  with_json.insert(with_json.end(), {"--json", "--limit", "5"});
  const ProgramResult result = RunTaipan(with_json);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json.at("model"), tiny.model());
  EXPECT_EQ(json.at("model_digest").get<std::string>().size(), 16u);
  EXPECT_EQ(json.at("dtype"), "f32");
  EXPECT_EQ(json.at("complete"), true);
  const Json& task = json.at("tasks").at(0);
  EXPECT_EQ(task.at("task"), "sums");
  EXPECT_EQ(task.at("items"), 5);
  for (const char* key : {"acc", "acc_stderr", "acc_norm", "acc_bytes", "chance"})
    EXPECT_TRUE(task.contains(key)) << key;
  EXPECT_NEAR(task.at("chance").get<double>(), 1.0 / 3, 1e-12);
  const ProgramResult table = RunTaipan(arguments);
  EXPECT_NE(table.out.find("acc_norm"), std::string::npos) << table.err;
  EXPECT_EQ(table.out.find("perplexity"), std::string::npos);
}

TEST(Eval, IsScorePairsOnTheRenderedItems) {
  const TinyModelFolder tiny;
  MakeDirectories(tiny / "data/boolq");
  WriteFileAtomically(tiny / "data/boolq/val.jsonl",
                      R"({"passage":"Ice is cold.","question":"is ice cold","label":true})");
  const ProgramResult eval =
      RunTaipan({"eval", tiny.model(), "--tasks", "boolq", "--data", tiny / "data", "--out", tiny / "out"});
  ASSERT_EQ(eval.exit_code, 0) << eval.err;
  const std::string kept = ReadFile(tiny / "out/items/boolq.jsonl");
  const Json item = Json::parse(kept.substr(kept.find('\n') + 1));
  const std::string context = R"({"context":"Ice is cold.\nQuestion: is ice cold?\nAnswer:","continuation":)";
  const ProgramResult pairs = RunTaipan({"score", "--model", tiny.model(), "--pairs", "-", "--json"},
                                        context + "\" no\"}\n" + context + "\" yes\"}\n");
  ASSERT_EQ(pairs.exit_code, 0) << pairs.err;
  const size_t line = pairs.out.find('\n') + 1;
  EXPECT_EQ(item.at("logprobs").at(0), Json::parse(pairs.out.substr(0, line)).at("sum_logprob"));
  EXPECT_EQ(item.at("logprobs").at(1), Json::parse(pairs.out.substr(line)).at("sum_logprob"));
}

TEST(Eval, AStoppedRunKeepsItsItemsAndGoesOn) {
  const TinyModelFolder tiny;
  WriteFileAtomically(tiny / "sums.jsonl", Questions(4000));
  const std::string kept = tiny / "out/items/sums.jsonl";
  const std::vector<std::string> arguments = {"eval",  tiny.model(), "--tasks",   tiny / "sums.jsonl",
                                              "--out", tiny / "out", "--threads", "1"};
  Running run(arguments, tiny / "err");
  const auto size = [&] { return PathExists(kept) ? std::filesystem::file_size(kept) : 0; };
  for (int i = 0; i < 2000 && size() < 2000; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  run.Send(SIGINT);
  const int status = run.Wait();
  ASSERT_TRUE(WIFEXITED(status)) << ReadFile(tiny / "err");
  EXPECT_EQ(WEXITSTATUS(status), 130) << ReadFile(tiny / "err");
  EXPECT_NE(ReadFile(tiny / "err").find("stopped by SIGINT"), std::string::npos) << ReadFile(tiny / "err");
  const Json partial = Json::parse(ReadFile(tiny / "out/results.json"));
  EXPECT_EQ(partial.at("complete"), false);
  const int64_t done = partial.at("tasks").at(0).at("items").get<int64_t>();
  EXPECT_GT(done, 0);
  EXPECT_LT(done, 4000);
  EXPECT_EQ(partial.at("tasks").at(0).at("asked"), 4000);

  std::vector<std::string> again = arguments;
  again.insert(again.end(), {"--limit", std::to_string(done + 3), "--json"});
  const ProgramResult second = RunTaipan(again);
  ASSERT_EQ(second.exit_code, 0) << second.err;
  EXPECT_NE(second.err.find("going on"), std::string::npos) << second.err;
  EXPECT_EQ(Json::parse(second.out).at("tasks").at(0).at("items"), done + 3);
  for (const char* name : {"out/results.json", "out/results.html", "out/results.svg"}) {
    EXPECT_TRUE(PathExists(tiny / name)) << name;
  }
  // Another model's results do not get into the same folder.
  const TinyModelFolder other("256", "2");
  again[1] = other.model();
  ExpectOneLineError(RunTaipan(again), 1, {"items/sums.jsonl", "model_digest", "another folder"});
}

TEST(Eval, MadeBySeed) {
  const TinyModelFolder tiny;
  const std::vector<std::string> arguments = {"eval",      tiny.model(), "--tasks",  "passkey,mqar:64x4,copy:16",
                                              "--lengths", "512,1K",     "--depths", "2",
                                              "--each",    "2",          "--out",    tiny / "out",
                                              "--json"};
  const ProgramResult result = RunTaipan(arguments);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json tasks = Json::parse(result.out).at("tasks");
  ASSERT_EQ(tasks.size(), 3u);
  EXPECT_EQ(tasks[0].at("cells").size(), 4u);
  EXPECT_EQ(tasks[0].at("items"), 8);
  EXPECT_GT(tasks[0].at("answer_nats"), 1.0);
  EXPECT_EQ(tasks[1].at("cells").at(0).at("pairs"), 4);
  EXPECT_GT(tasks[1].at("cells").at(0).at("state_bytes"), 1000);
  EXPECT_EQ(tasks[2].at("task"), "copy_16");
  EXPECT_TRUE(PathExists(tiny / "out/items/mqar_64x4.jsonl"));
  const ProgramResult again = RunTaipan(arguments);
  Json first = Json::parse(result.out), second = Json::parse(again.out);
  for (Json* json : {&first, &second}) {
    for (Json& task : json->at("tasks")) task.erase("seconds");
  }
  EXPECT_EQ(first, second);
  EXPECT_NE(again.err.find("has 12 of 12 items"), std::string::npos) << again.err;
}

TEST(Eval, ModelsWithoutATokenizerAnswerTokens) {
  const TinyModelFolder tiny;
  for (const std::string& name : ListDirectory(tiny.model())) {
    if (name.starts_with("tokenizer")) std::filesystem::remove(tiny.model() + "/" + name);
  }
  const ProgramResult result = RunTaipan({"eval", tiny.model(), "--tasks", "mqar:64x4", "--each", "3", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  ExpectOneLineError(RunTaipan({"eval", tiny.model(), "--tasks", "mqar:64x4,passkey"}), 1, {"tokenizer"});
}

TEST(Eval, WhatATransformerCannotHold) {
  const TestFolder folder;
  std::string config = TinyConfigText();
  config.replace(config.find("selective_attention"), 19, "attention");
  config.insert(config.rfind('}'), R"(, "rope_theta": 10000, "max_position_embeddings": 60)");
  WriteFileAtomically(folder / "given.json", config);
  ASSERT_EQ(RunTaipan({"init", "--config", folder / "given.json", "--out", folder / "model"}).exit_code, 0);
  const ProgramResult far = RunTaipan({"eval", folder / "model", "--tasks", "passkey", "--lengths", "512,1024M",
                                       "--depths", "1", "--each", "1", "--json"});
  ASSERT_EQ(far.exit_code, 0) << far.err;
  EXPECT_NE(far.err.find("1024M tokens are left out: "), std::string::npos) << far.err;
  EXPECT_NE(far.err.find("passkey reads up to 512 tokens, beyond the 60 positions"), std::string::npos) << far.err;
  EXPECT_EQ(Json::parse(far.out).at("tasks").at(0).at("cells").size(), 1u);
  ExpectOneLineError(RunTaipan({"eval", folder / "model", "--tasks", "passkey", "--lengths", "1024M"}), 1,
                     {"passkey", "memory"});

  WriteFileAtomically(folder / "a.jsonl", Questions(3) + R"({"context":")" + std::string(80, 'x') +
                                              R"(","choices":["1","2"],"answer":0})" + "\n");
  const ProgramResult cut = RunTaipan({"eval", folder / "model", "--tasks", folder / "a.jsonl", "--json"});
  ASSERT_EQ(cut.exit_code, 0) << cut.err;
  EXPECT_NE(cut.err.find("a: 1 of 4 items are longer than 60 tokens (the positions that the model knows"),
            std::string::npos)
      << cut.err;
  EXPECT_EQ(Json::parse(cut.out).at("context"), 60);
}

TEST(Eval, WhatIsWrongIsOneLine) {
  const TinyModelFolder tiny;
  ExpectOneLineError(RunTaipan({"eval", tiny.model(), "--tasks", "piqua"}), 2, {"--tasks", "did you mean piqa?"});
  ExpectOneLineError(RunTaipan({"eval", tiny.model(), "--tasks", "piqa,"}), 2, {"--tasks", "an empty name"});
  ExpectOneLineError(RunTaipan({"eval", tiny.model(), "--tasks", "boolq,zero-shot"}), 2, {"--tasks", "twice"});
  ExpectOneLineError(RunTaipan({"eval", tiny.model(), "--tasks", "piqa"}), 2, {"--data", "piqa/valid.jsonl"});
  ExpectOneLineError(RunTaipan({"eval", tiny.model(), "--tasks", "piqa", "--data", tiny / "none"}), 1,
                     {"none", "no folder"});
  WriteFileAtomically(tiny / "cut.jsonl", Questions(3).substr(0, 100));
  ExpectOneLineError(RunTaipan({"eval", tiny.model(), "--tasks", tiny / "cut.jsonl"}), 1, {"cut.jsonl: line 2"});
  ExpectOneLineError(RunTaipan({"eval", tiny.model(), "--tasks", "passkey", "--lengths", "64"}), 2,
                     {"--lengths", "no room", "found 64"});
  ExpectOneLineError(RunTaipan({"eval", tiny.model(), "--tasks", "mqar:9x9"}), 2, {"--tasks", "no setting of mqar"});
  WriteFileAtomically(tiny / "a.jsonl", Questions(3));
  ExpectOneLineError(RunTaipan({"eval", tiny.model(), "--tasks", tiny / "a.jsonl", "--context", "3"}), 1,
                     {"a.jsonl: line 1", "longer than --context"});
  const ProgramResult cut = RunTaipan({"eval", tiny.model(), "--tasks", tiny / "a.jsonl", "--context", "20", "--json"});
  ASSERT_EQ(cut.exit_code, 0) << cut.err;
  EXPECT_NE(cut.err.find("a: 3 of 3 items are longer than 20 tokens (--context)"), std::string::npos) << cut.err;
  EXPECT_EQ(Json::parse(cut.out).at("tasks").at(0).at("cut_items"), 3);
}

}  // namespace
}  // namespace taipan
