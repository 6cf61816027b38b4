// taipan compare: final figures and curves of several training runs, or of several losses by position.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>

#include "base/file_checks.h"
#include "base/files.h"
#include "cli/commands.h"
#include "cli/compare_positions.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "model/parameters.h"
#include "plot/plot.h"
#include "train/curve.h"
#include "train/run_summary.h"

namespace taipan {
namespace {

struct CompareFlags {
  std::vector<std::string> paths;
  std::string svg, x = "steps";
  bool json = false;
};

constexpr size_t kLastSteps = 20;  // whose mean loss is shown: a single step is noisy

OrderedJson NullUnlessFinite(double value) { return std::isfinite(value) ? OrderedJson(value) : OrderedJson(nullptr); }
std::string Figure(double value, const char* format = "{:.4f}") {
  return std::isfinite(value) ? fmt::format(fmt::runtime(format), value) : "-";
}

// "6 mamba2, 2 selective_attention"
std::string LayersText(const RunSummary& run) {
  if (!run.config) return "-";
  std::vector<LayerKind> kinds;
  std::string text;
  for (const LayerKind kind : run.config->layer_pattern) {
    if (std::count(kinds.begin(), kinds.end(), kind) > 0) continue;
    kinds.push_back(kind);
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", CountBlocks(*run.config, kind), NameOf(kind));
  }
  return text;
}

OrderedJson RunJson(const RunSummary& run, const std::string& path) {
  const ValidMetrics* best = run.BestValidation();
  const bool begun = !run.steps.empty();
  OrderedJson json = {{"run", path},
                      {"model", run.settings.model},
                      {"parameters", run.config ? OrderedJson(CountParameters(*run.config)) : OrderedJson()},
                      {"layers", LayersText(run)},
                      {"dtype", NameIn(run.settings.dtype)},
                      {"context", run.settings.context},
                      {"batch_size", run.settings.batch_size},
                      {"steps", begun ? run.steps.back().step : 0},
                      {"steps_asked", run.settings.steps},
                      {"finished", run.finished()},
                      {"tokens", begun ? run.steps.back().tokens : 0},
                      {"loss", begun ? NullUnlessFinite(run.steps.back().loss) : OrderedJson()},
                      {"ce", NullUnlessFinite(run.MeanLoss(kLastSteps))},
                      {"ce_steps", std::min(kLastSteps, run.steps.size())}};
  json["valid_ce"] = run.valid.empty() ? OrderedJson() : NullUnlessFinite(run.valid.back().ce);
  json["valid_bits_per_byte"] = run.valid.empty() ? OrderedJson() : NullUnlessFinite(run.valid.back().bits_per_byte);
  json["best_valid_ce"] = best ? NullUnlessFinite(best->ce) : OrderedJson();
  json["best_valid_bits_per_byte"] = best ? NullUnlessFinite(best->bits_per_byte) : OrderedJson();
  json["best_valid_step"] = best ? OrderedJson(best->step) : OrderedJson();
  json["selected_share"] = run.valid.empty() ? OrderedJson() : OrderedJson(run.valid.back().selected_share);
  json["selected_share_noise"] = begun ? OrderedJson(run.steps.back().selected_share) : OrderedJson();
  json["tokens_per_second"] = NullUnlessFinite(run.MedianTokensPerSecond());
  json["seconds"] = begun ? NullUnlessFinite(run.steps.back().seconds) : OrderedJson();
  return json;
}

// The figures of one run, in the order of kRows.
const std::vector<std::string> kRows = {
    "model",        "parameters",       "layers",          "dtype",           "batch, context", "steps",
    "tokens",       "loss, last steps", "valid bits/byte", "  best, at step", "valid loss",     "selected share",
    "  with noise", "tokens/s, median", "time of steps"};

std::vector<std::string> ColumnOf(const RunSummary& run) {
  const ValidMetrics* best = run.BestValidation();
  const bool begun = !run.steps.empty(), valid = !run.valid.empty();
  const int64_t step = begun ? run.steps.back().step : 0;
  const auto shares = [](const std::vector<double>& s) { return s.empty() ? std::string("-") : FormatShares(s); };
  return {
      run.settings.model,
      run.config ? FormatExact(CountParameters(*run.config)) : "-",
      LayersText(run),
      NameIn(run.settings.dtype),
      fmt::format("{} x {}", run.settings.batch_size, run.settings.context),
      run.finished() ? FormatExact(step) : fmt::format("{} of {}", FormatExact(step), FormatExact(run.settings.steps)),
      begun ? FormatExact(run.steps.back().tokens) : "-",
      Figure(run.MeanLoss(kLastSteps)),
      valid ? Figure(run.valid.back().bits_per_byte) : "-",
      best ? fmt::format("{}, {}", Figure(best->bits_per_byte), FormatExact(best->step)) : "-",
      valid ? Figure(run.valid.back().ce) : "-",
      valid ? shares(run.valid.back().selected_share) : "-",
      begun ? shares(run.steps.back().selected_share) : "-",
      Figure(run.MedianTokensPerSecond(), "{:.0f}"),
      begun ? FormatDuration(run.steps.back().seconds) : "-"};
}

// In bits a byte where every run tells how many bytes a token has, else in nats a token. One colour a run: training
// faint, validation strong.
void WriteCurves(const std::vector<RunSummary>& runs, const std::vector<std::string>& names,
                 const CompareFlags& flags) {
  constexpr size_t kPoints = 200;
  const bool bytes = std::all_of(runs.begin(), runs.end(), [](const RunSummary& r) { return r.BytesPerToken() > 0; });
  std::vector<PlotSeries> series;
  double top = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < runs.size(); ++i) {
    const RunSummary& run = runs[i];
    const double scale = bytes ? 1 / std::numbers::ln2 / run.BytesPerToken() : 1;
    PlotSeries training, valid;
    training.faint = !run.valid.empty();
    training.color = valid.color = static_cast<int>(i);
    valid.name = names[i];
    std::map<int64_t, double> tokens_at = {{0, 0.0}};
    const auto x = [&](int64_t step) {
      return flags.x == "steps" ? static_cast<double>(step) : std::prev(tokens_at.upper_bound(step))->second;
    };
    for (const StepMetrics& m : run.steps) {
      tokens_at[m.step] = static_cast<double>(m.tokens);
      training.x.push_back(x(m.step));
      training.y.push_back(m.ce * scale);
    }
    for (const ValidMetrics& m : run.valid) {
      valid.x.push_back(x(m.step));
      valid.y.push_back(m.ce * scale);
    }
    Smooth(training.x, training.y, kPoints);
    for (size_t k = training.y.size() / 20; k < training.y.size(); ++k) top = std::max(top, training.y[k]);
    if (run.valid.empty()) {
      training.name = names[i] + " (training)";
      series.push_back(std::move(training));
    } else {
      series.push_back(std::move(training));
      series.push_back(std::move(valid));
    }
  }
  PlotOptions options{.title = "Validation, and training (faint)",
                      .x_label = flags.x == "steps" ? "step" : "tokens",
                      .y_label = bytes ? "bits/byte" : "nats a token"};
  if (std::isfinite(top)) options.y_max = top;
  WriteFileAtomically(flags.svg, SvgPlot(series, options));
}

// The folders' own names, or the whole paths where two are the same.
std::vector<std::string> NamesOf(const std::vector<RunSummary>& runs, const std::vector<std::string>& paths) {
  std::vector<std::string> names;
  for (const RunSummary& run : runs) names.push_back(run.name);
  for (size_t i = 0; i < runs.size(); ++i) {
    if (std::count_if(runs.begin(), runs.end(), [&](const RunSummary& r) { return r.name == runs[i].name; }) > 1) {
      names[i] = paths[i];
    }
  }
  return names;
}

void CompareRuns(const CompareFlags& flags) {
  std::vector<RunSummary> runs;
  for (const std::string& path : flags.paths) runs.push_back(ReadRun(path));
  const std::vector<std::string> names = NamesOf(runs, flags.paths), differences = DifferencesOf(runs);
  for (const std::string& difference : differences) Note("the runs differ in " + difference);
  if (!flags.svg.empty()) WriteCurves(runs, names, flags);
  if (flags.json) {
    OrderedJson json = {{"runs", OrderedJson::array()}, {"differences", differences}};
    for (size_t i = 0; i < runs.size(); ++i) json["runs"].push_back(RunJson(runs[i], flags.paths[i]));
    PrintJson(json);
    return;
  }
  std::vector<Column> columns = {{"", true}};
  std::vector<std::vector<std::string>> rows;
  for (const std::string& row : kRows) rows.push_back({row});
  for (size_t i = 0; i < runs.size(); ++i) {
    columns.push_back({names[i]});
    const std::vector<std::string> column = ColumnOf(runs[i]);
    for (size_t row = 0; row < rows.size(); ++row) rows[row].push_back(column.at(row));
  }
  Print(FormatTable(columns, rows));
}

void RunCompare(const CompareFlags& flags) {
  if (!flags.svg.empty()) CheckCanWrite(flags.svg);
  const auto files = std::count_if(flags.paths.begin(), flags.paths.end(),
                                   [](const std::string& path) { return PathExists(path) && !IsDirectory(path); });
  if (files == 0) return CompareRuns(flags);
  if (files != static_cast<int64_t>(flags.paths.size())) {
    throw CLI::ValidationError("RUN", "expected folders of runs alone, or files of losses by position alone");
  }
  ComparePositions(flags.paths, flags.svg, flags.json);
}

}  // namespace

void AddCompareCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("compare", "Final figures and curves of several runs side by side");
  auto flags = std::make_shared<CompareFlags>();
  command
      ->add_option("RUN", flags->paths,
                   "Folders of runs, finished or not; or files that `taipan score --by-position --json` printed")
      ->required();
  command->add_option("--svg", flags->svg, "Draw the curves of all into one picture")->type_name("FILE");
  command->add_option("--x", flags->x, "What the curves of runs are drawn over")
      ->check(CLI::IsMember({"steps", "tokens"}))
      ->capture_default_str();
  AddJsonFlag(*command, flags->json);
  AddThreadsFlag(*command);
  command->callback([flags] { RunCompare(*flags); });
}

}  // namespace taipan
