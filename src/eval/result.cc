#include "eval/result.h"

#include <algorithm>
#include <cmath>

#include "text/unicode/python_text.h"

namespace taipan {
namespace {

double TextLength(const std::string& text, Length length) {
  if (length == Length::kOne) return 1;
  return static_cast<double>(length == Length::kBytes ? std::ssize(text) : CountCharacters(text));
}

bool IsRight(const EvalItem& item, int64_t option) { return option >= 0 && item.right[static_cast<size_t>(option)]; }

// The right options' share of the probability of all.
double RightMass(const EvalItem& item, const ItemResult& result) {
  const double top = *std::max_element(result.logprobs.begin(), result.logprobs.end());
  double right = 0, all = 0;
  for (size_t i = 0; i < item.options.size(); ++i) {
    const double p = std::exp(result.logprobs[i] - top);
    all += p;
    if (item.right[i]) right += p;
  }
  return right / all;
}

double ShareOf(const std::vector<bool>& of) {
  return static_cast<double>(std::count(of.begin(), of.end(), true)) / static_cast<double>(of.size());
}

Metric MeanOf(const std::string& name, const std::vector<double>& values) {
  const double n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double v : values) sum += v;
  for (const double v : values) squares += (v - sum / n) * (v - sum / n);
  Metric metric{.name = name, .value = sum / n};
  if (values.size() > 1) metric.error = std::sqrt(squares / (n - 1) / n);
  return metric;
}

double ShareFound(const EvalItem& item, const std::string& completion) {
  const auto found = std::count_if(item.answers.begin(), item.answers.end(), [&](const std::string& answer) {
    return completion.find(answer) != completion.npos;
  });
  return static_cast<double>(found) / static_cast<double>(item.answers.size());
}

double ValueOf(const std::string& metric, const EvalTask& task, const EvalItem& item, const ItemResult& result) {
  if (metric == "contains") return ContainsAnswer(item, result.completion) ? 1 : 0;
  if (metric == "found") return ShareFound(item, result.completion);
  if (metric == "answer_nats") return -result.logprobs[0];
  if (metric == "perplexity") return result.logprobs[0];
  if (task.measure == Measure::kTokens) return ShareOf(result.greedy);
  if (task.measure == Measure::kMass) return RightMass(item, result);
  if (task.measure == Measure::kWord) return result.greedy[0] ? 1 : 0;
  const Length length = metric == "acc_norm"    ? Length::kCharacters
                        : metric == "acc_bytes" ? Length::kBytes
                                                : Length::kOne;
  return IsRight(item, LikeliestOption(item, result, length)) ? 1 : 0;
}

// cell -1: of all items.
Metric MetricOf(const std::string& name, const EvalTask& task, const std::vector<std::optional<ItemResult>>& results,
                int64_t cell = -1) {
  std::vector<double> values;
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i] && (cell < 0 || task.items[i].cell == cell))
      values.push_back(ValueOf(name, task, task.items[i], *results[i]));
  }
  Metric metric = MeanOf(name, values);
  if (name != "perplexity") return metric;
  metric.value = std::exp(-metric.value);
  if (metric.error) *metric.error *= metric.value;  // to first order
  return metric;
}

std::optional<double> ChanceOf(const EvalTask& task, const std::vector<std::optional<ItemResult>>& results) {
  if (task.measure != Measure::kChoice && task.measure != Measure::kMass) return std::nullopt;
  double sum = 0, n = 0;
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i]) continue;
    const std::vector<bool>& right = task.items[i].right;
    sum += static_cast<double>(std::count(right.begin(), right.end(), true)) / static_cast<double>(right.size());
    ++n;
  }
  return sum / n;
}

std::vector<CellResult> CellsOf(const EvalTask& task, const std::vector<std::optional<ItemResult>>& results) {
  std::vector<CellResult> cells;
  for (size_t c = 0; c < task.cells.size(); ++c) {
    CellResult& cell = cells.emplace_back(CellResult{.cell = task.cells[c]});
    for (size_t i = 0; i < results.size(); ++i)
      cell.items += results[i] && task.items[i].cell == static_cast<int64_t>(c);
    if (cell.items == 0) continue;
    for (const std::string& name : task.metrics) {
      cell.metrics.push_back(MetricOf(name, task, results, static_cast<int64_t>(c)));
    }
  }
  return cells;
}

void AddMetrics(const std::vector<Metric>& metrics, nlohmann::ordered_json& json) {
  for (const Metric& metric : metrics) {
    json[metric.name] = metric.value;
    if (metric.error) json[metric.name + "_stderr"] = *metric.error;
  }
}

}  // namespace

int64_t LikeliestOption(const EvalItem& item, const ItemResult& result, Length length) {
  int64_t best = -1;
  double best_value = 0;
  for (size_t i = 0; i < item.options.size(); ++i) {
    const double value = result.logprobs[i] / TextLength(item.options[i].text, length);  // no text: -infinity
    if (best >= 0 && !(value > best_value)) continue;
    best = static_cast<int64_t>(i);
    best_value = value;
  }
  return best;
}

bool ContainsAnswer(const EvalItem& item, const std::string& completion) {
  const std::string text = LowerCase(completion);
  return std::any_of(item.answers.begin(), item.answers.end(),
                     [&](const std::string& answer) { return text.find(LowerCase(answer)) != text.npos; });
}

TaskResult Summarise(const EvalTask& task, const std::vector<std::optional<ItemResult>>& results) {
  TaskResult summary{.name = task.name, .asked = std::ssize(results)};
  summary.items = std::count_if(results.begin(), results.end(), [](const auto& result) { return result.has_value(); });
  if (summary.items == 0) return summary;
  for (const std::string& name : task.metrics) summary.metrics.push_back(MetricOf(name, task, results));
  if (task.normalised) summary.further.push_back(MetricOf("acc_bytes", task, results));
  summary.cells = CellsOf(task, results);
  summary.chance = ChanceOf(task, results);
  return summary;
}

nlohmann::ordered_json ToJson(const TaskResult& result) {
  nlohmann::ordered_json json = {{"task", result.name}, {"items", result.items}, {"asked", result.asked}};
  AddMetrics(result.metrics, json);
  AddMetrics(result.further, json);
  for (const CellResult& cell : result.cells) {
    nlohmann::ordered_json one = nlohmann::ordered_json::object();
    for (const auto& [name, value] : cell.cell) {
      if (value == std::floor(value)) {
        one[name] = static_cast<int64_t>(value);
      } else {
        one[name] = value;
      }
    }
    one["items"] = cell.items;
    AddMetrics(cell.metrics, one);
    json["cells"].push_back(std::move(one));
  }
  if (result.chance) json["chance"] = *result.chance;
  json["cut_items"] = result.cut;
  json["joined_boundaries"] = result.joined;
  json["seconds"] = result.seconds;
  return json;
}

}  // namespace taipan
