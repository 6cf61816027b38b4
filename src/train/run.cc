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
#include "train/curve.h"
#include "train/fit.h"
#include "train/rate_range.h"
#include "train/run_changes.h"
#include "train/run_data.h"
#include "train/run_folder.h"
#include "train/run_progress.h"
#include "train/run_ranks.h"
#include "train/run_validation.h"
#include "train/schedule.h"

namespace taipan {
namespace {

bool Interrupted() { return StopSignal() != 0; }

class Run {
 public:
  Run(const RunRequest& request, const RunHooks& hooks);
  RunEnd Go();

 private:
  void ReadFolder();
  void PassOverDamaged() const;
  ModelConfig ChooseConfig();
  void CheckContinues(const ModelConfig& config) const;
  std::string SavedConfig() const;
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
  bool RangeIsOver() const { return !settings_.lr_range.empty() && RangeOf(history_, settings_).over; }
  bool Done() const { return AtEnd() && !owes_validation_; }
  bool OwesValidation() const;
  TrainingEnd EndNow(bool timed_out) const;
  void Report(const StepMetrics& m);
  void Validate(int64_t max_tokens, RunProgress& progress);
  void Save(const TrainingEnd& end);
  void WriteState(const TrainingEnd& end) const;
  void GiveUp(const std::string& error);
  void WarnOfChangedData(RunProgress& progress);
  void DrawCurve() const;

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
  int64_t saved_step_ = 0;  // of the newest checkpoint
  MetricsHistory history_;
  std::unique_ptr<MetricsWriter> metrics_;
  std::optional<NoteStopSignals> signals_;  // from the first file on
  double bytes_per_token_ = 0;
  bool owes_validation_ = false;  // a signal cut the one after this step
  bool warned_of_data_ = false;
};

Run::Run(const RunRequest& request, const RunHooks& hooks)
    : request_(request),
      hooks_(hooks),
      ranks_(hooks.ranks ? *hooks.ranks : OneRank()),
      folder_(request.settings.out),
      lock_(folder_),
      checkpoints_(folder_, request.settings.keep) {
  ReadFolder();
  const ModelConfig config = ChooseConfig();
  const Group& group = ranks_.group();
  CheckRanks(settings_, group.size());
  CheckFits(config, settings_, AvailableMemoryBytes() / group.on_machine(), group.size());
  InviteRanks(ranks_, settings_, config, tokenizer_folder_, data_);

  bytes_per_token_ = data_.first() ? BytesPerToken(*data_.first(), data_.text.tokenizer.get()) : 0;
  trainer_ = std::make_unique<ModelTrainer>(choice_.newest ? LanguageModel(config) : FirstModel(config), settings_,
                                            MakeSource(settings_, data_), ranks_);
  if (choice_.newest) trainer_->Load(choice_.newest->path);
  saved_step_ = trainer_->step();
  CheckSteps(settings_, saved_step_);
  owes_validation_ = OwesValidation();
}

// A signal cuts a validation short, so that the run ends soon; the resumed run makes up for it.
bool Run::OwesValidation() const {
  const int64_t step = trainer_->step();
  if (data_.valid.empty() || step == 0 || !(AtEnd() || Due(settings_.valid_every.value()))) return false;
  return LacksValidation(folder_ + "/metrics.jsonl", step);
}

// What there is to continue; nothing is changed yet.
void Run::ReadFolder() {
  const FolderContent content = LookAtFolder(folder_);
  if (content == FolderContent::kOther || (content == FolderContent::kRun && !request_.resume)) {
    if (request_.resume) throw UserError({folder_, "nothing to resume, the folder has no run.json", "a new folder"});
    throw UserError({.where = folder_,
                     .problem = "the folder already holds a run",
                     .expected = "a new folder",
                     .hint = "--resume continues it"});
  }
  continues_ = content == FolderContent::kRun;
  if (!continues_) return;
  ReadSavedRun(folder_ + "/run.json", saved_);
  choice_ = checkpoints_.Choose();
  PassOverDamaged();
}

// Says which checkpoints cannot be continued from; throws where no other is left.
void Run::PassOverDamaged() const {
  for (const DamagedCheckpoint& d : choice_.damaged) LogWarning("{} is damaged: {}", d.checkpoint.path, d.why);
  if (choice_.newest || choice_.damaged.empty()) return;
  std::string all;
  for (const DamagedCheckpoint& d : choice_.damaged) {
    all += fmt::format("{}step-{}: {}", all.empty() ? "" : "; ", d.checkpoint.step, d.why);
  }
  throw UserError({folder_ + "/checkpoints", "no checkpoint is complete, nothing was changed", "one to resume from",
                   all,
                   fmt::format("put back a copy of one; or train on from the newest weights with --model {0}/model and "
                               "another --out; or move {0}/checkpoints away to begin again at step 0",
                               folder_)});
}

// The config that the run was begun with, "" where it is not known.
std::string Run::SavedConfig() const {
  const std::string config = (choice_.newest ? choice_.newest->path : folder_) + "/model/config.json";
  return continues_ && PathExists(config) ? config : "";
}

// Resolves the settings and opens the data on the way: the vocabulary may follow the tokenizer.
ModelConfig Run::ChooseConfig() {
  const std::string saved_config = choice_.newest ? SavedConfig() : "";
  if (!request_.config && saved_config.empty()) {
    throw UserError({"--model", "no model to train", "a preset, a model directory or a config file"});
  }
  ModelConfig config = request_.config ? *request_.config : LoadModelConfig(saved_config);
  TrainSettings asked = continues_ ? InheritSettings(request_.settings, saved_) : request_.settings;
  if (asked.vocab_size) config.vocab_size = *asked.vocab_size;
  const bool vocabulary_follows = request_.preset && !asked.vocab_size;
  if (!SavedConfig().empty()) {
    CheckSameArchitecture(LoadModelConfig(SavedConfig()), config, !vocabulary_follows, SavedConfig());
  }
  settings_ = ResolveSettings(asked, config, /*new_weights=*/!request_.weights);
  if (continues_) {
    CheckSameSettings(saved_, settings_, folder_ + "/run.json");
    FitDecay(saved_, choice_.newest ? choice_.newest->step : 0, settings_);
  } else {  // a run that is shortened keeps its own
    CheckWarmUp(settings_);
  }
  // A run keeps its tokenizer beside its model, so it does not depend on the folder that the first weights came from.
  const std::string own_model = (choice_.newest ? choice_.newest->path : folder_) + "/model";
  const std::string first_model = request_.weights ? request_.weights->path : "";
  tokenizer_folder_ = continues_ && IsDirectory(own_model) ? own_model : first_model;
  data_ = OpenData(settings_, tokenizer_folder_, config, vocabulary_follows);
  config.vocab_size = data_.vocab_size;
  config = ApplySettings(config, settings_);
  if (!request_.weights && settings_.mup_base_width > 0) config.logits_scaling = WidthRatio(settings_, config);
  ValidateModelConfig(config, settings_.model);
  if (continues_) CheckContinues(config);
  return config;
}

// Throws where the data or the model is another than the run was begun with.
void Run::CheckContinues(const ModelConfig& config) const {
  CheckSameEos(saved_.eos, settings_.eos, folder_ + "/run.json");
  CheckStamps(data_.stamps, folder_ + "/data.json");
  if (choice_.newest) CheckSameConfig(LoadModelConfig(SavedConfig()), config, SavedConfig());
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
  metrics_ = std::make_unique<MetricsWriter>(folder_ + "/metrics.jsonl");
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
  history_ = CutMetrics(folder_ + "/metrics.jsonl", step);
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
      LogInfo("{}; {}/lr-range.svg", taipan::Describe(RangeOf(history_, settings_)), folder_);
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
    metrics_.reset();
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
  RunProgress progress(settings_, bytes_per_token_, trainer_->step(), trainer_->seconds(),
                       hooks_.roof && ranks_.group().alone() ? hooks_.roof(trainer_->model().config(), settings_) : 0);
  try {
    return LoopSteps(progress);
  } catch (const DataChanged& error) {
    progress.Finish();
    // The weights are those of a whole step: kept, though the data for the next is gone.
    if (trainer_->step() > saved_step_) Save({.ended = "failed", .error = error.what()});
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
    const StepMetrics m = trainer_->Step();
    Report(m);
    progress.Show(m);
    const bool timed_out = settings_.time_limit > 0 && NowSeconds() - begin >= settings_.time_limit;
    const bool last = AtEnd() || timed_out || RangeIsOver();
    if (!data_.valid.empty() && (last || Due(settings_.valid_every.value()))) {
      Validate(last ? 16 * settings_.valid_tokens : settings_.valid_tokens, progress);
    }
    if (hooks_.sample && (Due(settings_.sample_every) || (last && settings_.sample_every > 0)) && !Interrupted()) {
      progress.Finish();
      const ModelTrainer::Averaged averaged(*trainer_);
      hooks_.sample(trainer_->model(), data_.text.tokenizer.get(), m.step);
    }
    const bool interrupted = Interrupted();
    if (last || interrupted || Due(settings_.save_every)) {
      Save(EndNow(timed_out));
      WarnOfChangedData(progress);
    }
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

void Run::Report(const StepMetrics& m) {
  metrics_->Write(ToJsonLine(m));
  history_.Add(m);
}

void Run::Validate(int64_t max_tokens, RunProgress& progress) {
  const std::optional<ValidMetrics> m =
      ValidateParts(*trainer_, data_.valid, data_.text.tokenizer.get(), max_tokens, Interrupted);
  owes_validation_ = !m;
  if (!m) return;
  metrics_->Write(ToJsonLine(*m));
  history_.Add(*m);
  progress.Print(ValidationLine(*m));
  for (const ValidMetrics& part : m->parts) progress.Print(ValidationLine(part));
  DrawCurve();
}

void Run::Save(const TrainingEnd& end) {
  metrics_->Sync();
  const SavedStep done = checkpoints_.Write(trainer_->step(), [&](const std::string& directory) {
    trainer_->Save(directory, end);
    data_.text.WriteFiles(directory + "/model");
  });
  saved_step_ = done.step;
  PublishFolder(done.path + "/model", folder_ + "/model");
  WriteState(end);
  DrawCurve();
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

void Run::DrawCurve() const {
  WriteCurve(history_, bytes_per_token_, settings_, folder_ + "/curve.svg");
  if (!settings_.lr_range.empty()) DrawRange(RangeOf(history_, settings_), folder_ + "/lr-range.svg");
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
