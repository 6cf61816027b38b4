#include "train/run.h"

#include <chrono>

#include "base/cpu.h"
#include "base/error.h"
#include "base/files.h"
#include "base/logging.h"
#include "model/model_files.h"
#include "train/checkpoints.h"
#include "train/curve.h"
#include "train/fit.h"
#include "train/interrupt.h"
#include "train/run_progress.h"
#include "train/run_text.h"

namespace taipan {
namespace {

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// What a run needs beside its trainer.
struct RunData {
  RunTokenizer text;
  std::unique_ptr<Corpus> train, valid;  // valid may be null
  std::vector<FileStamp> stamps;         // of the training data and the tokenizer's files
};

// follow: the vocabulary is the tokenizer's, where there is one.
RunData OpenData(const TrainSettings& settings, const std::string& model_directory, int64_t vocab_size, bool follow) {
  RunData data;
  data.text = ChooseTokenizer(settings, model_directory);
  if (follow && data.text.tokenizer) vocab_size = data.text.tokenizer->vocab_size();
  CheckVocabulary(data.text, vocab_size, settings.model);
  if (settings.data.empty()) throw UserError({"--data", "no data to train on", "at least one path", "none", ""});
  const Tokenizer* tokenizer = data.text.tokenizer.get();
  data.train = std::make_unique<Corpus>(settings.data, tokenizer, vocab_size);
  data.stamps = data.train->stamps();
  for (const auto& [name, content] : data.text.files) {
    const int64_t bytes = static_cast<int64_t>(content.size());
    data.stamps.push_back({name, bytes, HashContent(content.data(), bytes)});
  }
  if (settings.valid_data.empty()) return data;
  data.valid = std::make_unique<Corpus>(settings.valid_data, tokenizer, vocab_size);
  if (data.valid->size() < 2) {
    throw UserError({settings.valid_data[0], "too short to validate on", "at least 2 tokens",
                     fmt::format("{}", data.valid->size()), ""});
  }
  return data;
}

class Run {
 public:
  Run(const RunRequest& request, const RunHooks& hooks);
  RunEnd Go();

 private:
  ModelConfig ChooseConfig(bool continues, const std::string& newest_config);
  void CheckContinues(const ModelConfig& config, const std::string& newest_config) const;
  void OpenFolder(bool continues);
  Model FirstModel(const ModelConfig& config) const;
  RunEnd Loop();
  bool Due(int64_t every) const { return every > 0 && trainer_->step() % every == 0; }
  bool AtEnd() const { return trainer_->step() >= settings_.steps; }
  void Report(const StepMetrics& m);
  void Validate(int64_t max_tokens, RunProgress& progress);
  void Save();
  void DrawCurve() const;

  const RunRequest request_;
  const RunHooks hooks_;
  const std::string folder_;
  Checkpoints checkpoints_;
  TrainSettings settings_;  // resolved
  RunData data_;
  std::unique_ptr<Trainer> trainer_;
  MetricsHistory history_;
  std::unique_ptr<MetricsWriter> metrics_;
  double bytes_per_token_ = 0;
  bool finished_before_ = false;
};

bool HoldsRun(const std::string& folder) {
  for (const char* name : {"/run.json", "/metrics.jsonl", "/checkpoints", "/model"}) {
    if (PathExists(folder + name)) return true;
  }
  return false;
}

Run::Run(const RunRequest& request, const RunHooks& hooks)
    : request_(request), hooks_(hooks), folder_(request.settings.out), checkpoints_(folder_, request.settings.keep) {
  const bool continues = request.resume && PathExists(folder_ + "/run.json");
  if (!continues && HoldsRun(folder_)) {
    throw UserError(
        {folder_, request.resume ? "nothing to resume, the folder has no run.json" : "the folder already holds a run",
         "a new folder", "", request.resume ? "" : "--resume continues it"});
  }
  const std::optional<Checkpoint> newest = continues ? checkpoints_.Newest() : std::nullopt;
  const std::string newest_config = newest ? newest->path + "/model/config.json" : "";
  const ModelConfig config = ChooseConfig(continues, newest_config);
  if (continues) CheckContinues(config, newest_config);
  CheckFits(config, settings_, AvailableMemoryBytes());

  const WindowOrder order = settings_.order == "sequential" ? WindowOrder::kSequential : WindowOrder::kShuffled;
  const WindowLoader loader(*data_.train, settings_.context, settings_.batch_size, order,
                            static_cast<uint64_t>(settings_.seed));
  bytes_per_token_ = BytesPerToken(*data_.train, data_.text.tokenizer.get());
  trainer_ = std::make_unique<Trainer>(newest ? Model(config) : FirstModel(config), settings_,
                                       std::make_shared<CorpusSource>(loader));
  if (newest) trainer_->Load(newest->path);
  finished_before_ = AtEnd();
  OpenFolder(continues);
}

// Resolves the settings and opens the data on the way: the vocabulary may follow the tokenizer.
ModelConfig Run::ChooseConfig(bool continues, const std::string& newest_config) {
  if (!request_.config && newest_config.empty()) {
    throw UserError({"--model", "no model to train", "a preset, a model directory or a config file", "", ""});
  }
  ModelConfig config = request_.config ? *request_.config : LoadModelConfig(newest_config);
  settings_ = ResolveSettings(request_.settings, config, /*new_weights=*/request_.weights_directory.empty());
  if (settings_.vocab_size) config.vocab_size = *settings_.vocab_size;
  // A run keeps its tokenizer beside its model, so it does not depend on the folder that the first weights came from.
  const std::string own_model = folder_ + "/model";
  data_ = OpenData(settings_, continues && IsDirectory(own_model) ? own_model : request_.weights_directory,
                   config.vocab_size, /*follow=*/request_.preset && !settings_.vocab_size);
  config.vocab_size = data_.train->vocab_size();
  config = ApplySettings(config, settings_);
  ValidateModelConfig(config, settings_.model);
  return config;
}

// Throws where the run in the folder was begun in another way.
void Run::CheckContinues(const ModelConfig& config, const std::string& newest_config) const {
  const std::string run_file = folder_ + "/run.json", data_file = folder_ + "/data.json";
  TrainSettings saved;
  ReadRunFile(run_file, saved);
  CheckSameSettings(saved, settings_, run_file);
  if (PathExists(data_file)) CheckSameData(LoadStamps(data_file), data_.stamps, data_file);
  if (!newest_config.empty()) CheckSameConfig(LoadModelConfig(newest_config), config, newest_config);
}

// The weights of step 0.
Model Run::FirstModel(const ModelConfig& config) const {
  Model model(config);
  if (request_.weights_directory.empty()) {
    model.Initialise(static_cast<uint64_t>(settings_.seed), settings_.gate_bias);
  } else {
    LoadWeights(model, request_.weights_directory, request_.load);
  }
  return model;
}

void Run::OpenFolder(bool continues) {
  const std::string metrics_file = folder_ + "/metrics.jsonl";
  const int64_t step = trainer_->step();
  if (finished_before_) return;
  MakeDirectories(folder_);
  if (!continues) {
    WriteFileAtomically(folder_ + "/run.json", WriteFields(settings_));
    if (request_.resume) LogInfo("{} holds no run: begins at step 0", folder_);
  } else {
    if (step > 0) LogInfo("resumes {} after step {}", folder_, step);
    if (step == 0) LogInfo("{} has no checkpoint: begins again at step 0", folder_);
    checkpoints_.RemoveUnfinished();
    checkpoints_.RemoveAfter(step);
    history_ = CutMetrics(metrics_file, step);
  }
  SaveStamps(data_.stamps, folder_ + "/data.json");
  if (step == 0) {
    const std::string first = folder_ + "/.first-model";
    MakeDirectories(first);
    SaveModel(trainer_->model(), first);
    data_.text.WriteFiles(first);
    PublishFolder(first, folder_ + "/model");
    RemoveTree(first);
  }
  metrics_ = std::make_unique<MetricsWriter>(metrics_file);
}

RunEnd Run::Go() {
  if (finished_before_) {
    LogInfo("{} is finished: all {} steps are done", folder_, settings_.steps);
    PublishFolder(checkpoints_.Newest()->path + "/model", folder_ + "/model");
    return RunEnd::kAlreadyFinished;
  }
  LogInfo("trains {} parameters on {} (tokenizer {}){}", CountParameters(trainer_->model().config()),
          data_.train->Describe(), data_.text.source,
          data_.valid ? ", validates on " + data_.valid->Describe() : std::string());
  return Loop();
}

RunEnd Run::Loop() {
  const InterruptGuard guard;
  RunProgress progress(settings_, bytes_per_token_, trainer_->step(), trainer_->seconds(),
                       hooks_.roof ? hooks_.roof(trainer_->model().config(), settings_) : 0);
  const double begin = Now();
  for (;;) {
    const StepMetrics m = trainer_->Step();
    Report(m);
    progress.Show(m);
    const bool timed_out = settings_.time_limit > 0 && Now() - begin >= settings_.time_limit;
    const bool last = AtEnd() || timed_out;
    if (data_.valid && (last || Due(settings_.valid_every.value()))) {
      Validate(last ? 16 * settings_.valid_tokens : settings_.valid_tokens, progress);
    }
    if (hooks_.sample && (Due(settings_.sample_every) || (last && settings_.sample_every > 0)) && !Interrupted()) {
      progress.Finish();
      hooks_.sample(trainer_->model(), data_.text.tokenizer.get(), m.step);
    }
    const bool interrupted = Interrupted();
    if (last || interrupted || Due(settings_.save_every)) Save();
    if (AtEnd()) return RunEnd::kFinished;
    if (interrupted) return RunEnd::kInterrupted;
    if (timed_out) return RunEnd::kTimeLimit;
  }
}

void Run::Report(const StepMetrics& m) {
  metrics_->Write(ToJsonLine(m));
  history_.Add(m);
}

void Run::Validate(int64_t max_tokens, RunProgress& progress) {
  const std::optional<ValidMetrics> m =
      trainer_->Validate(*data_.valid, data_.text.tokenizer.get(), max_tokens, Interrupted);
  if (!m) return;
  metrics_->Write(ToJsonLine(*m));
  history_.Add(*m);
  progress.Print(ValidationLine(*m));
  DrawCurve();
}

void Run::Save() {
  metrics_->Sync();
  const Checkpoint done = checkpoints_.Write(trainer_->step(), [&](const std::string& directory) {
    trainer_->Save(directory);
    data_.text.WriteFiles(directory + "/model");
  });
  PublishFolder(done.path + "/model", folder_ + "/model");
  DrawCurve();
}

void Run::DrawCurve() const { WriteCurve(history_, bytes_per_token_, settings_, folder_ + "/curve.svg"); }

}  // namespace

TrainSettings RequestedSettings(const std::string& run_file, const Json& given, bool resume) {
  const auto read_over = [&](TrainSettings settings) {
    if (!run_file.empty()) ReadRunFile(run_file, settings);
    ReadRunKeys(given, "the command line", settings);
    return settings;
  };
  const TrainSettings asked = read_over({});
  const std::string saved_file = asked.out + "/run.json";
  if (!resume || asked.out.empty() || !PathExists(saved_file)) return asked;
  TrainSettings saved;
  ReadRunFile(saved_file, saved);
  return read_over(saved);
}

RunEnd RunTraining(const RunRequest& request, const RunHooks& hooks) { return Run(request, hooks).Go(); }

}  // namespace taipan
