#pragma once
// From scores to figures.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "eval/task.h"

namespace taipan {

struct ItemResult {
  std::vector<double> logprobs = {};  // nats [options], or [targets] of token sequences
  std::vector<bool> greedy = {};      // likewise: every token of it was the likeliest one
  std::string completion = {};
};

// The first of the likeliest, by log p over each text's length: 0 no length, else characters or bytes. -1: no options.
enum class Length { kOne, kCharacters, kBytes };
int64_t LikeliestOption(const EvalItem& item, const ItemResult& result, Length length = Length::kOne);
bool ContainsAnswer(const EvalItem& item, const std::string& completion);

struct Metric {
  std::string name = {};
  double value = 0;
  std::optional<double> error = {};  // standard error of the mean
};

struct CellResult {
  EvalCell cell = {};
  int64_t items = 0;
  std::vector<Metric> metrics = {};
};

struct TaskResult {
  std::string name = {};
  int64_t items = 0, asked = 0;      // answered, of so many
  std::vector<Metric> metrics = {};  // the task's own, in its order
  std::vector<Metric> further = {};  // those that the harness does not report
  std::vector<CellResult> cells = {};
  std::optional<double> chance = {};  // of acc: what drawing an option gives
  int64_t cut = 0, joined = 0;        // items (EncodedItem)
  double seconds = 0;                 // of this call
};

// results[i] of items[i]; those without are not counted. No items: no metrics.
TaskResult Summarise(const EvalTask& task, const std::vector<std::optional<ItemResult>>& results);

nlohmann::ordered_json ToJson(const TaskResult& result);

}  // namespace taipan
