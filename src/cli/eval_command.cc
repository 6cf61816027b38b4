// taipan eval: what a model answers to published tasks, to a user's own questions and to texts made by seed.

#include <algorithm>

#include "base/error.h"
#include "base/file_checks.h"
#include "base/files.h"
#include "base/folder_lock.h"
#include "base/signals.h"
#include "cli/commands.h"
#include "cli/eval_internal.h"
#include "cli/flags.h"
#include "cli/model_argument.h"
#include "infer/model_digest.h"

namespace taipan {
namespace {

// As the harness takes it: what the model was made for, where that bounds what it reads.
ContextLimit LimitOf(const EvalFlags& flags, const ModelConfig& config) {
  if (flags.context > 0) return {flags.context, "--context"};
  if (!config.max_position_embeddings || !ReadsEarlierTokens(config)) return {};
  return {*config.max_position_embeddings, "the positions that the model knows (max_position_embeddings)"};
}

// What the results depend on besides the items.
OrderedJson Header(const LanguageModel& model, const EvalFlags& flags) {
  return {{"model_digest", ModelDigest(model)},
          {"dtype", ComputesIn(model)},
          {"kv_dtype", NameIn(flags.kv_dtype)},
          {"budget", flags.budget ? OrderedJson(*flags.budget) : OrderedJson()}};
}

// The items that a folder keeps, a file a task.
class KeptItems {
 public:
  KeptItems(const std::string& folder, const OrderedJson& header, EvalJobs& jobs) : lock_(folder) {
    MakeDirectories(folder + "/items");
    int64_t kept = 0, all = 0;
    for (EvalJob& job : jobs) {
      PreparedTask& task = job.task();
      TakeKept(files_.emplace_back(folder + "/items/" + task.task.name + ".jsonl", header), task);
      kept += std::count_if(task.results.begin(), task.results.end(), [](const auto& r) { return r.has_value(); });
      all += std::ssize(task.items);
    }
    if (kept > 0) Note(fmt::format("{} has {} of {} items: going on", folder, FormatExact(kept), FormatExact(all)));
  }
  ItemsFile* operator[](size_t job) { return &files_[job]; }

 private:
  FolderLock lock_;
  std::deque<ItemsFile> files_;
};

// False where a signal stopped it.
bool AnswerAll(const LanguageModel& model, const ModelText& text, KeptItems* kept, EvalJobs& jobs) {
  int64_t total = 0, done = 0;
  for (const EvalJob& job : jobs) total += job.task().TokensLeft();
  CountProgress progress("evaluating:", total);
  AnswerOptions options;
  options.stop_tokens = text.stop_tokens;
  options.stop = [] { return StopSignal() != 0; };
  options.on_read = [&](int64_t tokens) { progress.Update(done += tokens); };
  for (size_t i = 0; i < jobs.size(); ++i) {
    options.file = kept == nullptr ? nullptr : (*kept)[i];
    EvalJob& job = jobs[i];
    const bool whole = job.needles ? job.needles->Answer(model, options)
                                   : AnswerItems(model, text.tokenizer.get(), options, job.prepared);
    if (!whole) return false;
  }
  progress.Finish();
  return true;
}

void Report(const EvalFlags& flags, const OrderedJson& report) {
  if (!report.at("complete").get<bool>()) {
    Note(fmt::format("stopped by {}: these are the items answered so far{}", SignalName(StopSignal()),
                     flags.out.empty() ? "" : "; the same command goes on"));
  }
  if (!flags.out.empty()) WriteEvalReport(flags.out, report);
  if (flags.json) {
    PrintJson(report);
  } else {
    Print(EvalTables(report));
  }
}

// Returns the exit code.
int RunEval(EvalFlags flags) {
  if (!flags.out.empty()) CheckCanMakeFolder(flags.out);
  if (!flags.text.empty() && flags.text != "-") CheckCanRead(flags.text);
  const Checkpoint checkpoint = OpenModel(flags.model);
  // Numbers that others compare digit by digit stay exact.
  if (flags.dtype == ComputeType::kAuto && !HoldsQuantized(checkpoint.Tensors())) flags.dtype = ComputeType::kF32;
  const std::vector<std::string> names = EvalTaskNames(flags.tasks);
  const bool needs_text = std::any_of(names.begin(), names.end(), NeedsText);
  const ModelText text =
      needs_text ? RequireText(checkpoint, flags.tokenizer) : LoadModelText(checkpoint, flags.tokenizer);
  const ContextLimit limit = LimitOf(flags, checkpoint.config);
  EvalJobs jobs;
  AddJobs(flags, checkpoint, text.tokenizer.get(), limit, jobs);
  LanguageModel model = LoadToRun(checkpoint, flags.dtype);
  UseBudgetIfGiven(model, checkpoint, flags.budget);
  UseKvDType(model, flags.kv_dtype);
  const OrderedJson header = Header(model, flags);
  std::optional<KeptItems> kept;
  if (!flags.out.empty()) kept.emplace(flags.out, header, jobs);
  const NoteStopSignals signals;
  const bool complete = AnswerAll(model, text, kept ? &*kept : nullptr, jobs);
  Report(flags, EvalReportJson(flags, header, limit, jobs, complete));
  return complete ? 0 : 128 + StopSignal();
}

void AddMadeFlags(CLI::App& command, EvalFlags& flags) {
  command
      .add_option("--text", flags.text,
                  "A text to hide facts in, for passkey and needles; default: five sentences again and again")
      ->type_name("FILE");
  command.add_option("--lengths", flags.lengths, "Tokens of these texts; K = 1024, M = 1024 K")
      ->type_name("LIST")
      ->capture_default_str();
  command.add_option("--depths", flags.depths, "At so many places of the text, evenly from its beginning to its end")
      ->type_name("N")
      ->check(WholeNumber(1, 1000))
      ->capture_default_str();
  command
      .add_option("--each", flags.each,
                  "Texts or sequences a setting of tasks that are made by seed; default: 5 texts, 1000 sequences")
      ->type_name("N")
      ->check(WholeNumber(1, int64_t{1} << 20));
  command.add_option("--seed", flags.seed, "Of these tasks")->check(SeedNumber())->capture_default_str();
}

}  // namespace

void AddEvalCommand(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("eval", "Published tasks and your own questions, scored as lm-evaluation-harness does");
  auto flags = std::make_shared<EvalFlags>();
  command->add_option("MODEL", flags->model, "Model directory or .gguf file")->required();
  command->add_option("--tasks", flags->tasks, EvalTasksHelp())->type_name("LIST")->required();
  command->add_option("--data", flags->data, "The folder of published data (docs/evaluation.md says what it holds)")
      ->type_name("DIR");
  command->add_option("--limit", flags->limit, "The first N items of each task; 0: all")
      ->type_name("N")
      ->check(WholeNumber(0, kMostTokens))
      ->capture_default_str();
  command
      ->add_option("--out", flags->out,
                   "A folder for the results (JSON, SVG, a page) and for every item answered: the same command goes on "
                   "where it was stopped")
      ->type_name("FOLDER");
  command
      ->add_option("--context", flags->context,
                   "Tokens that may stand before the last one of an item, whose beginning is cut off; default: the "
                   "model's max_position_embeddings where it has attention, else no end")
      ->type_name("N")
      ->check(WholeNumber(1, kMostTokens));
  AddMadeFlags(*command, *flags);
  AddTokenizerFlag(*command, flags->tokenizer);
  CLI::Option* dtype = AddDTypeFlag(*command, flags->dtype);
  dtype->description(
      "Type of the computation; auto: quantized weights as they are stored, else f32, whose figures are the "
      "same on every CPU; bf16 is faster");
  AddKvDTypeFlag(*command, flags->kv_dtype);
  AddBudgetFlag(*command, flags->budget);
  AddJsonFlag(*command, flags->json);
  AddLoadFlags(*command);
  AddThreadsFlag(*command);
  command->callback([flags, &exit_code] { exit_code = RunEval(*flags); });
}

}  // namespace taipan
