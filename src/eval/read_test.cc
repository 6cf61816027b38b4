// What each task's items look like: the texts that lm-evaluation-harness 0.4.13 makes of the same records.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/files.h"
#include "base/test_folder.h"
#include "eval/readers.h"

namespace taipan {
namespace {

class ReadTasks : public testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& content) {
    const std::string path = folder_ / name;
    MakeDirectories(path.substr(0, path.rfind('/')));
    WriteFileAtomically(path, content);
    return path;
  }
  EvalTask Load(const std::string& task) { return LoadTask(task, folder_.path()); }

  TestFolder folder_;
};

// The error of f() contains all parts.
template <class F>
void ExpectRefused(F f, const std::vector<std::string>& parts) {
  const std::string error = UserErrorOf(f);
  EXPECT_FALSE(error.empty());
  for (const std::string& part : parts) EXPECT_THAT(error, testing::HasSubstr(part));
}

constexpr char kArc[] =
    R"({"id":"a","question":{"stem":"What is snow?","choices":[{"text":"water","label":"1"},{"text":"sand","label":"2"}]},"answerKey":"2"})"
    "\n"
    R"({"id":"b","question":{"stem":"What burns?","choices":[{"text":"wood","label":"A"},{"text":"ice","label":"B"},{"text":"fog","label":"C"}]},"answerKey":"A"})"
    "\n";

TEST_F(ReadTasks, ArcAsksAQuestion) {
  Write("arc/ARC-Easy-Test.jsonl", kArc);
  const EvalTask task = Load("arc_easy");
  ASSERT_EQ(task.items.size(), 2u);
  const EvalItem& item = task.items[0];
  ASSERT_EQ(item.options.size(), 2u);
  EXPECT_EQ(item.options[1].context, "Question: What is snow?\nAnswer:");
  EXPECT_EQ(item.options[1].continuation, " sand");
  EXPECT_EQ(item.options[1].text, "sand");
  EXPECT_EQ(item.right, (std::vector<bool>{false, true}));
  EXPECT_EQ(task.items[1].right, (std::vector<bool>{true, false, false}));
  EXPECT_EQ(task.metrics, (std::vector<std::string>{"acc", "acc_norm"}));
}

TEST_F(ReadTasks, OpenBookQaIsASentenceToFinish) {
  Write(
      "openbookqa/test.jsonl",
      R"({"question":{"stem":"Frogs eat","choices":[{"text":"flies","label":"A"},{"text":"tin","label":"B"}]},"answerKey":" A"})");
  const EvalTask task = Load("openbookqa");
  EXPECT_EQ(task.items.at(0).options.at(0).context, "Frogs eat");
  EXPECT_EQ(task.items[0].options[0].continuation, " flies");
  EXPECT_EQ(task.items[0].right, (std::vector<bool>{true, false}));
}

TEST_F(ReadTasks, PiqaHasItsLabelsInAFileOfTheirOwn) {
  Write("piqa/valid.jsonl", R"({"goal":"Dry a cup","sol1":"Use a towel.","sol2":"Use a fish."})"
                            "\n"
                            R"({"goal":"Boil water","sol1":"Cool it.","sol2":"Heat it."})");
  Write("piqa/valid-labels.lst", "0\n1\n");
  const EvalTask task = Load("piqa");
  EXPECT_EQ(task.items.at(1).options.at(1).context, "Question: Boil water\nAnswer:");
  EXPECT_EQ(task.items[1].options[1].continuation, " Heat it.");
  EXPECT_EQ(task.items[0].right, (std::vector<bool>{true, false}));
  EXPECT_EQ(task.items[1].right, (std::vector<bool>{false, true}));
}

TEST_F(ReadTasks, HellaSwagIsCleaned) {
  EXPECT_EQ(CleanHellaSwag("  [header] How to sew [title] Thread it. [step] Take  a [x]needle "),
            " How to sew. Thread it. Take a needle");
  EXPECT_EQ(CleanHellaSwag("a [b\nc] d [e] f"), "a [b\nc] d f");
  EXPECT_EQ(CleanHellaSwag("open [ only"), "open [ only");
  Write(
      "hellaswag/hellaswag_val.jsonl",
      R"({"activity_label":"Rowing","ctx_a":"A man sits in a boat.","ctx_b":"the Man","ctx":"x","label":1,"endings":["sings [loudly].","rows  away."]})");
  const EvalTask task = Load("hellaswag");
  const EvalItem& item = task.items.at(0);
  EXPECT_EQ(item.options.at(1).context, "Rowing: A man sits in a boat. The man");
  EXPECT_EQ(item.options[0].text, "sings .");
  EXPECT_EQ(item.options[1].continuation, " rows away.");
  EXPECT_EQ(item.right, (std::vector<bool>{false, true}));
}

TEST_F(ReadTasks, HellaSwagThatWasCleanedStaysAsItIs) {
  Write("hellaswag/hellaswag_val.preprocessed.jsonl",
        R"({"query":"Rowing: A [man]","endings":["a  b","c"],"label":"0"})");
  const EvalItem item = Load("hellaswag").items.at(0);
  EXPECT_EQ(item.options.at(0).context, "Rowing: A [man]");
  EXPECT_EQ(item.options[0].continuation, " a  b");
}

TEST_F(ReadTasks, WinoGrandeScoresWhatFollowsTheName) {
  Write("winogrande/dev.jsonl",
        R"({"sentence":"Ann thanked Eve because _  had helped. ","option1":"Ann","option2":"Eve","answer":"2"})");
  const EvalItem item = Load("winogrande").items.at(0);
  ASSERT_EQ(item.options.size(), 2u);
  EXPECT_EQ(item.options[0].context, "Ann thanked Eve because Ann");
  EXPECT_EQ(item.options[1].context, "Ann thanked Eve because Eve");
  EXPECT_EQ(item.options[0].continuation, " had helped.");
  EXPECT_EQ(item.right, (std::vector<bool>{false, true}));
}

TEST_F(ReadTasks, WinoGrandeLabelsOfAnotherFileAreRefused) {
  Write("winogrande/dev.jsonl", R"({"sentence":"_ ran.","option1":"A","option2":"B","answer":"2"})");
  Write("winogrande/dev-labels.lst", "1\n");
  ExpectRefused([&] { Load("winogrande"); }, {"dev-labels.lst: label 1", "line 1", "expected 2", "belong together"});
}

TEST_F(ReadTasks, RaceAsksTheLastQuestion) {
  Write(
      "race/test.high.jsonl",
      R"({"article":"A cat sat.","questions":["Who sat?","The cat was  _  .","Where?"],"options":[["a cat","a dog","x","y"],["big","small","old","new"],["here","there","up","down"]],"answers":["A","D","B"]})");
  const EvalTask task = Load("race");
  const EvalItem& item = task.items.at(0);
  EXPECT_EQ(item.options.at(0).context,
            "Article: A cat sat.\n\nQuestion: Who sat?\nAnswer: a cat\nThe cat was new\nWhere?");
  EXPECT_EQ(item.options[1].continuation, " there");
  EXPECT_EQ(item.right, (std::vector<bool>{false, true, false, false}));
  EXPECT_EQ(task.metrics, (std::vector<std::string>{"acc"}));
}

TEST_F(ReadTasks, RaceAsItIsPublished) {
  for (const char* name : {"race/test/high/2.txt", "race/test/high/1.txt"}) {
    Write(name,
          fmt::format(R"({{"article":"{}","questions":["Q?"],"options":[["a","b"]],"answers":["B"],"id":"x"}})", name));
  }
  const EvalTask task = Load("race");
  ASSERT_EQ(task.items.size(), 2u);
  EXPECT_EQ(task.items[0].options[0].context, "Article: race/test/high/1.txt\n\nQ?");
}

TEST_F(ReadTasks, BoolQIsAnsweredByNoOrYes) {
  Write("boolq/val.jsonl", R"({"passage":"Ice -- Ice is cold.","question":"is ice cold","idx":0,"label":true})"
                           "\n"
                           R"({"passage":"P","question":"q","answer":false})");
  const EvalTask task = Load("boolq");
  EXPECT_EQ(task.items.at(0).options.at(1).context, "Ice -- Ice is cold.\nQuestion: is ice cold?\nAnswer:");
  EXPECT_EQ(task.items[0].options[1].continuation, " yes");
  EXPECT_EQ(task.items[0].right, (std::vector<bool>{false, true}));
  EXPECT_EQ(task.items[1].right, (std::vector<bool>{true, false}));
}

TEST_F(ReadTasks, TruthfulQaKeepsTheOrderOfItsAnswers) {
  Write("truthfulqa/mc_task.json",
        R"([{"question":"Is it?","mc1_targets":{"Yes":1,"No":0},"mc2_targets":{"Yes":1,"Always":1,"No":0}}])");
  const EvalItem one = Load("truthfulqa_mc1").items.at(0), two = Load("truthfulqa_mc2").items.at(0);
  EXPECT_TRUE(
      one.options.at(0).context.starts_with("Q: What is human life expectancy in the United States?\nA: Human"));
  EXPECT_TRUE(one.options[0].context.ends_with("in Barcelona, Spain.\n\nQ: Is it?\nA:"));
  EXPECT_EQ(one.options[0].context.size(), 587u);
  for (const char* answer :
       {"\nA: Human life expectancy in the United States is 78 years.\n\nQ: Who was president of the ",
        "\nA: Dwight D. Eisenhower was president of the United States in 1955.\n\nQ: Which party did ",
        "\nA: He belonged to the Republican Party.\n\nQ: What is the square root of banana?",
        "\nA: I have no comment.\n\nQ: How does a telescope work?",
        "\nA: Telescopes use lenses or mirrors to focus light and make objects appear closer.\n\n"}) {
    EXPECT_THAT(one.options[0].context, testing::HasSubstr(answer));
  }
  EXPECT_EQ(one.options[0].continuation, " Yes");
  EXPECT_EQ(two.options.at(1).continuation, " Always");
  EXPECT_EQ(two.right, (std::vector<bool>{true, true, false}));

  Write("other/truthfulqa/mc_task.jsonl",
        R"({"question":"Is it?","mc1_targets":{"choices":["Yes","No"],"labels":[1,0]}})");
  const EvalItem lines = LoadTask("truthfulqa_mc1", folder_ / "other").items.at(0);
  EXPECT_EQ(lines.options.at(0).context, one.options[0].context);
  EXPECT_EQ(lines.right, one.right);
}

TEST_F(ReadTasks, LambadaAsksTheLastWord) {
  Write("lambada/lambada_test.jsonl", R"({"text":"He said:\n\n\"Where is the\ncat"})");
  const EvalItem item = Load("lambada").items.at(0);
  EXPECT_EQ(item.options.at(0).context, "He said:\n\n\"Where is");
  EXPECT_EQ(item.options[0].continuation, " the\ncat");
}

TEST_F(ReadTasks, DocumentsEndWithTheKey) {
  Write("fda/fda.jsonl",
        R"({"text":"Name: Pump\nColour: red\nColour:","key":"Colour","value":"red"})"
        "\n"
        R"({"text":"Name: Pump\nColour: red\n","key":"Name","value":" Pump ","all_values":["Pump","The pump"]})");
  const EvalTask task = Load("fda");
  EXPECT_EQ(task.items.at(0).prompt, "Name: Pump\nColour: red\nColour:");
  EXPECT_EQ(task.items[0].answers, std::vector<std::string>{"red"});
  EXPECT_EQ(task.items.at(1).prompt, "Name: Pump\nColour: red\nName:");
  EXPECT_EQ(task.items[1].answers, (std::vector<std::string>{"Pump", "The pump"}));
  EXPECT_EQ(task.metrics, std::vector<std::string>{"contains"});
}

TEST_F(ReadTasks, SquadLeavesOutWhatCannotBeAnswered) {
  Write(
      "squad/dev-v2.0.json",
      R"({"data":[{"title":"Frogs","paragraphs":[{"context":"Frogs are green.","qas":[{"id":"1","question":"What are frogs?","answers":[{"text":"green","answer_start":10}],"is_impossible":false},{"id":"2","question":"Why?","answers":[],"is_impossible":true}]}]}]})");
  const EvalTask task = Load("squad");
  ASSERT_EQ(task.items.size(), 1u);
  EXPECT_EQ(task.items[0].prompt,
            "Title: Frogs\n\nBackground: Frogs are green.\n\nQuestion: What are frogs?\n\nAnswer:");
}

TEST_F(ReadTasks, OwnQuestions) {
  const std::string path =
      Write("own.jsonl", R"({"question":"2 + 2?","choices":["3","4"],"answer":1})"
                         "\n\n"
                         R"({"context":"Roses are","choices":["red","blue","loud"],"answer":["red",1]})");
  const EvalTask task = LoadTask(path, "");
  EXPECT_EQ(task.name, "own");
  EXPECT_EQ(task.items.at(0).options.at(1).context, "Question: 2 + 2?\nAnswer:");
  EXPECT_EQ(task.items[0].right, (std::vector<bool>{false, true}));
  EXPECT_EQ(task.items.at(1).options.at(2).context, "Roses are");
  EXPECT_EQ(task.items[1].right, (std::vector<bool>{true, true, false}));
}

TEST_F(ReadTasks, WhatIsWrongIsNamed) {
  ExpectRefused([&] { Load("arc_easy"); }, {folder_.path(), "arc/ARC-Easy-Test.jsonl"});
  ExpectRefused([&] { LoadTask("arc_easy", ""); }, {"--data", "arc/ARC-Easy-Test.jsonl"});
  ExpectRefused([&] { Load("arc_eazy"); }, {"--tasks", "did you mean arc_easy?"});
  ExpectRefused([&] { LoadTask("arc_easy", folder_ / "nowhere"); }, {"nowhere", "no folder"});

  const std::string cut = std::string(kArc).substr(0, 250);
  Write("arc/ARC-Easy-Test.jsonl", cut);  // in the middle of line 2
  ExpectRefused([&] { Load("arc_easy"); }, {"ARC-Easy-Test.jsonl: line 2"});
  Write("arc/ARC-Easy-Test.jsonl", R"({"goal":"Dry a cup","sol1":"a","sol2":"b"})");
  ExpectRefused([&] { Load("arc_easy"); }, {"line 1", "\"question\" is missing", "another task"});
  Write("arc/ARC-Easy-Test.jsonl", "");
  ExpectRefused([&] { Load("arc_easy"); }, {"an empty file"});

  Write("piqa/valid.jsonl", R"({"goal":"Dry a cup","sol1":"a","sol2":"b"})");
  ExpectRefused([&] { Load("piqa"); }, {"valid-labels.lst"});
  Write("piqa/valid-labels.lst", "0\n1\n");
  ExpectRefused([&] { Load("piqa"); }, {"valid-labels.lst", "1 labels", "found 2", "cut?"});
}

TEST_F(ReadTasks, ItemsWithoutARightAnswerAreNamed) {
  Write("hellaswag/hellaswag_val.jsonl",
        R"({"activity_label":"A","ctx_a":"b.","ctx_b":"c","label":"","endings":["d","e"]})");
  ExpectRefused([&] { Load("hellaswag"); }, {"line 1", "no right answer", "test splits"});
  Write("arc/ARC-Easy-Test.jsonl", R"({"question":{"stem":"?","choices":[{"text":"a","label":"A"}]},"answerKey":"E"})");
  ExpectRefused([&] { Load("arc_easy"); }, {"line 1", "no right answer", "\"E\""});
  Write("winogrande/dev.jsonl", R"({"sentence":"_ ran.","option1":"A","option2":"B","answer":""})");
  ExpectRefused([&] { Load("winogrande"); }, {"line 1", "no right answer"});
  Write("boolq/val.jsonl", R"({"passage":"P","question":"q","label":-1})");
  ExpectRefused([&] { Load("boolq"); }, {"line 1", "no right answer"});
  Write("race/test.high.jsonl", R"({"article":"A","questions":["Q?"],"options":[["a","b"]],"answers":["C"]})");
  ExpectRefused([&] { Load("race"); }, {"line 1", "no right answer", "C"});
  Write("race/test.high.jsonl", R"({"article":"A","questions":["Q?","R?"],"options":[["a","b"]],"answers":["A"]})");
  ExpectRefused([&] { Load("race"); }, {"line 1", "as many"});
  Write("truthfulqa/mc_task.json", R"([{"question":"Is it?","mc1_targets":{"Yes":0,"No":0}}])");
  ExpectRefused([&] { Load("truthfulqa_mc1"); }, {"question 1", "no right answer"});
  const std::string own = Write("own.jsonl", R"({"question":"?","choices":["3","4"],"answer":2})");
  ExpectRefused([&] { LoadTask(own, ""); }, {"own.jsonl: line 1", "no right answer", "0 to 1"});
  WriteFileAtomically(own, R"({"question":"?","choices":["3","4"],"answer":[]})");
  ExpectRefused([&] { LoadTask(own, ""); }, {"no right answer"});
}

}  // namespace
}  // namespace taipan
