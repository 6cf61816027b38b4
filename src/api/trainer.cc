#include "api/core.h"
#include "model/selection.h"

namespace taipan {
inline namespace v1 {

namespace {

// Of a step; what lies in these ranges stays finite in the 32-bit floats of the update.
void CheckOptions(const TrainOptions& o) {
  const NumberRange size = Between(0, 1e18), share = AtLeastBelow(0, 1);
  const auto check = [](const char* name, double value, const NumberRange& range) {
    CheckRange("TrainOptions", name, value, range);
  };
  check("learning_rate", o.learning_rate, size);
  check("beta1", o.beta1, share);
  check("beta2", o.beta2, share);
  check("eps", o.eps, Between(1e-37, 1e18));  // 0 divides 0 by 0 where a gradient is 0
  check("weight_decay", o.weight_decay, size);
  check("clip_norm", o.clip_norm, size);
  check("budget_loss_weight", o.budget_loss_weight, size);
}

}  // namespace

struct Trainer::Impl {
  std::shared_ptr<Model::Impl> model;
  TrainingStep training;
  Batch batch;
  int64_t step = 0;

  explicit Impl(std::shared_ptr<Model::Impl> m) : model(std::move(m)), training(model->model) {}

  void FillBatch(const std::vector<Tokens>& rows);
  StepOptions OptionsOf(const TrainOptions& options) const;  // of the next step
};

void Trainer::Impl::FillBatch(const std::vector<Tokens>& rows) {
  if (rows.empty()) throw UserError({"rows", "nothing to train on", "at least one row", "none"});
  ClearBatch(batch);
  for (size_t row = 0; row < rows.size(); ++row) {
    const std::string where = fmt::format("row {}", row);
    const int64_t n = static_cast<int64_t>(rows[row].size()) - 1;
    if (n < 1) throw UserError({where, "too short to predict a token", "two tokens or more", fmt::format("{}", n + 1)});
    CheckTokenIds(rows[row], model->model.config().vocab_size, where);
    AppendWindow(batch, rows[row].data(), n, static_cast<int64_t>(row));
  }
}

StepOptions Trainer::Impl::OptionsOf(const TrainOptions& options) const {
  const ModelConfig& config = model->model.config();
  StepOptions o;
  o.gate = TrainingGate(config);
  o.gate.noise =
      options.gumbel_noise.value_or(config.selection == Selection::kArgmax) ? GateNoise::kCounter : GateNoise::kNone;
  o.gate.seed = options.seed;
  o.gate.step = static_cast<uint32_t>(step + 1);
  o.loss = {.budget = config.attention_budget, .budget_weight = options.budget_loss_weight};
  o.adamw = {.lr = options.learning_rate,
             .beta1 = options.beta1,
             .beta2 = options.beta2,
             .eps = options.eps,
             .weight_decay = options.weight_decay,
             .step = step + 1};
  o.clip_norm = options.clip_norm;
  o.hint = "the weights are as before the step";
  return o;
}

Trainer::Trainer(const Model& model)
    : impl_(Guarded([&] {
        model.impl_->model.RequireMasters("training");
        return std::make_unique<Impl>(model.impl_);
      })) {}
Trainer::Trainer(Trainer&&) noexcept = default;
Trainer::~Trainer() = default;

TrainResult Trainer::Step(const std::vector<Tokens>& rows, const TrainOptions& options) {
  return Guarded([&] {
    CheckOptions(options);
    impl_->FillBatch(rows);
    const StepResult r = impl_->training.Run(impl_->model->model, {&impl_->batch, 1}, impl_->OptionsOf(options));
    return TrainResult{.step = ++impl_->step,
                       .loss = r.loss,
                       .cross_entropy = r.ce,
                       .budget_loss = r.budget_loss,
                       .gradient_norm = r.grad_norm,
                       .selected_share = r.selected_share};
  });
}

}  // namespace v1
}  // namespace taipan
