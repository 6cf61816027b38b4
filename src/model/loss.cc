// From hidden rows to logits, scores and gradients: final norm, head, losses, and the way back through the blocks.

#include <cstring>

#include "base/op_timer.h"
#include "kernels/convert.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/rms_norm.h"
#include "model/forward_context.h"

namespace taipan {
namespace {

MatrixView Gather(ConstMatrixView from, std::span<const int64_t> rows, Arena& arena) {
  MatrixView to = arena.Matrix(static_cast<int64_t>(rows.size()), from.cols);
  for (size_t i = 0; i < rows.size(); ++i) {
    CHECK(rows[i] >= 0 && rows[i] < from.rows);
    std::memcpy(to.F32(static_cast<int64_t>(i)), from.F32(rows[i]), static_cast<size_t>(from.cols) * 4);
  }
  return to;
}

// The rows that carry a label, with targets and weights.
struct Labels {
  std::vector<int64_t> rows;
  std::vector<int32_t> targets;
  std::vector<float> weights;
};

Labels LabelsOf(const Batch& batch, int64_t vocab_size) {
  Labels l;
  if (!batch.targets.empty()) CHECK_EQ(batch.targets.size(), batch.tokens.size());
  if (!batch.weights.empty()) CHECK_EQ(batch.weights.size(), batch.tokens.size());
  for (size_t i = 0; i < batch.targets.size(); ++i) {
    if (batch.targets[i] < 0) continue;
    if (batch.targets[i] >= vocab_size) {
      throw UserError({fmt::format("target {}", i), "id out of range", fmt::format("-1 to {}", vocab_size - 1),
                       fmt::format("{}", batch.targets[i]), ""});
    }
    l.rows.push_back(static_cast<int64_t>(i));
    l.targets.push_back(batch.targets[i]);
    if (!batch.weights.empty()) l.weights.push_back(batch.weights[i]);
  }
  return l;
}

// d (lambda * budget loss) / d m of one SAL, a row of the step each.
std::vector<float> BudgetGradient(const std::vector<double>& row_sums, const StepTotals& totals,
                                  const LossOptions& loss) {
  const size_t rows = totals.row_lengths.size();
  std::vector<float> dm(rows, 0.0f);
  if (loss.budget_weight == 0) return dm;
  CHECK_EQ(row_sums.size(), rows);
  for (size_t r = 0; r < rows; ++r) {
    const double length = static_cast<double>(totals.row_lengths[r]);
    if (length == 0) continue;
    dm[r] = static_cast<float>(loss.budget_weight * 2 * (row_sums[r] / length - loss.budget) /
                               (length * static_cast<double>(rows)));
  }
  return dm;
}

}  // namespace

StepTotals TotalsOf(const Batch& batch) {
  StepTotals totals;
  for (size_t i = 0; i < batch.targets.size(); ++i) {
    if (batch.targets[i] >= 0) totals.targets += batch.weights.empty() ? 1.0 : batch.weights[i];
  }
  for (const Segment& s : batch.segments) {
    const size_t row = static_cast<size_t>(s.row);
    if (row >= totals.row_lengths.size()) totals.row_lengths.resize(row + 1, 0);
    totals.row_lengths[row] += s.length;
  }
  return totals;
}

double BudgetLoss(const BudgetSums& sums, const StepTotals& totals, double budget) {
  double loss = 0;
  const size_t rows = totals.row_lengths.size();
  for (const std::vector<double>& m : sums.m) {
    double over_rows = 0;
    for (size_t r = 0; r < rows; ++r) {
      if (totals.row_lengths[r] == 0) continue;
      const double gap = budget - (r < m.size() ? m[r] : 0.0) / static_cast<double>(totals.row_lengths[r]);
      over_rows += gap * gap;
    }
    if (rows > 0) loss += over_rows / static_cast<double>(rows);
  }
  return loss;
}

void AddBudgetSums(const ForwardContext& context, int64_t rows, BudgetSums& sums) {
  sums.m.resize(context.gates().size());
  for (size_t s = 0; s < sums.m.size(); ++s) {
    const std::vector<double>& from = context.gates()[s].row_sums;
    CHECK_LE(static_cast<int64_t>(from.size()), rows);
    sums.m[s].resize(static_cast<size_t>(rows), 0.0);
    for (size_t r = 0; r < from.size(); ++r) sums.m[s][r] += from[r];
  }
}

void Model::Logits(ForwardContext& context, std::span<const int64_t> rows, MatrixView logits) const {
  ForwardContext::Impl& c = *context.impl_;
  CHECK_EQ(logits.cols, config_.vocab_size);
  Arena::Scope scope(c.scratch);
  const OpTimer timer("head", LinearFlops(static_cast<int64_t>(rows.size()), params_.head()));
  const MatrixView h = Gather(c.h, rows, c.scratch), normed = c.scratch.Matrix(h.rows, h.cols, dtype_);
  RmsNorm(h, params_.norm.F32(), static_cast<float>(config_.rms_norm_eps), normed, nullptr);
  Linear(normed, params_.head(), logits);
}

double Model::Score(ForwardContext& context, const Batch& batch, float* logprobs) const {
  ForwardContext::Impl& c = *context.impl_;
  Arena::Scope scope(c.scratch);
  const Labels labels = LabelsOf(batch, config_.vocab_size);
  const OpTimer timer("head, loss", LinearFlops(static_cast<int64_t>(labels.rows.size()), params_.head()));
  const MatrixView h = Gather(c.h, labels.rows, c.scratch), normed = c.scratch.Matrix(h.rows, h.cols, dtype_);
  RmsNorm(h, params_.norm.F32(), static_cast<float>(config_.rms_norm_eps), normed, nullptr);
  std::vector<float> values(labels.rows.size());
  const double sum =
      HeadCrossEntropy(normed, params_.head(), labels.targets, labels.weights, 1.0f, nullptr, values.data(), c.scratch);
  if (logprobs != nullptr) {
    std::memset(logprobs, 0, batch.tokens.size() * sizeof(float));
    for (size_t i = 0; i < values.size(); ++i) logprobs[labels.rows[i]] = values[i];
  }
  return sum;
}

// dh [T, d] <- gradient of the mean cross entropy at the last block's output; returns the weighted sum of -log p.
double Model::HeadBackward(ForwardContext& context, const Batch& batch, const StepTotals& totals, ModelParams& grads,
                           MatrixView dh) const {
  ForwardContext::Impl& c = *context.impl_;
  Arena::Scope scope(c.scratch);
  const float eps = static_cast<float>(config_.rms_norm_eps);
  const Labels labels = LabelsOf(batch, config_.vocab_size);
  const int64_t n = static_cast<int64_t>(labels.rows.size()), d = config_.hidden_size;
  const OpTimer timer("head, loss", 3 * LinearFlops(n, params_.head()));
  const MatrixView h = Gather(c.h, labels.rows, c.scratch), normed = c.scratch.Matrix(n, d, dtype_);
  const MatrixView dnormed = c.scratch.Matrix(n, d);
  float* inv_rms = c.scratch.Floats(n);
  RmsNorm(h, params_.norm.F32(), eps, normed, inv_rms);
  const HeadGradient head{dnormed, grads.head().master.Matrix()};
  const float scale = totals.targets > 0 ? static_cast<float>(1.0 / totals.targets) : 0.0f;
  const double nll =
      HeadCrossEntropy(normed, params_.head(), labels.targets, labels.weights, scale, &head, nullptr, c.scratch);
  const MatrixView drows = c.scratch.Matrix(n, d);
  RmsNormBackward(h, params_.norm.F32(), inv_rms, dnormed, drows, Accumulate::kWrite, grads.norm.F32());
  dh.Zero();
  for (int64_t i = 0; i < n; ++i)
    std::memcpy(dh.F32(labels.rows[static_cast<size_t>(i)]), drows.F32(i), static_cast<size_t>(d) * 4);
  return nll;
}

// Runs block i again from the stream at its entry, kept for backward this time.
void Model::BlockAgain(size_t i, int64_t sal, const Batch& batch, const GateOptions& gate,
                       ForwardContext& context) const {
  ForwardContext::Impl& c = *context.impl_;
  c.again.Reset();
  c.segments = LayerSegments(batch, c.positions, i);
  for (LayerSegment& s : c.segments) s.state_out = nullptr;
  const MatrixView h = c.again.Matrix(c.entries[i].rows, c.entries[i].cols);
  Convert(c.entries[i], h);
  ForwardBlock(i, gate, /*keep=*/true, context, c.again, h, nullptr, sal);
}

double Model::Backward(ForwardContext& context, const Batch& batch, const StepTotals& totals, const BudgetSums& sums,
                       const LossOptions& loss, const GateOptions& gate, ModelParams& grads,
                       std::span<const SequenceStateGradient* const> dstate_out,
                       std::span<SequenceStateGradient* const> dstate_in) const {
  ForwardContext::Impl& c = *context.impl_;
  CHECK(c.kept);
  CHECK_EQ(c.h.rows, batch.size());
  Arena::Scope scope(c.scratch);
  const MatrixView dh = c.scratch.Matrix(batch.size(), config_.hidden_size);
  const double nll = HeadBackward(context, batch, totals, grads, dh);
  const size_t n_segments = batch.segments.size();
  std::vector<const LayerStateGradient*> out(dstate_out.empty() ? 0 : n_segments, nullptr);
  std::vector<LayerStateGradient*> in(dstate_in.empty() ? 0 : n_segments, nullptr);
  for (SequenceStateGradient* g : dstate_in) {
    if (g) g->layers.resize(blocks_.size());
  }
  int64_t sal = config_.num_sals();
  for (size_t i = blocks_.size(); i-- > 0;) {
    for (size_t j = 0; j < out.size(); ++j)
      out[j] = dstate_out[j] && !dstate_out[j]->layers.empty() ? &dstate_out[j]->layers[i] : nullptr;
    for (size_t j = 0; j < in.size(); ++j) in[j] = dstate_in[j] ? &dstate_in[j]->layers[i] : nullptr;
    std::vector<float> dm;
    if (blocks_[i]->selective()) {
      const size_t index = static_cast<size_t>(--sal);
      dm = BudgetGradient(index < sums.m.size() ? sums.m[index] : std::vector<double>(), totals, loss);
    }
    if (c.recompute == Recompute::kBlock) BlockAgain(i, sal, batch, gate, context);
    const BackwardCall call{.segments = c.segments,
                            .scratch = &c.scratch,
                            .dtype = dtype_,
                            .dstate_out = out,
                            .dstate_in = in,
                            .dm_row = dm,
                            .gate = &gate};
    blocks_[i]->Backward(*params_.blocks[i], call, *c.saved[i], dh, *grads.blocks[i]);
  }
  const OpTimer timer("embedding");
  EmbedBackward(dh, batch.tokens, grads.embedding.master.Matrix());
  return nll;
}

}  // namespace taipan
