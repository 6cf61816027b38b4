#include "train/run_opening.h"

#include "base/error.h"
#include "base/files.h"
#include "base/logging.h"
#include "model/config_validate.h"
#include "model/hf_config.h"
#include "train/run_folder.h"
#include "train/run_validation.h"

namespace taipan {
namespace {

class Opener {
 public:
  Opener(const RunRequest& request, const Checkpoints& checkpoints)
      : request_(request), checkpoints_(checkpoints), folder_(request.settings.out) {}
  RunOpening Open();

 private:
  void ReadFolder();
  void PassOverDamaged() const;
  void ChooseConfig();
  void CheckContinues() const;
  std::string SavedConfig() const;

  const RunRequest& request_;
  const Checkpoints& checkpoints_;
  const std::string folder_;
  RunOpening run_;
};

RunOpening Opener::Open() {
  ReadFolder();
  ChooseConfig();
  return std::move(run_);
}

// What there is to continue; nothing is changed yet.
void Opener::ReadFolder() {
  const FolderContent content = LookAtFolder(folder_);
  if (content == FolderContent::kOther || (content == FolderContent::kRun && !request_.resume)) {
    if (request_.resume) throw UserError({folder_, "nothing to resume, the folder has no run.json", "a new folder"});
    throw UserError({.where = folder_,
                     .problem = "the folder already holds a run",
                     .expected = "a new folder",
                     .hint = "--resume continues it"});
  }
  run_.continues = content == FolderContent::kRun;
  if (!run_.continues) return;
  ReadSavedRun(folder_ + "/run.json", run_.saved);
  run_.choice = checkpoints_.Choose();
  PassOverDamaged();
}

// Says which checkpoints cannot be continued from; throws where no other is left.
void Opener::PassOverDamaged() const {
  for (const DamagedCheckpoint& d : run_.choice.damaged) LogWarning("{} is damaged: {}", d.checkpoint.path, d.why);
  if (run_.choice.newest || run_.choice.damaged.empty()) return;
  std::string all;
  for (const DamagedCheckpoint& d : run_.choice.damaged) {
    all += fmt::format("{}step-{}: {}", all.empty() ? "" : "; ", d.checkpoint.step, d.why);
  }
  throw UserError({folder_ + "/checkpoints", "no checkpoint is complete, nothing was changed", "one to resume from",
                   all,
                   fmt::format("put back a copy of one; or train on from the newest weights with --model {0}/model and "
                               "another --out; or move {0}/checkpoints away to begin again at step 0",
                               folder_)});
}

// The config that the run was begun with, "" where it is not known.
std::string Opener::SavedConfig() const {
  const std::string config = (run_.choice.newest ? run_.choice.newest->path : folder_) + "/model/config.json";
  return run_.continues && PathExists(config) ? config : "";
}

// Resolves the settings and opens the data on the way: the vocabulary may follow the tokenizer.
void Opener::ChooseConfig() {
  const std::string saved_config = run_.choice.newest ? SavedConfig() : "";
  if (!request_.config && saved_config.empty()) {
    throw UserError({"--model", "no model to train", "a preset, a model directory or a config file"});
  }
  ModelConfig config = request_.config ? *request_.config : LoadModelConfig(saved_config);
  TrainSettings asked = run_.continues ? InheritSettings(request_.settings, run_.saved) : request_.settings;
  if (asked.vocab_size) config.vocab_size = *asked.vocab_size;
  const bool vocabulary_follows = request_.preset && !asked.vocab_size;
  if (!SavedConfig().empty()) {
    CheckSameArchitecture(LoadModelConfig(SavedConfig()), config, !vocabulary_follows, SavedConfig());
  }
  run_.settings = ResolveSettings(asked, config, /*new_weights=*/!request_.weights);
  if (run_.continues) {
    CheckSameSettings(run_.saved, run_.settings, folder_ + "/run.json");
    FitDecay(run_.saved, run_.choice.newest ? run_.choice.newest->step : 0, run_.settings);
  } else {  // a run that is shortened keeps its own
    CheckWarmUp(run_.settings);
  }
  // A run keeps its tokenizer beside its model, so it does not depend on the folder that the first weights came from.
  const std::string own_model = (run_.choice.newest ? run_.choice.newest->path : folder_) + "/model";
  const std::string first_model = request_.weights ? request_.weights->path : "";
  run_.tokenizer_folder = run_.continues && IsDirectory(own_model) ? own_model : first_model;
  run_.data = OpenData(run_.settings, run_.tokenizer_folder, config, vocabulary_follows);
  config.vocab_size = run_.data.vocab_size;
  config = ApplySettings(config, run_.settings);
  if (!request_.weights && run_.settings.mup_base_width > 0) config.logits_scaling = WidthRatio(run_.settings, config);
  ValidateModelConfig(config, run_.settings.model);
  run_.config = std::move(config);
  if (run_.continues) CheckContinues();
}

// Throws where the data or the model is another than the run was begun with.
void Opener::CheckContinues() const {
  CheckSameEos(run_.saved.eos, run_.settings.eos, folder_ + "/run.json");
  CheckStamps(run_.data.stamps, folder_ + "/data.json");
  if (run_.choice.newest) CheckSameConfig(LoadModelConfig(SavedConfig()), run_.config, SavedConfig());
}

}  // namespace

RunOpening OpenRun(const RunRequest& request, const Checkpoints& checkpoints) {
  return Opener(request, checkpoints).Open();
}

}  // namespace taipan
