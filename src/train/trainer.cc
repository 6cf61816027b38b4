#include "train/trainer.h"

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/op_timer.h"
#include "model/model_files.h"
#include "train/schedule.h"

namespace taipan {
namespace {

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

int64_t RowTokens(const StepTotals& totals) {
  int64_t tokens = 0;
  for (int64_t length : totals.row_lengths) tokens += length;
  return tokens;
}

std::vector<double> SelectedShares(const BudgetSums& sums, int64_t tokens) {
  std::vector<double> shares;
  for (const std::vector<double>& rows : sums.m) {
    double total = 0;
    for (double sum : rows) total += sum;
    shares.push_back(total / static_cast<double>(tokens));
  }
  return shares;
}

// What trainer.json holds beside the schedule, which follows from the step.
struct TrainerState {
  int64_t step = 0, tokens = 0;
  double seconds = 0;
  TrainingEnd end;
};
void VisitFields(TrainerState& s, const FieldVisitor& visit) {
  visit({.name = "step", .required = true, .range = AtLeast(0)}, &s.step);
  visit({.name = "tokens", .required = true, .range = AtLeast(0)}, &s.tokens);
  visit({.name = "seconds", .required = true, .range = AtLeast(0)}, &s.seconds);
  visit({.name = "ended", .choices = {"running", "finished", "time_limit", "signal", "failed"}}, &s.end.ended);
  visit({.name = "signal"}, &s.end.signal);
  visit({.name = "error"}, &s.end.error);
}

}  // namespace

Trainer::Trainer(Model model, const TrainSettings& settings, std::shared_ptr<const BatchSource> source)
    : model_(std::move(model)),
      settings_(ResolveSettings(settings, model_.config(), /*new_weights=*/false)),
      source_(std::move(source)),
      gradients_(model_.NewGradients()),
      optimizer_(model_.params()) {
  model_.RequireMasters("training");
  CHECK_EQ(source_->batch_size(), settings_.batch_size);
  model_.SetDType(settings_.dtype == "bf16" ? DType::kBF16 : DType::kF32);
  context_.SetRecompute(settings_.recompute == "block"   ? Recompute::kBlock
                        : settings_.recompute == "mixer" ? Recompute::kMixer
                                                         : Recompute::kNone);
}

void Trainer::FillBatches() {
  const int64_t rows = settings_.batch_size, micro = settings_.micro_batch_size.value();
  batches_.resize(static_cast<size_t>((rows + micro - 1) / micro));
  totals_ = StepTotals{};
  for (size_t i = 0; i < batches_.size(); ++i) {
    const int64_t first = static_cast<int64_t>(i) * micro;
    source_->Fill(step_, first, std::min(micro, rows - first), batches_[i]);
    AddTotals(batches_[i], totals_);
  }
  CHECK_GT(totals_.targets, 0);
}

GateOptions Trainer::TrainingGate(int64_t step) const {
  GateOptions gate = RuleOfUse(model_.config());
  gate.by_position = false;                                                    // another draw for every row and step
  if (model_.config().selection != Selection::kThreshold) gate.delta.clear();  // of a calibration
  const int64_t last = settings_.gumbel_noise_until;
  const bool noise = settings_.gumbel_noise == "on" && (last == 0 || step <= last);
  gate.noise = noise ? GateNoise::kCounter : GateNoise::kNone;
  if (forced_share_) {
    gate.rule = SelectionRule::kRandom;
    gate.share = *forced_share_;
  }
  gate.seed = static_cast<uint64_t>(settings_.seed);
  gate.step = static_cast<uint32_t>(step);
  gate.attend_all = settings_.straight_through == "all" && gate.rule == SelectionRule::kMargin;
  return gate;
}

StepMetrics Trainer::Step() {
  const double begin = Now();
  StepMetrics m;
  m.step = step_ + 1;
  m.lr = LearningRate(settings_, m.step);
  m.budget_loss_weight = BudgetLossWeight(settings_, m.step);
  {
    const OpTimer timer("data");
    FillBatches();
  }
  const int64_t step_tokens = RowTokens(totals_);
  const GateOptions gate = TrainingGate(m.step);
  const LossOptions loss{.budget = settings_.budget.value(), .budget_weight = m.budget_loss_weight};

  if (!gradients_are_zero_) gradients_.Zero();
  gradients_are_zero_ = false;
  const bool by_threshold = model_.config().num_sals() > 0 && model_.config().selection == Selection::kThreshold;
  threshold_ = {};
  BudgetSums sums;
  double negative_log_p = 0;  // weighted sum over the step's targets
  for (const Batch& batch : batches_) {
    model_.Forward(batch, gate, /*keep=*/true, context_);
    // A row lies in one micro-batch, so its sums are complete before the backward that needs them.
    AddBudgetSums(context_, static_cast<int64_t>(totals_.row_lengths.size()), sums);
    if (by_threshold) threshold_.Collect(context_, batch.size());
    negative_log_p += model_.Backward(context_, totals_, sums, loss, gradients_);
  }
  m.ce = negative_log_p / totals_.targets;
  m.budget_loss = sums.m.empty() ? 0.0 : BudgetLoss(sums, totals_, loss.budget);
  m.loss = m.ce + loss.budget_weight * m.budget_loss;
  m.selected_share = SelectedShares(sums, step_tokens);
  {
    const OpTimer timer("gradient norm");
    m.grad_norm = GradientNorm(gradients_);
  }
  if (!std::isfinite(m.loss) || !std::isfinite(m.grad_norm)) ReportNonFinite(m);

  AdamWSettings adamw{.lr = m.lr,
                      .beta1 = settings_.beta1,
                      .beta2 = settings_.beta2,
                      .eps = settings_.eps,
                      .weight_decay = settings_.weight_decay,
                      .step = m.step};
  const double clip = settings_.clip_norm;
  if (clip > 0 && m.grad_norm > clip) adamw.gradient_scale = static_cast<float>(clip / m.grad_norm);
  {
    const OpTimer timer("optimizer");
    optimizer_.Step(model_.params(), gradients_, adamw);
    gradients_are_zero_ = true;
  }
  if (by_threshold) {
    model_.SetSelectionThreshold(
        threshold_.Update(model_.config().selection_threshold, loss.budget, m.lr / settings_.learning_rate));
  }

  ++step_;
  tokens_ += step_tokens;
  const double elapsed = Now() - begin;
  seconds_ += elapsed;
  m.tokens = tokens_;
  m.seconds = seconds_;
  m.tokens_per_second = static_cast<double>(step_tokens) / elapsed;
  return m;
}

void Trainer::ReportNonFinite(const StepMetrics& m) {
  // A bad weight makes every gradient bad: it is the cause.
  std::string tensor = FirstNonFinite(model_.params());
  std::string culprit = "weight " + tensor;
  if (tensor.empty()) {
    tensor = FirstNonFinite(gradients_);
    culprit = tensor.empty() ? "no weight and no gradient, the loss alone" : "gradient of " + tensor;
  }
  throw UserError({fmt::format("step {}", m.step),
                   fmt::format("training diverged: loss {}, gradient norm {}", m.loss, m.grad_norm), "finite numbers",
                   culprit + " (the first that is not finite)",
                   "lower --learning-rate, lengthen --warmup-steps or lower --clip-norm"});
}

std::optional<ValidMetrics> Trainer::Validate(const Corpus& corpus, const Tokenizer* tokenizer, int64_t max_tokens,
                                              std::function<bool()> stop) {
  ValidationOptions options;
  options.context = settings_.context;
  options.rows = settings_.micro_batch_size.value();
  options.max_tokens = max_tokens;
  options.seed = static_cast<uint64_t>(settings_.seed);
  options.step = step_;
  options.stop = std::move(stop);
  return taipan::Validate(model_, corpus, tokenizer, options, context_);
}

void Trainer::Save(const std::string& directory, const TrainingEnd& end) {
  const std::string bad = FirstNonFinite(model_.params());
  if (!bad.empty()) {
    throw UserError({fmt::format("step {}", step_), "training diverged: the update left weights that are not finite",
                     "finite numbers", "weight " + bad, "lower --learning-rate"});
  }
  MakeDirectories(directory + "/model");
  SaveModel(model_, directory + "/model");
  optimizer_.Save(directory + "/optimizer.safetensors");
  WriteFileAtomically(directory + "/trainer.json", StateText(end));
}

std::string Trainer::StateText(const TrainingEnd& end) const {
  return WriteFields(TrainerState{step_, tokens_, seconds_, end});
}

void Trainer::Load(const std::string& directory) {
  const std::string path = directory + "/trainer.json";
  TrainerState state;
  ReadFields(ParseJson(ReadFile(path), path), path, state);
  LoadWeights(model_, OpenCheckpoint(directory + "/model"));
  const ModelConfig config = LoadModelConfig(directory + "/model/config.json");
  if (config.selection == Selection::kThreshold) model_.SetSelectionThreshold(config.selection_threshold);
  model_.RefreshCopies();
  optimizer_.Load(directory + "/optimizer.safetensors");
  step_ = state.step;
  tokens_ = state.tokens;
  seconds_ = state.seconds;
}

}  // namespace taipan
