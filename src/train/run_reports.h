#pragma once
// What a run tells while it trains: metrics.jsonl, charts, the page, samples, event files, metrics.prom. All but the
// lines of metrics.jsonl may fail: a warning, and the next try comes by itself.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "train/event_file.h"
#include "train/layer_statistics.h"
#include "train/metrics.h"
#include "train/settings.h"

namespace taipan {

class RunReports {
 public:
  struct Options {
    std::string folder;  // RUN_DIR
    TrainSettings settings;
    double bytes_per_token = 0;
    std::vector<std::pair<std::string, std::string>> facts = {};  // of the page, before those that change
    std::function<void(const std::string& warning)> say;
  };
  // history: what CutMetrics left. What other files tell of steps after `step` is removed.
  RunReports(Options options, MetricsHistory history, int64_t step);

  void Add(const StepMetrics& m, int64_t skipped_steps);
  void Add(const ValidMetrics& m);
  void Add(int64_t step, const std::vector<LayerStatistics>& layers);
  void AddSample(int64_t step, const std::string& text);
  void Draw();  // the charts and the page, also by itself once a minute
  void Sync() { metrics_.Sync(); }
  const MetricsHistory& history() const { return history_; }

 private:
  void Append(const std::string& line);
  void AddEvents(int64_t step, const Scalars& scalars);
  void WriteProm();
  void Try(const std::function<void()>& write);
  void DrawFiles() const;

  const Options options_;
  const std::string name_;  // of the run
  MetricsHistory history_;
  MetricsWriter metrics_;
  std::unique_ptr<EventFile> events_;
  std::vector<std::pair<int64_t, std::string>> samples_;
  StepMetrics last_;
  std::optional<ValidMetrics> last_valid_;
  int64_t skipped_ = 0;
  double drawn_ = 0, prom_ = 0;                 // when, by the clock
  bool metrics_wait_ = false, warned_ = false;  // said once, until it works again
};

}  // namespace taipan
