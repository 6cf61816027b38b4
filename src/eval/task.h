#pragma once
// What an evaluation asks: items of texts, their right answers, and how answers are counted.

#include <cstdint>
#include <string>
#include <vector>

namespace taipan {

enum class Measure {
  kChoice,      // the likeliest option is a right one
  kMass,        // the share of all options' probability that the right ones have
  kWord,        // one option: every token of it is the likeliest one; its perplexity
  kCompletion,  // what the model writes contains an answer
  kTokens,      // the likeliest token at each asked place of a sequence is the right one
};

// What stands before and what is scored behind it, joined without anything between.
struct EvalOption {
  std::string context = {}, continuation = {};
  std::string text = {};  // whose length normalises log p: the continuation without the space before it
};

struct EvalItem {
  std::string where = {};                // file and line, for errors
  std::vector<EvalOption> options = {};  // of all measures but kCompletion
  std::vector<bool> right = {};          // [options]
  std::string prompt = {};               // of kCompletion
  std::vector<std::string> answers = {};
  // Of kTokens: after places[i] tokens of `tokens` the model has to say targets[i].
  std::vector<int32_t> tokens = {}, targets = {};
  std::vector<int64_t> places = {};
  int64_t cell = -1;  // of the task's cells
};

// A setting of a task that is asked in several: {"length": 64, "pairs": 4}.
using EvalCell = std::vector<std::pair<std::string, double>>;

struct EvalTask {
  std::string name = {};
  Measure measure = Measure::kChoice;
  bool normalised = false;                // whether the harness reports acc_norm
  std::vector<std::string> metrics = {};  // those of the results, in their order
  std::vector<EvalItem> items = {};
  std::vector<EvalCell> cells = {};     // that items belong to; empty: no cells
  std::vector<std::string> files = {};  // that they were read from
};

// What a task is, before its data is read.
struct TaskInfo {
  std::string name = {};
  std::string about = {};               // for people
  std::vector<std::string> files = {};  // that --data may have it in, the first that is there counts
  std::string labels = {};              // a second file beside it, "" where there is none
  Measure measure = Measure::kChoice;
  bool normalised = false;
  std::vector<EvalItem> (*read)(const std::string& file, const std::string& labels) = nullptr;
};

const std::vector<TaskInfo>& AllTasks();

// The items of a task of AllTasks, or of a user's own file of questions where `name` ends in .jsonl. UserError for
// names that are neither, and for files that are missing, cut, of another task, or without right answers.
EvalTask LoadTask(const std::string& name, const std::string& data_folder);

}  // namespace taipan
