#include "train/trainer.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/files.h"
#include "base/op_timer.h"
#include "model/hf_config.h"
#include "model/model_files.h"
#include "model/selection.h"
#include "train/non_finite.h"
#include "train/schedule.h"

namespace taipan {
namespace {

// What trainer.json holds beside the schedule, which follows from the step.
struct TrainerState {
  int64_t step = 0, tokens = 0;
  double seconds = 0;
  TrainingEnd end;
  int64_t data_ahead = 0, rewinds = 0;
  SpikeWindow spikes = {};
};
void VisitFields(TrainerState& s, const FieldVisitor& visit) {
  visit({.name = "step", .required = true, .range = AtLeast(0)}, &s.step);
  visit({.name = "tokens", .required = true, .range = AtLeast(0)}, &s.tokens);
  visit({.name = "seconds", .required = true, .range = AtLeast(0)}, &s.seconds);
  visit({.name = "ended", .choices = {"running", "finished", "time_limit", "signal", "failed"}}, &s.end.ended);
  visit({.name = "signal"}, &s.end.signal);
  visit({.name = "error"}, &s.end.error);
  visit({.name = "data_ahead", .write = s.data_ahead > 0, .range = AtLeast(0)}, &s.data_ahead);
  visit({.name = "rewinds", .write = s.rewinds > 0, .range = AtLeast(0)}, &s.rewinds);
  const bool guarded = !s.spikes.losses.empty() || s.spikes.skipped > 0;
  visit({.name = "skipped_steps", .write = guarded, .range = AtLeast(0)}, &s.spikes.skipped);
  visit({.name = "skipped_in_a_row", .write = guarded, .range = AtLeast(0)}, &s.spikes.in_a_row);
  visit({.name = "guard_losses", .write = guarded}, &s.spikes.losses);
  visit({.name = "guard_norms", .write = guarded}, &s.spikes.norms);
}

}  // namespace

std::shared_ptr<const BatchSource> MakeCorpusSource(WindowLoader loader, const TrainSettings& settings) {
  return std::make_shared<CorpusSource>(std::move(loader), ContextStages(settings), BatchStages(settings));
}

ModelTrainer::ModelTrainer(LanguageModel model, const TrainSettings& settings,
                           std::shared_ptr<const BatchSource> source, Ranks& ranks)
    : ranks_(ranks),
      model_(std::move(model)),
      settings_(ResolveSettings(settings, model_.config(), /*new_weights=*/false)),
      source_(std::move(source)),
      training_(model_, settings_.train_only, settings_.optimizer, ranks.group(), settings_.moments) {
  CHECK_EQ(source_->batch_size(), settings_.batch_size);
  model_.SetDType(DTypeOf(settings_.dtype));
  training_.context().SetRecompute(settings_.recompute);
  // What is validated and saved, by the first rank.
  if (settings_.ema > 0 && ranks.group().leads()) average_.emplace(model_.params(), settings_.ema);
  if (settings_.spike_guard > 0) guard_.emplace(settings_.spike_guard);
  if (settings_.state != StateStart::kNone) {
    states_.emplace(model_, settings_.state, static_cast<uint64_t>(settings_.seed));
  }
}

void ModelTrainer::SwapAverage() {
  if (!average_) return;
  average_->Swap(model_.params());
  model_.RefreshCopies();
}

// The micro-batches of this rank's rows, which follow those of the rank before.
void ModelTrainer::FillOwnRows() {
  const Group& group = ranks_.group();
  const int64_t of_row = settings_.sequence_ranks;  // ranks that hold the same rows
  const int64_t rows = BatchStages(settings_).At(step_ + 1) / (group.size() / of_row);
  const int64_t before = group.rank() / of_row * rows;
  const int64_t micro = std::min(settings_.micro_batch_size.value(), rows);
  batches_.resize(static_cast<size_t>((rows + micro - 1) / micro));
  for (size_t i = 0; i < batches_.size(); ++i) {
    const int64_t first = static_cast<int64_t>(i) * micro;
    source_->Fill(step_ + data_ahead_, before + first, std::min(micro, rows - first), batches_[i]);
  }
  if (states_) states_->Bind(model_, *source_, step_ + data_ahead_, batches_);
}

// Data may fail on one rank alone.
void ModelTrainer::FillBatches() {
  std::exception_ptr error;
  try {
    FillOwnRows();
  } catch (const std::exception&) {
    error = std::current_exception();
  }
  ranks_.Agree(error);
}

// A spike is skipped. After so many in a row it is no spike: either the run goes back, or this is the level from now
// on. The first rank decides, whose window is that of the whole run.
bool ModelTrainer::Takes(const StepResult& r) {
  Group& group = ranks_.group();
  uint8_t take = 1;
  if (group.leads() && !guard_->Take(r.loss, r.grad_norm)) {
    take = guard_->window().in_a_row >= settings_.rewind_after && settings_.rewind == 0;
    if (take != 0) guard_->Forget();
  }
  group.Broadcast(std::as_writable_bytes(std::span(&take, 1)));
  return take != 0;
}

GateOptions ModelTrainer::GateOf(int64_t step) const {
  GateOptions gate = TrainingGate(model_.config());
  const int64_t last = settings_.gumbel_noise_until;
  const bool noise = settings_.gumbel_noise == "on" && (last == 0 || step <= last);
  gate.noise = noise ? GateNoise::kCounter : GateNoise::kNone;
  if (forced_share_) {
    gate.rule = SelectionRule::kRandom;
    gate.share = *forced_share_;
  }
  gate.tau = static_cast<float>(settings_.gumbel_temperature.value());
  gate.seed = static_cast<uint64_t>(settings_.seed);
  gate.step = static_cast<uint32_t>(step);
  gate.attend_all = settings_.straight_through == "all" && gate.rule == SelectionRule::kMargin;
  return gate;
}

StepResult ModelTrainer::RunStep(const StepOptions& options) {
  try {
    return training_.Run(model_, batches_, options);
  } catch (const Diverged&) {
    ranks_.Done();
    throw;
  }
}

StepMetrics ModelTrainer::Step() {
  const double begin = NowSeconds();
  model_.RequireMasters("training");
  if (!shared_) Share();
  ranks_.Start(RankTask::kStep);
  StepMetrics m;
  m.step = step_ + 1;
  m.lr = LearningRate(settings_, m.step);
  m.budget_loss_weight = BudgetLossWeight(settings_, m.step);
  {
    const OpTimer timer("data");
    FillBatches();
  }
  std::function<bool(const StepResult&)> take;
  if (guard_) take = [this](const StepResult& r) { return Takes(r); };
  const StepOptions options{.gate = GateOf(m.step),
                            .loss = {.budget = Budget(settings_, m.step), .budget_weight = m.budget_loss_weight},
                            .adamw = {.lr = m.lr,
                                      .beta1 = settings_.beta1,
                                      .beta2 = settings_.beta2,
                                      .eps = settings_.eps,
                                      .weight_decay = settings_.weight_decay,
                                      .step = m.step},
                            .momentum = settings_.momentum,
                            .clip_norm = settings_.clip_norm,
                            .segment = settings_.segment,
                            .width = WidthRatio(settings_, model_.config()),
                            .pace = settings_.learning_rate > 0 ? m.lr / settings_.learning_rate : 1,
                            .seed = static_cast<uint64_t>(settings_.seed),
                            .hint = "lower --learning-rate, lengthen --warmup-steps or lower --clip-norm",
                            .rows = BatchStages(settings_).At(m.step),
                            .sequence_ranks = settings_.sequence_ranks,
                            .take = take};
  const StepResult r = RunStep(options);
  if (states_ && std::isfinite(r.loss)) states_->Advance(model_, ranks_.group());
  ranks_.Done();
  m.loss = r.loss;
  m.ce = r.ce;
  m.budget_loss = r.budget_loss;
  m.grad_norm = r.grad_norm;
  m.selected_share = r.selected_share;
  m.skipped = !r.taken;
  if (average_ && r.taken) {
    const OpTimer timer("average of weights");
    average_->Add(model_.params(), m.step);
  }

  ++step_;
  tokens_ += r.tokens;
  const double elapsed = NowSeconds() - begin;
  seconds_ += elapsed;
  m.tokens = tokens_;
  m.seconds = seconds_;
  m.tokens_per_second = static_cast<double>(r.tokens) / elapsed;
  return m;
}

std::optional<ValidMetrics> ModelTrainer::Validate(const Corpus& corpus, const Tokenizer* tokenizer, int64_t max_tokens,
                                                   std::function<bool()> stop) {
  ValidationOptions options;
  options.context = settings_.context;
  options.separate = settings_.packing == DocumentPacking::kDocuments;
  options.rows = settings_.micro_batch_size.value();
  options.max_tokens = max_tokens;
  options.noise = settings_.gumbel_noise == "on";
  options.seed = static_cast<uint64_t>(settings_.seed);
  options.step = step_;
  options.stop = std::move(stop);
  const Averaged averaged(*this);
  return taipan::Validate(model_, corpus, tokenizer, options, training_.context());
}

std::vector<LayerStatistics> ModelTrainer::Layers() {
  Batch batch;
  source_->Fill(step_ - 1 + data_ahead_, 0, 1, batch);
  return MeasureLayers(model_, std::move(batch), GateOf(step_), training_.context());
}

TrainingSnapshot ModelTrainer::Snapshot(const TrainingEnd& end) {
  const std::string bad = FirstNonFinite(model_.params());
  if (!bad.empty()) {
    throw UserError({fmt::format("step {}", step_), "training diverged: the update left weights that are not finite",
                     "finite numbers", "weight " + bad, "lower --learning-rate"});
  }
  ranks_.Start(RankTask::kGather);
  training_.optimizer().Gather();
  std::optional<RowStates> states;
  if (states_) states = states_->Gathered(model_, ranks_.group(), settings_.batch_size);
  ranks_.Done();
  TrainingSnapshot snapshot;
  if (average_) snapshot.tensors.push_back({"weights.safetensors", TrainedWeights(model_.params())});
  {
    const Averaged averaged(*this);
    snapshot.tensors.push_back({"model/model.safetensors", ModelItems(model_), ModelMetadata()});
  }
  snapshot.tensors.push_back({"optimizer.safetensors", training_.optimizer().Items()});
  snapshot.tensors.back().own = training_.optimizer().TakeGathered();
  if (states) {
    snapshot.others.push_back([this, all = std::move(*states)](const std::string& directory) {
      all.Save(model_, directory + "/states.safetensors");
    });
  }
  snapshot.texts = {{"model/config.json", ToJson(model_.config())}, {"trainer.json", StateText(end)}};
  return snapshot;
}

void ModelTrainer::Save(const std::string& directory, const TrainingEnd& end) { Snapshot(end).Write(directory); }

std::string ModelTrainer::StateText(const TrainingEnd& end) const {
  return WriteFields(
      TrainerState{step_, tokens_, seconds_, end, data_ahead_, rewinds_, guard_ ? guard_->window() : SpikeWindow{}});
}

void ModelTrainer::Load(const std::string& directory) {
  const std::string path = directory + "/trainer.json";
  TrainerState state;
  ReadFields(ParseJson(ReadFile(path), path), path, state);
  LoadWeights(model_, OpenCheckpoint(directory + "/model"));
  if (average_) {
    average_.emplace(model_.params(), settings_.ema);
    LoadTrainedWeights(model_.params(), directory + "/weights.safetensors");
  }
  model_.RefreshCopies();
  training_.optimizer().Load(directory + "/optimizer.safetensors");
  if (states_) states_->Load(model_, directory + "/states.safetensors");
  step_ = state.step;
  tokens_ = state.tokens;
  seconds_ = state.seconds;
  data_ahead_ = state.data_ahead;
  rewinds_ = state.rewinds;
  if (guard_) guard_->SetWindow(std::move(state.spikes));
  shared_ = false;
  loaded_ = true;
}

void ModelTrainer::RewindTo(const std::string& directory) {
  const int64_t data = step_ + data_ahead_, rewinds = rewinds_ + 1, skipped = skipped_steps();
  Load(directory);
  data_ahead_ = data - step_;
  if (states_) states_->BeginAfresh();
  rewinds_ = rewinds;
  SpikeWindow window = guard_->window();
  window.skipped = skipped;
  window.in_a_row = 0;
  guard_->SetWindow(std::move(window));
}

// Brings all ranks to where the first one is.
void ModelTrainer::Share() {
  shared_ = true;
  Group& group = ranks_.group();
  if (group.alone()) return;
  ranks_.Start(RankTask::kShare);
  double counters[] = {static_cast<double>(step_), static_cast<double>(tokens_), seconds_, loaded_ ? 1.0 : 0.0,
                       static_cast<double>(data_ahead_)};
  group.Broadcast(std::as_writable_bytes(std::span<double>(counters)));
  step_ = static_cast<int64_t>(counters[0]);
  tokens_ = static_cast<int64_t>(counters[1]);
  seconds_ = counters[2];
  data_ahead_ = static_cast<int64_t>(counters[4]);
  model_.params().ForEach([&](Weight& w) {
    group.Broadcast(std::as_writable_bytes(std::span<float>(w.F32(), static_cast<size_t>(w.f32.size()))));
  });
  model_.RefreshCopies();
  if (counters[3] != 0) training_.optimizer().Scatter();
  if (states_) states_->Scatter(model_, group, settings_.batch_size);
  ranks_.Done();
}

void ModelTrainer::Follow() {
  shared_ = true;  // when the first rank says so
  for (;;) {
    try {
      switch (ranks_.Next()) {
        case RankTask::kShare:
          Share();
          break;
        case RankTask::kStep:
          Step();
          break;
        case RankTask::kGather:
          training_.optimizer().Gather();
          if (states_) states_->Gathered(model_, ranks_.group(), settings_.batch_size);
          break;
        case RankTask::kEnd:
          return;
        case RankTask::kBegin:
          CHECK(false);
      }
    } catch (const FailedElsewhere&) {
    } catch (const Diverged&) {  // on all ranks alike: the first one says so
    }
  }
}

}  // namespace taipan
