#pragma once
// Training one model: steps, validation, and everything a continued run needs saved and restored. Knows no run folder.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/batch_source.h"
#include "train/layer_statistics.h"
#include "train/metrics.h"
#include "train/ranks.h"
#include "train/row_states.h"
#include "train/settings.h"
#include "train/snapshot.h"
#include "train/spike_guard.h"
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

  // All that a continued run needs, and what Load reads once it is written. Its items point into this object until they
  // are copied. Refuses weights that are not finite.
  TrainingSnapshot Snapshot(const TrainingEnd& end = {});
  // Writes it into an existing folder.
  void Save(const std::string& directory, const TrainingEnd& end = {});
  std::string StateText(const TrainingEnd& end) const;  // the content of trainer.json
  // Continues from what Save wrote, bit for bit.
  void Load(const std::string& directory);

  // What the layers are like after the last step, on its first row.
  std::vector<LayerStatistics> Layers();

  // Whether so many steps in a row were skipped that the run is to go back (settings.rewind).
  bool wants_rewind() const {
    return guard_ && settings_.rewind > 0 && guard_->window().in_a_row >= settings_.rewind_after;
  }
  // Continues from an earlier checkpoint with the data that follows what was read until now.
  void RewindTo(const std::string& directory);
  int64_t rewinds() const { return rewinds_; }
  int64_t skipped_steps() const { return guard_ ? guard_->window().skipped : 0; }

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
  bool Takes(const StepResult& r);

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
  std::optional<SpikeGuard> guard_;
  int64_t step_ = 0, tokens_ = 0;
  int64_t data_ahead_ = 0;  // steps of data that rewinding left out
  int64_t rewinds_ = 0;
  double seconds_ = 0;
};

}  // namespace taipan
