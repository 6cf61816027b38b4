#pragma once
// Training one model: steps, validation, and everything a continued run needs saved and restored. Knows no run folder.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/batch_source.h"
#include "train/metrics.h"
#include "train/ranks.h"
#include "train/row_states.h"
#include "train/settings.h"
#include "train/step.h"
#include "train/validation.h"
#include "train/weight_average.h"

namespace taipan {

// How training stands when trainer.json is written.
struct TrainingEnd {
  std::string ended = "running";  // running | finished | time_limit | signal | failed
  std::string signal = {};        // "SIGTERM" where one ended it
  std::string error = {};         // of a run that failed
};

// Windows over a corpus as the settings schedule them.
std::shared_ptr<const BatchSource> MakeCorpusSource(WindowLoader loader, const TrainSettings& settings);

class ModelTrainer {
 public:
  // settings: what they leave open comes from the model's config. The source gives settings.batch_size rows a step,
  // of which each rank takes its part.
  ModelTrainer(LanguageModel model, const TrainSettings& settings, std::shared_ptr<const BatchSource> source,
               Ranks& ranks = OneRank());

  // The next update of the weights (step.h).
  StepMetrics Step();

  // Of all ranks but the first: does what that one does, until it ends. Their weights come from it.
  void Follow();

  // Scores at most `max_tokens` tokens from the start of the data, without noise, and selected shares with noise. The
  // tokenizer tells how many bytes tokens stand for; null: tokens are bytes or nobody knows. stop: see validation.h.
  std::optional<ValidMetrics> Validate(const Corpus& corpus, const Tokenizer* tokenizer, int64_t max_tokens,
                                       std::function<bool()> stop = nullptr);

  // model/, optimizer.safetensors and trainer.json in an existing folder, and where the model is an average of weights
  // these in weights.safetensors; where rows begin with states, states.safetensors. Refuses weights that are not
  // finite.
  void Save(const std::string& directory, const TrainingEnd& end = {});
  std::string StateText(const TrainingEnd& end) const;  // the content of trainer.json
  // Continues from what Save wrote, bit for bit.
  void Load(const std::string& directory);

  // While it lives, the model's weights are their average where there is one (settings.ema).
  class Averaged {
   public:
    explicit Averaged(ModelTrainer& trainer) : trainer_(trainer) { trainer_.SwapAverage(); }
    ~Averaged() { trainer_.SwapAverage(); }
    Averaged(const Averaged&) = delete;
    Averaged& operator=(const Averaged&) = delete;

   private:
    ModelTrainer& trainer_;
  };

  // For measurements with random weights: SALs attend to this share of the tokens, drawn, whatever their gates say.
  void SetForcedShare(double share) { forced_share_ = share; }

  int64_t step() const { return step_; }  // updates done
  double seconds() const { return seconds_; }
  const TrainSettings& settings() const { return settings_; }
  LanguageModel& model() { return model_; }
  const LanguageModel& model() const { return model_; }

 private:
  void FillBatches();
  void FillOwnRows();
  void Share();
  StepResult RunStep(const StepOptions& options);
  void SwapAverage();
  GateOptions GateOf(int64_t step) const;

  Ranks& ranks_;
  bool shared_ = false;  // with the other ranks, since the weights came from elsewhere
  bool loaded_ = false;  // moments, too
  LanguageModel model_;
  TrainSettings settings_;
  std::shared_ptr<const BatchSource> source_;
  TrainingStep training_;
  std::optional<WeightAverage> average_;
  std::optional<RowStates> states_;  // that rows begin with
  std::vector<Batch> batches_;       // the micro-batches of a step
  std::optional<double> forced_share_;
  int64_t step_ = 0, tokens_ = 0;
  double seconds_ = 0;
};

}  // namespace taipan
