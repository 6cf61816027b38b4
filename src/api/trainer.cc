#include <cmath>

#include "api/core.h"

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
  ModelParams gradients;
  Optimizer optimizer;
  ForwardContext context;
  Batch batch;
  int64_t step = 0;

  explicit Impl(std::shared_ptr<Model::Impl> m)
      : model(std::move(m)), gradients(model->model.NewGradients()), optimizer(model->model.params()) {}

  void FillBatch(const std::vector<Tokens>& rows);
  TrainResult Gradients(const TrainOptions& options);
  void Update(const TrainOptions& options, double gradient_norm);
};

void Trainer::Impl::FillBatch(const std::vector<Tokens>& rows) {
  if (rows.empty()) throw UserError({"rows", "nothing to train on", "at least one row", "none", ""});
  ClearBatch(batch);
  for (size_t row = 0; row < rows.size(); ++row) {
    const std::string where = fmt::format("row {}", row);
    const int64_t n = static_cast<int64_t>(rows[row].size()) - 1;
    if (n < 1)
      throw UserError({where, "too short to predict a token", "two tokens or more", fmt::format("{}", n + 1), ""});
    CheckTokenIds(rows[row], model->model.config().vocab_size, where);
    AppendWindow(batch, rows[row].data(), n, static_cast<int64_t>(row));
  }
}

// Loss and gradients of the batch at the current weights.
TrainResult Trainer::Impl::Gradients(const TrainOptions& options) {
  const ModelConfig& config = model->model.config();
  GateOptions gate;
  gate.noise = options.gumbel_noise ? GateNoise::kCounter : GateNoise::kNone;
  gate.seed = options.seed;
  gate.step = static_cast<uint32_t>(step + 1);
  gate.tau = static_cast<float>(config.gumbel_temperature);
  gate.attend_all = config.straight_through_all;
  const LossOptions loss{.budget = config.attention_budget, .budget_weight = options.budget_loss_weight};
  const StepTotals totals = TotalsOf(batch);
  gradients.Zero();
  model->model.Forward(batch, gate, /*keep=*/true, context);
  BudgetSums sums;
  AddBudgetSums(context, static_cast<int64_t>(totals.row_lengths.size()), sums);
  TrainResult result;
  result.step = step + 1;
  result.cross_entropy = model->model.Backward(context, totals, sums, loss, gradients) / totals.targets;
  result.budget_loss = sums.m.empty() ? 0 : BudgetLoss(sums, totals, loss.budget);
  result.loss = result.cross_entropy + loss.budget_weight * result.budget_loss;
  result.gradient_norm = GradientNorm(gradients);
  SelectionCounts selection;
  selection.Add(context, batch.size());
  result.selected_share = selection.Shares();
  return result;
}

void Trainer::Impl::Update(const TrainOptions& options, double gradient_norm) {
  AdamWSettings adamw{.lr = options.learning_rate,
                      .beta1 = options.beta1,
                      .beta2 = options.beta2,
                      .eps = options.eps,
                      .weight_decay = options.weight_decay,
                      .step = ++step};
  if (options.clip_norm > 0 && gradient_norm > options.clip_norm) {
    adamw.gradient_scale = static_cast<float>(options.clip_norm / gradient_norm);
  }
  optimizer.Step(model->model.params(), gradients, adamw);
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
    TrainResult result = impl_->Gradients(options);
    if (!std::isfinite(result.loss) || !std::isfinite(result.gradient_norm)) {
      const std::string tensor = FirstNonFinite(impl_->gradients);
      throw UserError({fmt::format("step {}", result.step), "training diverged; the weights are as before the step",
                       "a finite loss and gradient norm",
                       fmt::format("{} and {}, first in the gradient of {}", result.loss, result.gradient_norm, tensor),
                       ""});
    }
    impl_->Update(options, result.gradient_norm);
    return result;
  });
}

}  // namespace v1
}  // namespace taipan
