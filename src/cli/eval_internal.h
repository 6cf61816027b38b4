#pragma once
// What the parts of `taipan eval` share.

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "cli/output.h"
#include "eval/needles.h"
#include "eval/run.h"
#include "model/checkpoint.h"
#include "model/default_dtype.h"

namespace taipan {

struct EvalFlags {
  std::string model, tokenizer, tasks, data, out;
  ComputeType dtype = ComputeType::kAuto;
  KvType kv_dtype = KvType::kAuto;
  std::optional<double> budget;
  int64_t limit = 0, context = 0;
  std::string text, lengths = "1K,4K,16K";  // of needles
  int64_t depths = 5, each = 0;
  uint64_t seed = 0;
  bool json = false;
};

// A task, or one whose texts are made while it runs.
struct EvalJob {
  PreparedTask prepared = {};
  std::optional<NeedleTask> needles = {};

  PreparedTask& task() { return needles ? needles->prepared() : prepared; }
  const PreparedTask& task() const { return needles ? needles->prepared() : prepared; }
};
using EvalJobs = std::deque<EvalJob>;

// The tasks that `--tasks` names: read, as tokens, and checked, before anything is computed. tokenizer: null where the
// model has none, which is a UserError for tasks of text.
std::vector<std::string> EvalTaskNames(const std::string& list);
bool NeedsText(const std::string& task);
void AddJobs(const EvalFlags& flags, const Checkpoint& checkpoint, const Tokenizer* tokenizer,
             const ContextLimit& limit, EvalJobs& jobs);
std::string EvalTasksHelp();

OrderedJson EvalReportJson(const EvalFlags& flags, const OrderedJson& header, const ContextLimit& limit,
                           const EvalJobs& jobs, bool complete);
std::string EvalTables(const OrderedJson& report);
void WriteEvalReport(const std::string& folder, const OrderedJson& report);

}  // namespace taipan
