// The results of `taipan eval` as JSON, as tables and as files.

#include <algorithm>

#include "base/files.h"
#include "cli/eval_internal.h"
#include "cli/length_list.h"
#include "eval/report.h"

namespace taipan {
namespace {

std::string FigureText(const OrderedJson& of, const std::string& name) {
  if (!of.contains(name)) return "-";
  const auto error = of.find(name + "_stderr");
  const std::string value = fmt::format("{:.4f}", of.at(name).get<double>());
  return error == of.end() ? value : value + fmt::format(" ±{:.4f}", error->get<double>());
}

// Columns of `names` that any of the rows has.
std::string Table(const std::vector<OrderedJson>& rows, std::vector<Column> columns,
                  std::vector<std::vector<std::string>> cells, const std::vector<const char*>& names) {
  for (const char* name : names) {
    const auto has = [&](const OrderedJson& row) { return row.contains(name); };
    if (std::none_of(rows.begin(), rows.end(), has)) continue;
    columns.push_back({name});
    for (size_t i = 0; i < rows.size(); ++i) cells[i].push_back(FigureText(rows[i], name));
  }
  return FormatTable(columns, cells);
}

std::string TaskTable(const OrderedJson& report) {
  std::vector<OrderedJson> rows;
  std::vector<std::vector<std::string>> cells;
  for (const OrderedJson& task : report.at("tasks")) {
    const std::string items = FormatExact(task.at("items").get<int64_t>());
    const bool all = task.at("items") == task.at("asked");
    cells.push_back({task.at("task").get<std::string>(),
                     all ? items : items + " of " + FormatExact(task.at("asked").get<int64_t>())});
    rows.push_back(task);
  }
  return Table(rows, {{"task", true}, {"items"}}, cells,
               {"acc", "acc_norm", "contains", "found", "answer_nats", "perplexity", "chance"});
}

std::string CellTable(const OrderedJson& task) {
  std::vector<OrderedJson> rows;
  std::vector<std::vector<std::string>> cells;
  for (const OrderedJson& cell : task.at("cells")) {
    rows.push_back(cell);
    cells.push_back({LengthText(cell.at("length").get<int64_t>()), FormatExact(cell.at("items").get<int64_t>())});
    const auto pairs = cell.find("pairs");
    if (pairs != cell.end()) cells.back().insert(cells.back().begin() + 1, FormatExact(pairs->get<int64_t>()));
    const auto state = cell.find("state_bytes");
    if (state != cell.end()) cells.back().insert(cells.back().end() - 1, FormatBytes(state->get<int64_t>()));
  }
  std::vector<Column> columns = {{"tokens"}};
  if (rows[0].contains("pairs")) columns.push_back({"pairs"});
  if (rows[0].contains("state_bytes")) columns.push_back({"state"});
  columns.push_back({"items"});
  return Table(rows, columns, cells, {"depth", "acc", "found", "answer_nats"});
}

}  // namespace

OrderedJson EvalReportJson(const EvalFlags& flags, const OrderedJson& header, const ContextLimit& limit,
                           const EvalJobs& jobs, bool complete) {
  OrderedJson json = {{"model", flags.model}};
  json.update(header);
  json["context"] = limit.tokens > 0 ? OrderedJson(limit.tokens) : OrderedJson();
  json["limit"] = flags.limit > 0 ? OrderedJson(flags.limit) : OrderedJson();
  json["seed"] = flags.seed;
  json["complete"] = complete;
  json["tasks"] = OrderedJson::array();
  for (const EvalJob& job : jobs) json["tasks"].push_back(ToJson(job.task().Summary()));
  return json;
}

std::string EvalTables(const OrderedJson& report) {
  std::string text = TaskTable(report);
  for (const OrderedJson& task : report.at("tasks")) {
    if (task.contains("cells")) text += "\n" + task.at("task").get<std::string>() + "\n" + CellTable(task);
  }
  return text;
}

void WriteEvalReport(const std::string& folder, const OrderedJson& report) {
  const std::string json = report.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
  WriteFileAtomically(folder + "/results.json", json);
  WriteFileAtomically(folder + "/results.svg", EvalSvg(report));
  WriteFileAtomically(folder + "/results.html", EvalPage(report));
}

}  // namespace taipan
