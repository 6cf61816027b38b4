#include "train/run.h"

#include "base/clock.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/files.h"
#include "base/folder_lock.h"
#include "base/logging.h"
#include "base/signals.h"
#include "base/temporary.h"
#include "model/config_validate.h"
#include "model/hf_config.h"
#include "model/model_files.h"
#include "model/parameters.h"
#include "train/checkpoints.h"
#include "train/fit.h"
#include "train/rate_range.h"
#include "train/run_changes.h"
#include "train/run_data.h"
#include "train/run_folder.h"
#include "train/run_opening.h"
#include "train/run_progress.h"
#include "train/run_ranks.h"
#include "train/run_reports.h"
#include "train/run_validation.h"
#include "train/schedule.h"

namespace taipan {
namespace {

constexpr int64_t kMostRewinds = 10;  // of a run: it does not learn from them

// What the page of a run begins with.
std::vector<std::pair<std::string, std::string>> FactsOf(const ModelConfig& config, const TrainSettings& s,
                                                         const RunData& data) {
  return {
      {"model", fmt::format("{}, {} parameters, computed in {}", s.model, CountParameters(config), NameIn(s.dtype))},
      {"data", data.Describe()},
      {"tokens a step", fmt::format("{} sequences of {}", s.batch_size, s.context)},
      {"optimizer", fmt::format("{}, {} to {:.3g}, {:.3g} at the end", NameIn(s.optimizer), NameIn(s.schedule),
                                s.learning_rate, s.min_learning_rate.value())}};
}

bool Interrupted() { return StopSignal() != 0; }

class Run {
 public:
  Run(const RunRequest& request, const RunHooks& hooks);
  RunEnd Go();

 private:
  LanguageModel FirstModel(const ModelConfig& config) const;
  void OpenFolder();
  void BeginFolder();
  void ContinueFolder();
  void PublishFirstModel();
  RunEnd Loop();
  RunEnd LoopSteps(RunProgress& progress);
  std::string Describe(RunEnd end) const;
  bool Due(int64_t every) const { return every > 0 && trainer_->step() % every == 0; }
  bool AtEnd() const { return trainer_->step() >= settings_.steps; }
  // A range test's loss has risen so far that larger rates say no more.
  bool RangeIsOver() const { return !settings_.lr_range.empty() && RangeOf(reports_->history(), settings_).over; }
  bool Done() const { return AtEnd() && !owes_validation_; }
  bool OwesValidation() const;
  TrainingEnd EndNow(bool timed_out) const;
  void Validate(int64_t max_tokens, RunProgress& progress);
  void OpenSaver(RunProgress& progress);
  void Save(const TrainingEnd& end);
  void Rewind(RunProgress& progress);
  void WriteCheckpoint(int64_t step, const TrainingSnapshot& snapshot);
  void WriteState(const TrainingEnd& end) const;
  void GiveUp(const std::string& error);
  void WarnOfChangedData(RunProgress& progress);
  void OpenReports(MetricsHistory history);

  const RunRequest request_;
  const RunHooks hooks_;
  Ranks& ranks_;
  const std::string folder_;
  const FolderLock lock_;  // while anything below lives
  Checkpoints checkpoints_;
  bool continues_ = false;   // a run that made steps before
  CheckpointChoice choice_;  // of what to continue from
  TrainSettings saved_;      // of the run that is continued
  TrainSettings settings_;   // resolved
  RunData data_;
  std::string tokenizer_folder_;  // of a model that brings its own
  std::unique_ptr<ModelTrainer> trainer_;
  std::unique_ptr<RunReports> reports_;
  bool background_ = true;                  // memory has room for a copy of what a checkpoint holds
  std::optional<NoteStopSignals> signals_;  // from the first file on
  double bytes_per_token_ = 0;
  bool owes_validation_ = false;  // a signal cut the one after this step
  bool warned_of_data_ = false;
  std::function<void(const std::string&)> say_ = [](const std::string& text) { LogWarning("{}", text); };
  std::unique_ptr<RunSaver> saver_;  // while it trains; writes with what stands above
};

Run::Run(const RunRequest& request, const RunHooks& hooks)
    : request_(request),
      hooks_(hooks),
      ranks_(hooks.ranks ? *hooks.ranks : OneRank()),
      folder_(request.settings.out),
      lock_(folder_),
      checkpoints_(folder_, request.settings.keep) {
  RunOpening opened = OpenRun(request_, checkpoints_);
  continues_ = opened.continues;
  choice_ = std::move(opened.choice);
  saved_ = std::move(opened.saved);
  settings_ = std::move(opened.settings);
  data_ = std::move(opened.data);
  const ModelConfig& config = opened.config;
  checkpoints_ = Checkpoints(folder_, {.newest = settings_.keep,
                                       .every = settings_.keep_every,
                                       .rewind = settings_.spike_guard > 0 ? settings_.rewind : 0,
                                       .save_every = settings_.save_every});
  const Group& group = ranks_.group();
  CheckRanks(settings_, config, group.size());
  const int64_t available = AvailableMemoryBytes() / group.on_machine();
  CheckFits(config, settings_, available, group.size());
  background_ = HasRoomForCopy(config, settings_, available, group.size());
  InviteRanks(ranks_, settings_, config, opened.tokenizer_folder, data_);

  bytes_per_token_ = data_.first() ? BytesPerToken(*data_.first(), data_.text.tokenizer.get()) : 0;
  trainer_ = std::make_unique<ModelTrainer>(choice_.newest ? LanguageModel(config) : FirstModel(config), settings_,
                                            MakeSource(settings_, data_), ranks_);
  if (choice_.newest) trainer_->Load(choice_.newest->path);
  CheckSteps(settings_, trainer_->step());
  owes_validation_ = OwesValidation();
}

// A signal cuts a validation short, so that the run ends soon; the resumed run makes up for it.
bool Run::OwesValidation() const {
  const int64_t step = trainer_->step();
  if (data_.valid.empty() || step == 0 || !(AtEnd() || Due(settings_.valid_every.value()))) return false;
  return LacksValidation(folder_ + "/metrics.jsonl", step);
}

// The weights of step 0.
LanguageModel Run::FirstModel(const ModelConfig& config) const {
  LanguageModel model(config);
  if (request_.weights) {
    LoadWeights(model, *request_.weights);
  } else {
    model.Initialise(static_cast<uint64_t>(settings_.seed), settings_.gate_bias);
    ScaleNewWeights(model.params(), WidthRatio(settings_, config));
  }
  return model;
}

void Run::OpenFolder() {
  signals_.emplace();
  MakeDirectories(folder_);
  if (continues_) {
    ContinueFolder();
  } else {
    BeginFolder();
  }
  if (Done()) return;
  SaveStamps(data_.stamps, folder_ + "/data.json");
  WriteState({});
  OpenReports(CutMetrics(folder_ + "/metrics.jsonl", trainer_->step()));
}

void Run::OpenReports(MetricsHistory history) {
  RunReports::Options options{.folder = folder_,
                              .settings = settings_,
                              .bytes_per_token = bytes_per_token_,
                              .facts = FactsOf(trainer_->model().config(), settings_, data_),
                              .say = [this](const std::string& text) { say_(text); }};
  reports_.reset();
  reports_ = std::make_unique<RunReports>(std::move(options), std::move(history), trainer_->step());
}

void Run::BeginFolder() {
  if (request_.resume) LogInfo("{} holds no run: begins at step 0", folder_);
  RemoveNeverTrained(folder_);
  WriteFileAtomically(folder_ + "/run.json", WriteFields(settings_));
  PublishFirstModel();
}

// Says what is different from here on.
void Run::ContinueFolder() {
  const int64_t step = trainer_->step();
  RemoveLeftovers(folder_);
  if (choice_.newest) PublishFolder(choice_.newest->path + "/model", folder_ + "/model");
  if (Done()) return;
  CutMetrics(folder_ + "/metrics.jsonl", step);  // names a damaged line before anything is written
  if (step > 0) LogInfo("resumes {} after step {}", folder_, step);
  if (step == 0) LogInfo("{} has no checkpoint: begins again at step 0", folder_);
  for (const DamagedCheckpoint& d : choice_.damaged) {
    LogWarning("the damaged {} is kept as {}", d.checkpoint.path, checkpoints_.SetAside(d.checkpoint));
  }
  NoteChanges(saved_, settings_, step + 1);
  if (WriteFields(settings_) != WriteFields(saved_)) {
    WriteFileAtomically(folder_ + "/run.json", WriteFields(settings_));
  }
  if (step == 0) PublishFirstModel();
}

void Run::PublishFirstModel() {
  const std::string first = folder_ + "/.first-model";
  const RemovedBySignal until_done(first);
  MakeDirectories(first);
  SaveModel(trainer_->model(), first);
  data_.text.WriteFiles(first);
  const std::string kept = SetOtherModelAside(folder_ + "/model", first);
  if (!kept.empty()) LogInfo("the model that was trained before is kept as {}", kept);
  PublishFolder(first, folder_ + "/model");
  RemoveTree(first);
}

RunEnd Run::Go() {
  const bool finished_before = Done();
  try {
    OpenFolder();
    if (finished_before) {
      LogInfo("{} is finished: all {} steps are done", folder_, settings_.steps);
      WriteState({.ended = "finished"});
      return RunEnd::kAlreadyFinished;
    }
    LogInfo("trains {} parameters in {} on {} (tokenizer {}, end of text {}){}{}",
            CountParameters(trainer_->model().config()), NameIn(settings_.dtype), data_.Describe(), data_.text.source,
            NameOfEos(data_.eos, data_.text.tokenizer.get()),
            ranks_.group().alone() ? "" : fmt::format(", {} ranks", ranks_.group().size()),
            data_.valid.empty() ? std::string() : ", validates on " + DescribeParts(data_.valid));
    if (data_.valid.empty())
      LogInfo("no validation data, the loss is that of training (--valid-data, or --valid-split 0.05)");
    const RunEnd end = Loop();
    if (!settings_.lr_range.empty())
      LogInfo("{}; {}/lr-range.svg", taipan::Describe(RangeOf(reports_->history(), settings_)), folder_);
    LogInfo("{}; the model is in {}/model", Describe(end), folder_);
    return end;
  } catch (const std::exception& error) {
    if (!finished_before) GiveUp(error.what());
    throw;
  }
}

// A run that fails leaves nothing where it made no step, so that the next try finds what this one found; else it says
// in trainer.json that it failed. The error on its way out is the one that counts: none from here.
void Run::GiveUp(const std::string& error) {
  try {
    reports_.reset();
    if (trainer_->step() > 0) {
      WriteState({.ended = "failed", .error = error});
    } else if (LookAtFolder(folder_) == FolderContent::kNeverTrained) {
      RemoveNeverTrained(folder_);
    }
  } catch (const std::exception&) {
  }
}

// How the run ended, the last line that it prints.
std::string Run::Describe(RunEnd end) const {
  if (end == RunEnd::kFinished) return "finished";
  const std::string reason = end == RunEnd::kTimeLimit ? "--time-limit" : SignalName(StopSignal());
  return fmt::format("stopped by {} after step {} of {}, saved; --resume continues", reason, trainer_->step(),
                     settings_.steps);
}

RunEnd Run::Loop() {
  RunProgress progress(settings_, bytes_per_token_, trainer_->step(), trainer_->seconds(), [this](bool again) {
    return hooks_.roof && ranks_.group().alone() ? hooks_.roof(trainer_->model().config(), settings_, again) : 0.0;
  });
  OpenSaver(progress);
  const auto close = [](Run* run) { run->saver_.reset(), run->say_ = [](const std::string&) {}; };
  const std::unique_ptr<Run, decltype(close)> until_done(this, close);  // before the line that it speaks above
  try {
    return LoopSteps(progress);
  } catch (const DataChanged& error) {
    progress.Finish();
    saver_->Wait();
    // The weights are those of a whole step: kept, though the data for the next is gone.
    if (trainer_->step() > saver_->saved_step()) Save({.ended = "failed", .error = error.what()});
    throw;
  }
}

RunEnd Run::LoopSteps(RunProgress& progress) {
  const double begin = NowSeconds();
  if (owes_validation_) {
    Validate(AtEnd() ? 16 * settings_.valid_tokens : settings_.valid_tokens, progress);
    if (AtEnd() || Interrupted()) {
      WriteState(EndNow(/*timed_out=*/false));
      return Done() ? RunEnd::kFinished : RunEnd::kInterrupted;
    }
  }
  for (;;) {
    if (trainer_->wants_rewind()) Rewind(progress);
    const StepMetrics m = trainer_->Step();
    reports_->Add(m, trainer_->skipped_steps());
    progress.Show(m);
    if (Due(settings_.layer_stats_every)) reports_->Add(m.step, trainer_->Layers());
    if (m.skipped) progress.Print(SkippedLine(m));
    if (trainer_->wants_rewind() && !Interrupted()) continue;
    const bool timed_out = settings_.time_limit > 0 && NowSeconds() - begin >= settings_.time_limit;
    const bool last = AtEnd() || timed_out || RangeIsOver();
    if (!data_.valid.empty() && (last || Due(settings_.valid_every.value()))) {
      Validate(last ? 16 * settings_.valid_tokens : settings_.valid_tokens, progress);
    }
    if (hooks_.sample && (Due(settings_.sample_every) || (last && settings_.sample_every > 0)) && !Interrupted()) {
      progress.Finish();
      const ModelTrainer::Averaged averaged(*trainer_);
      reports_->AddSample(m.step, hooks_.sample(trainer_->model(), data_.text.tokenizer.get(), m.step));
    }
    const bool interrupted = Interrupted();
    const bool due = Due(settings_.save_every);
    if (last || interrupted) {
      Save(EndNow(timed_out));
    } else {
      saver_->AfterStep(m.step, due, [&] { return trainer_->Snapshot(); });
      if (due) reports_->Draw();
    }
    if (last || interrupted || due) WarnOfChangedData(progress);
    if (Done() || RangeIsOver()) return RunEnd::kFinished;
    if (interrupted) return RunEnd::kInterrupted;
    if (timed_out) return RunEnd::kTimeLimit;
  }
}

TrainingEnd Run::EndNow(bool timed_out) const {
  if (Done() || RangeIsOver()) return {.ended = "finished"};
  if (Interrupted()) return {.ended = "signal", .signal = SignalName(StopSignal())};
  return {.ended = timed_out ? "time_limit" : "running"};
}

void Run::Validate(int64_t max_tokens, RunProgress& progress) {
  const std::optional<ValidMetrics> m =
      ValidateParts(*trainer_, data_.valid, data_.text.tokenizer.get(), max_tokens, Interrupted);
  owes_validation_ = !m;
  if (!m) return;
  reports_->Add(*m);
  progress.Print(ValidationLine(*m));
  for (const ValidMetrics& part : m->parts) progress.Print(ValidationLine(part));
}

void Run::OpenSaver(RunProgress& progress) {
  say_ = [&progress](const std::string& text) { progress.Print(text); };
  if (!background_) LogInfo("checkpoints are written between steps: memory has no room for a copy of the weights");
  RunSaver::Options options{.background = background_,
                            .punctual = settings_.rewind > 0,
                            .patience = hooks_.patience,
                            .saved_step = trainer_->step(),
                            .write = [this](int64_t step, const TrainingSnapshot& s) { WriteCheckpoint(step, s); },
                            .say = say_};
  saver_ = std::make_unique<RunSaver>(std::move(options));
}

// Of the last step: nothing goes on until it is written.
void Run::Save(const TrainingEnd& end) {
  saver_->Finish(
      trainer_->step(), [&] { return trainer_->Snapshot(end); }, Interrupted);
  reports_->Draw();
}

// Goes back to the newest checkpoint that is old enough. What was saved after it is of weights that led to the spikes.
void Run::Rewind(RunProgress& progress) {
  saver_->Wait();
  const int64_t step = trainer_->step(), latest = step - settings_.rewind;
  const std::optional<SavedStep> to = checkpoints_.RewindTarget(latest);
  if (!to || trainer_->rewinds() == kMostRewinds) {
    throw UserError({fmt::format("step {}", step), fmt::format("{} steps in a row were spikes", settings_.rewind_after),
                     to ? fmt::format("at most {} rewinds", kMostRewinds)
                        : fmt::format("a checkpoint of step {} or before to go back to", latest),
                     to ? "another" : "none", "lower --learning-rate, or save more often and --keep more"});
  }
  progress.Print(fmt::format(
      "step {}: {} steps in a row were spikes; goes back to step {} and on with the data behind them{}", step,
      settings_.rewind_after, to->step, settings_.state == StateStart::kCarry ? "; states begin afresh" : ""));
  trainer_->RewindTo(to->path);
  checkpoints_.RemoveAfter(to->step);
  reports_.reset();
  OpenReports(CutMetrics(folder_ + "/metrics.jsonl", to->step));
  progress.Restart(to->step, trainer_->seconds());
  OpenSaver(progress);
}

// Perhaps in another thread, while training goes on.
void Run::WriteCheckpoint(int64_t step, const TrainingSnapshot& snapshot) {
  reports_->Sync();
  const SavedStep done = checkpoints_.Write(step, [&](const std::string& directory) {
    snapshot.Write(directory);
    data_.text.WriteFiles(directory + "/model");
  });
  PublishFolder(done.path + "/model", folder_ + "/model");
  WriteFileAtomically(folder_ + "/trainer.json", snapshot.texts.back().second);
}

void Run::WriteState(const TrainingEnd& end) const {
  WriteFileAtomically(folder_ + "/trainer.json", trainer_->StateText(end));
}

// Files that were copied when they were opened are not read again, but a resumed run will.
void Run::WarnOfChangedData(RunProgress& progress) {
  if (warned_of_data_) return;
  try {
    data_.CheckUnchanged();
  } catch (const DataChanged& error) {
    progress.Print(fmt::format("warning: {}; this run goes on with what it holds in memory", error.what()));
    warned_of_data_ = true;
  }
}

}  // namespace

TrainSettings RequestedSettings(const std::string& run_file, const Json& given, bool resume) {
  const auto read_over = [&](TrainSettings settings) {
    if (!run_file.empty()) ReadRunFile(run_file, settings);
    ReadRunKeys(given, "the command line", settings);
    return settings;
  };
  TrainSettings defaults;
  defaults.dtype = ComputeType::kAuto;  // a command's default; the library computes in f32 unless told otherwise
  const TrainSettings asked = read_over(defaults);
  const std::string saved_file = asked.out + "/run.json";
  if (!resume || asked.out.empty() || !PathExists(saved_file)) return asked;
  TrainSettings saved;
  ReadSavedRun(saved_file, saved);
  return read_over(saved);
}

RunEnd RunTraining(const RunRequest& request, const RunHooks& hooks) { return Run(request, hooks).Go(); }

}  // namespace taipan
