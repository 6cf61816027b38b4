#include "eval/task.h"

#include "base/error.h"
#include "base/files.h"
#include "eval/readers.h"

namespace taipan {
namespace {

std::vector<TaskInfo> MakeTasks() {
  return {
      {.name = "winogrande",
       .about = "WinoGrande: whom a pronoun means",
       .files = {"winogrande/dev.jsonl"},
       .labels = "winogrande/dev-labels.lst",
       .read = ReadWinoGrande},
      {.name = "piqa",
       .about = "PIQA: how things are done",
       .files = {"piqa/valid.jsonl"},
       .labels = "piqa/valid-labels.lst",
       .normalised = true,
       .read = ReadPiqa},
      {.name = "hellaswag",
       .about = "HellaSwag: how a scene goes on",
       .files = {"hellaswag/hellaswag_val.jsonl", "hellaswag/hellaswag_val.preprocessed.jsonl"},
       .normalised = true,
       .read = ReadHellaSwag},
      {.name = "arc_easy",
       .about = "ARC-Easy: science at school",
       .files = {"arc/ARC-Easy-Test.jsonl"},
       .normalised = true,
       .read = ReadArc},
      {.name = "arc_challenge",
       .about = "ARC-Challenge: the harder ones of them",
       .files = {"arc/ARC-Challenge-Test.jsonl"},
       .normalised = true,
       .read = ReadArc},
      {.name = "openbookqa",
       .about = "OpenBookQA: science and common sense",
       .files = {"openbookqa/test.jsonl"},
       .normalised = true,
       .read = ReadOpenBookQa},
      {.name = "truthfulqa_mc1",
       .about = "TruthfulQA, one right answer",
       .files = {"truthfulqa/mc_task.json", "truthfulqa/mc_task.jsonl"},
       .read = ReadTruthfulQa1},
      {.name = "truthfulqa_mc2",
       .about = "TruthfulQA, the share of all right answers",
       .files = {"truthfulqa/mc_task.json", "truthfulqa/mc_task.jsonl"},
       .measure = Measure::kMass,
       .read = ReadTruthfulQa2},
      {.name = "race",
       .about = "RACE, high school: the last question of each passage",
       .files = {"race/test.high.jsonl", "race/test/high"},
       .read = ReadRace},
      {.name = "race_middle",
       .about = "RACE, middle school, likewise",
       .files = {"race/test.middle.jsonl", "race/test/middle"},
       .read = ReadRace},
      {.name = "boolq",
       .about = "BoolQ: yes or no about a passage",
       .files = {"boolq/val.jsonl", "boolq/val.superglue.jsonl"},
       .read = ReadBoolQ},
      {.name = "lambada",
       .about = "LAMBADA (OpenAI's form): the last word of a passage",
       .files = {"lambada/lambada_test.jsonl"},
       .measure = Measure::kWord,
       .read = ReadLambada},
      {.name = "swde",
       .about = "SWDE: values on web pages",
       .files = {"swde/swde.jsonl", "swde/swde_book_2sites.jsonl"},
       .measure = Measure::kCompletion,
       .read = ReadDocuments},
      {.name = "fda",
       .about = "FDA: values in reports",
       .files = {"fda/fda.jsonl"},
       .measure = Measure::kCompletion,
       .read = ReadDocuments},
      {.name = "squad",
       .about = "SQuAD: answers in a paragraph, written on from the question",
       .files = {"squad/squad.jsonl", "squad/dev-v1.1.json", "squad/dev-v1.1.reconstructed.json",
                 "squad/dev-v2.0.json"},
       .measure = Measure::kCompletion,
       .read = ReadSquad},
  };
}

std::string FindFile(const TaskInfo& task, const std::string& folder) {
  if (folder.empty()) {
    throw UserError({"--data", "the task " + task.name + " needs data", "the folder that has " + task.files[0],
                     "no --data", "tools/fetch_eval_data.py brings the public data sets into a folder"});
  }
  if (!IsDirectory(folder)) throw UserError({folder, "no folder of data", "a folder with " + task.files[0], "none"});
  for (const std::string& file : task.files) {
    if (PathExists(folder + "/" + file)) return folder + "/" + file;
  }
  std::string expected;
  for (const std::string& file : task.files) expected += (expected.empty() ? "" : " or ") + file;
  throw UserError({folder, "no data of the task " + task.name, expected, "none of them",
                   "tools/fetch_eval_data.py brings the public data sets into a folder"});
}

// "questions" of "exams/questions.jsonl".
std::string Stem(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string name = slash == path.npos ? path : path.substr(slash + 1);
  return name.substr(0, name.rfind('.'));
}

std::vector<std::string> MetricsOf(Measure measure, bool normalised) {
  switch (measure) {
    case Measure::kChoice:
      return normalised ? std::vector<std::string>{"acc", "acc_norm"} : std::vector<std::string>{"acc"};
    case Measure::kMass:
    case Measure::kTokens:
      return {"acc"};
    case Measure::kWord:
      return {"acc", "perplexity"};
    case Measure::kCompletion:
      return {"contains"};
  }
  return {};
}

}  // namespace

const std::vector<TaskInfo>& AllTasks() {
  static const std::vector<TaskInfo> tasks = MakeTasks();
  return tasks;
}

EvalTask LoadTask(const std::string& name, const std::string& folder) {
  EvalTask task;
  if (name.ends_with(".jsonl")) {
    task = {.name = Stem(name), .normalised = true, .items = ReadOwnQuestions(name, ""), .files = {name}};
    task.metrics = MetricsOf(task.measure, task.normalised);
    return task;
  }
  std::vector<std::string> names;
  for (const TaskInfo& info : AllTasks()) {
    names.push_back(info.name);
    if (info.name != name) continue;
    const std::string file = FindFile(info, folder);
    std::string labels;
    if (!info.labels.empty()) labels = folder + "/" + info.labels;
    task = {.name = name, .measure = info.measure, .normalised = info.normalised, .files = {file}};
    if (PathExists(labels)) task.files.push_back(labels);
    task.items = info.read(file, labels);
    task.metrics = MetricsOf(task.measure, task.normalised);
    return task;
  }
  const std::string nearest = NearestName(name, names);
  throw UserError({"--tasks", "no task of this name",
                   "one of the list in --help, or a file of questions that ends in .jsonl", name,
                   nearest.empty() ? "" : fmt::format("did you mean {}?", nearest)});
}

}  // namespace taipan
