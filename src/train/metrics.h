#pragma once
// RUN_DIR/metrics.jsonl: one line a step, and lines of validation.

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "text/recall_hits.h"

namespace taipan {

// Of the weights before the step's update, except for time.
struct StepMetrics {
  int64_t step = 0;                    // from 1
  double loss = 0;                     // ce + lambda * budget_loss
  double ce = 0;                       // nats a token
  double budget_loss = 0;              // unweighted
  std::vector<double> selected_share;  // a SAL each
  double grad_norm = 0;                // before clipping
  double lr = 0;
  double budget_loss_weight = 0;  // lambda of this step
  int64_t tokens = 0;             // read since the first step
  double seconds = 0;             // spent in steps since the first, over all resumed parts
  double tokens_per_second = 0;   // of this step
  bool skipped = false;           // a spike: the weights stayed as they were
};

struct ValidMetrics {
  int64_t step = 0;                          // updates before
  double ce = 0;                             // nats a token
  double bits_per_byte = 0;                  // NaN where the bytes of a token are not known: null in the file
  int64_t tokens = 0;                        // scored
  std::vector<double> selected_share;        // without noise, a SAL each
  std::vector<double> selected_share_noise;  // with Gumbel noise
  RecallLoss recall;
  double weight = 0, bytes = 0;     // of the scored targets: the sum of their weights; bytes of text, 0: not known
  std::string source;               // of one of several validation data
  std::vector<ValidMetrics> parts;  // one for each of several
};
// All parts as one: means over all tokens.
ValidMetrics Together(std::vector<ValidMetrics> parts);

std::string ToJsonLine(const StepMetrics& m);  // with the line feed
std::string ToJsonLine(const ValidMetrics& m);

// The columns that charts show.
struct MetricsHistory {
  std::vector<double> step, ce, grad_norm, lr, tokens_per_second;
  std::vector<std::vector<double>> selected_share;  // [SAL][step]
  std::vector<double> valid_step, valid_ce;
  std::vector<std::vector<double>> valid_selected_share;  // [SAL][validation], without noise

  void Add(const StepMetrics& m);
  void Add(const ValidMetrics& m);
};

// Keeps the lines up to `last_step` and drops the rest together with a torn last line; a missing file stays missing.
// Returns what the kept lines say. UserError for a complete line that is not of this kind of file.
MetricsHistory CutMetrics(const std::string& path, int64_t last_step);

// Appends lines; each goes to the system at once. What the disk does not take is kept and goes with the next.
class MetricsWriter {
 public:
  explicit MetricsWriter(const std::string& path);
  ~MetricsWriter();
  MetricsWriter(const MetricsWriter&) = delete;
  MetricsWriter& operator=(const MetricsWriter&) = delete;
  // "", or why lines are waiting.
  std::string Write(const std::string& line);
  // To the disk, before a checkpoint counts on the lines before it; UserError where that cannot be. Another thread may
  // write meanwhile.
  void Sync();

 private:
  std::string WriteWaiting();
  const std::string path_;
  int fd_;
  std::mutex mutex_;
  std::string waiting_;
};

}  // namespace taipan
