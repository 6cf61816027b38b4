#pragma once
// What a training run is told: the flags of `taipan train`, the keys of a run file, the contents of RUN_DIR/run.json.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/fields.h"
#include "data/packing.h"
#include "model/default_dtype.h"
#include "model/model.h"
#include "train/optimizer.h"

namespace taipan {

enum class Schedule { kCosine, kWsd };
inline std::vector<std::string> NamesOf(Schedule) { return {"cosine", "wsd"}; }

// What the state of a row is at the beginning of a step: zero, what it was at the end of the step before, or noise.
enum class StateStart { kNone, kCarry, kRandom };
inline std::vector<std::string> NamesOf(StateStart) { return {"none", "carry", "random"}; }

// 2^40, more than memory or a validation takes: products stay exact.
inline constexpr double kMostSettingTokens = 1099511627776;

// Values without a number are filled in by ResolveSettings.
struct TrainSettings {
  std::string model;  // preset, model directory or config file
  std::vector<std::string> data, valid_data;
  double valid_split = 0;             // share of the data that is held out to validate on, 0: none
  std::string out;                    // RUN_DIR; not written into run.json
  std::string tokenizer;              // "byte", a file, or "": the model's own, else byte
  std::string eos;                    // ends a document: "none", an id or a token; "" and "auto": the tokenizer's own
  std::optional<int64_t> vocab_size;  // of new weights of a preset

  int64_t context = 512;                    // tokens a sequence
  int64_t batch_size = 8;                   // sequences a step
  std::string context_schedule;             // "1024:2000,...": other contexts in the first steps
  std::string batch_size_schedule;          // "4:500,...": other batches in the first steps
  std::optional<int64_t> micro_batch_size;  // sequences a forward; default: the batch
  int64_t steps = 1000;
  double time_limit = 0;  // seconds, 0: none
  WindowOrder order = WindowOrder::kShuffled;
  DocumentPacking packing = DocumentPacking::kJoin;
  StateStart state = StateStart::kNone;
  int64_t state_windows = 128;  // contexts that a carried state goes on for, at most
  int64_t segment = 0;          // tokens of a sequence that are in memory at a time, 0: all
  int64_t sequence_ranks = 1;   // that hold a sequence together, a part each
  int64_t seed = 0;             // of weights, order and noise

  OptimizerKind optimizer = OptimizerKind::kAdamW;
  MomentType moments = MomentType::kF32;
  Schedule schedule = Schedule::kCosine;
  // Peak for models of 1M to 30M parameters and batches of a few thousand tokens; the paper's 5e-4 is for 190M and up
  // at half a million tokens a step.
  double learning_rate = 1e-3;
  std::optional<double> min_learning_rate;  // at the last step; default: 1/50 of the peak, the paper's ratio
  std::optional<int64_t> warmup_steps;      // default: 1/20 of the steps, at most the paper's 2000
  std::optional<int64_t> decay_steps;       // of wsd; none: 1/5 of the steps, also of other steps by --resume
  int64_t mup_base_width = 0;               // the hidden_size that the learning rate is for; 0: this model's
  std::string lr_range;                     // "A:B": a range test instead of a schedule
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double momentum = 0.8;  // of Muon
  double weight_decay = 0.01;
  double clip_norm = 1.0;    // 0: no clipping
  double ema = 0;            // decay of the average of the weights, 0: none
  double spike_guard = 0;    // standard deviations from which on a step is skipped, 0: never
  int64_t rewind = 0;        // steps to go back where skipping does not help, 0: none
  int64_t rewind_after = 5;  // skipped steps in a row

  std::optional<double> budget;                    // C; default: the config's attention_budget
  std::optional<double> budget_loss_weight;        // lambda at the end; default: 30 for new weights, else the config's
  std::optional<double> budget_loss_weight_start;  // lambda until step A; default: 0 for new weights, else the config's
  std::string budget_ramp;                         // "A:B" in steps; default: 1/3 to 2/3 of the steps for new weights
  double gate_bias = 3;                            // s_1 - s_0 of new weights
  std::optional<double> initializer_range;         // standard deviation of new weights; default: the config's
  std::optional<double> gumbel_temperature;        // default: the config's
  std::string refinement;                          // mix | residual; default: the config's
  std::string selection;                           // argmax | threshold | ...; default: the config's
  std::string gumbel_noise;                        // on | off; default: on where the selection is argmax
  int64_t gumbel_noise_until = 0;                  // the last step with noise, 0: every step
  std::string straight_through;                    // selected | all; default: the config's
  std::string train_only;                          // groups of weights, separated by commas; empty: all

  std::optional<int64_t> valid_every;  // steps, 0: only at the end; default: 1/20 of the steps
  int64_t valid_tokens = 65536;        // of a periodic validation; 16 times as many at the end
  int64_t sample_every = 0;            // steps, 0: never
  int64_t layer_stats_every = 0;       // steps, 0: never
  bool tensorboard = false, prometheus = false;
  int64_t save_every = 500;               // steps, 0: only at the end
  int64_t keep = 2;                       // newest checkpoints
  int64_t keep_every = 0;                 // steps of which one checkpoint stays for good, 0: none
  ComputeType dtype = ComputeType::kF32;  // of activations and products, kAuto: by the CPU; masters are always f32
  Recompute recompute = Recompute::kNone;

  bool operator==(const TrainSettings&) const = default;
};
void VisitFields(TrainSettings& s, const FieldVisitor& visit);
// Those that only say how a run is looked after; VisitFields has them, too.
void VisitOperations(TrainSettings& s, const FieldVisitor& visit);

std::string UnderscoreKey(std::string key);  // "batch-size" as the key that it is

// Reads run-file keys over `s`; dashes count as underscores, so the names of the flags work too.
void ReadRunFile(const std::string& path, TrainSettings& s);
// RUN_DIR/run.json, where a key that it lacks means what all runs did before the key was made.
void ReadSavedRun(const std::string& path, TrainSettings& s);
void ReadRunKeys(const Json& keys, const std::string& where, TrainSettings& s);

// Fills in everything that depends on the model or on other values. new_weights: this run initialises them.
// UserError for values that contradict each other and for what this version does not do.
TrainSettings ResolveSettings(TrainSettings s, const ModelConfig& config, bool new_weights);

// The config of the model that a run trains: budget, lambda, temperature and estimator as the settings say.
ModelConfig ApplySettings(ModelConfig config, const TrainSettings& resolved);

// How many steps the rate falls by wsd.
inline int64_t DecaySteps(const TrainSettings& s) { return s.decay_steps.value_or(s.steps / 5); }

// hidden_size over --mup-base-width; 1 without one.
double WidthRatio(const TrainSettings& s, const ModelConfig& config);

bool ParseId(const std::string& text, int64_t& id);  // of a token: decimal digits

// "A:B" as two steps.
struct BudgetRamp {
  int64_t begin = 0, end = 0;
};
BudgetRamp ParseRamp(const std::string& text);

// "A:B" as two learning rates, 0 < A < B.
struct RatePair {
  double low = 0, high = 0;
};
RatePair ParseRates(const std::string& text);

// What a continued run is asked for, with the settings of the run wherever `asked` leaves them open.
TrainSettings InheritSettings(const TrainSettings& asked, const TrainSettings& saved);

// A run of `saved` whose rate was at its peak after `done` steps does not jump into the middle of a decay: that of
// `now` begins there at the earliest.
void FitDecay(const TrainSettings& saved, int64_t done, TrainSettings& now);

// Throws, naming the first key whose value differs, where `now` would continue a run of `saved` in another way. Keys
// that do not shape the weights (saving, validating, the time limit, paths, recomputation) may differ; so may the size
// of micro-batches, which changes the rounding of sums alone, and the steps, which are for the caller to judge.
void CheckSameSettings(const TrainSettings& saved, const TrainSettings& now, const std::string& where);
void CheckSameConfig(const ModelConfig& saved, const ModelConfig& now, const std::string& where);
// The same without what the settings of a run put into its config: is it the same kind of model at all?
void CheckSameArchitecture(const ModelConfig& saved, const ModelConfig& now, bool compare_vocabulary,
                           const std::string& where);

}  // namespace taipan
