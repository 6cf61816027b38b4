#include "model/model.h"

#include <algorithm>
#include <utility>

#include "base/files.h"
#include "base/op_timer.h"
#include "kernels/convert.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/rms_norm.h"
#include "kernels/rows.h"
#include "layers/multiplier.h"
#include "model/config_validate.h"
#include "model/forward_context.h"
#include "model/gate_controls.h"
#include "model/init.h"

namespace taipan {
namespace {

void CheckBatch(const Batch& batch, const ModelConfig& config) {
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    if (batch.tokens[i] < 0 || batch.tokens[i] >= config.vocab_size) {
      throw UserError({fmt::format("token {}", i), "id out of range", fmt::format("0 to {}", config.vocab_size - 1),
                       fmt::format("{}", batch.tokens[i])});
    }
  }
  if (!batch.targets.empty()) CHECK_EQ(batch.targets.size(), batch.tokens.size());
  if (!batch.weights.empty()) CHECK_EQ(batch.weights.size(), batch.tokens.size());
  int64_t at = 0;
  CHECK(!batch.ahead || batch.rows_alone);
  for (const Segment& s : batch.segments) {
    CHECK(!batch.ahead || (s.state_in != nullptr && s.state_out == nullptr));
    CHECK_EQ(s.begin, at);
    CHECK_GE(s.length, 0);
    at += s.length;
  }
  CHECK_EQ(at, batch.size());
}

// The batch's segments with the states of one layer; positions: of the segments' first tokens.
void SetLayerSegments(const Batch& batch, const std::vector<int64_t>& positions, size_t layer,
                      std::vector<LayerSegment>& out) {
  out.clear();
  for (size_t j = 0; j < batch.segments.size(); ++j) {
    const Segment& s = batch.segments[j];
    out.push_back({s.begin, s.length, s.row, s.row_begin, positions[j],
                   s.state_in ? &s.state_in->layers[layer] : nullptr,
                   s.state_out ? &s.state_out->layers[layer] : nullptr});
  }
}

Keep KeepOf(Recompute recompute) { return recompute == Recompute::kMixer ? Keep::kLess : Keep::kAll; }

}  // namespace

GateControls ControlsOf(const GateOptions& gate, size_t sal) {
  GateControls c;
  c.rule = gate.rule;
  c.share = gate.share;
  c.noise = gate.noise;
  c.by_position = gate.by_position;
  c.key = {gate.seed, kGumbelStream + static_cast<uint32_t>(sal), gate.step};
  c.given = gate.noise == GateNoise::kGiven ? gate.given.at(sal) : nullptr;
  c.tau = gate.tau;
  c.delta = gate.delta.empty() ? 0.0f : gate.delta.at(sal);
  c.attend_all = gate.attend_all;
  return c;
}

int64_t SequenceState::bytes() const {
  int64_t sum = 0;
  for (const LayerState& s : layers) sum += s.bytes();
  return sum;
}

ForwardContext::ForwardContext() : impl_(std::make_unique<Impl>()) {}
ForwardContext::~ForwardContext() = default;
ForwardContext::ForwardContext(ForwardContext&&) noexcept = default;
ForwardContext& ForwardContext::operator=(ForwardContext&&) noexcept = default;
const std::vector<GateReport>& ForwardContext::gates() const { return impl_->gates; }
const std::vector<GateGradientReport>& ForwardContext::gate_gradients() const { return impl_->gate_gradients; }
void ForwardContext::WatchTimeSteps(bool watch) { impl_->watches_time_steps = watch; }
const std::vector<TimeStepReport>& ForwardContext::time_steps() const { return impl_->time_steps; }
void ForwardContext::SetRecompute(Recompute recompute) { impl_->recompute = recompute; }
int64_t ForwardContext::peak_bytes() const {
  return impl_->results.peak_bytes() + impl_->scratch.peak_bytes() + impl_->again.peak_bytes();
}

LanguageModel::LanguageModel(ModelConfig config) : config_(std::move(config)) {
  ValidateModelConfig(config_, "model config");
  layers_ = MakeLayers(config_);
  int64_t sals = 0;
  for (const Layer& layer : layers_) {
    first_sal_.push_back(sals);
    for (const auto& branch : layer.branches) sals += branch->selective() ? 1 : 0;
  }
  params_ = DeclareParams(config_, layers_);
}

void LanguageModel::SetSelectionThreshold(std::vector<double> threshold) {
  CHECK(threshold.empty() || static_cast<int64_t>(threshold.size()) == config_.num_sals());
  config_.selection_threshold = std::move(threshold);
}

ModelParams LanguageModel::NewGradients() const {
  ModelParams gradients = DeclareParams(config_, layers_);
  gradients.BindZeros();
  return gradients;
}

void LanguageModel::Initialise(uint64_t seed, double gate_bias, Binding binding) {
  int branches = 0;
  for (const Layer& layer : layers_) branches += static_cast<int>(layer.branches.size());
  uint32_t index = 0;
  params_.ForEach([&](Weight& w) {
    w.f32 = Tensor(w.spec.shape);
    InitialiseWeight(w, {seed, kInitStream + index++, 0}, config_.initializer_range, branches, gate_bias);
    if (binding != Binding::kBF16 || !IsProduct(w)) return;
    w.bf16 = Tensor::Unset(w.spec.shape, DType::kBF16);
    Convert(w.f32.Matrix(), w.bf16.Matrix());
    if (&w != &params_.embedding) w.f32 = Tensor();  // as initialised, tokens are looked up in f32
  });
  if (binding == Binding::kBF16) SetDType(DType::kBF16);
}

void LanguageModel::SetDType(DType dtype) {
  CHECK(dtype == DType::kF32 || dtype == DType::kBF16);
  if (dtype == DType::kBF16) CheckAllowsBF16(config_);
  dtype_ = dtype;
  params_.ForEach([&](Weight& w) {
    if (dtype == DType::kBF16 || w.bf16.empty()) return;
    if (w.f32.empty()) RequireF32("computing in f32");
    w.bf16 = Tensor();
  });
  RefreshCopies();
}

void LanguageModel::SetKvDType(DType dtype) {
  CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kI8);
  kv_dtype_ = dtype;
}

void LanguageModel::RefreshCopies() {
  if (dtype_ == DType::kF32) return;
  params_.ForEach([&](Weight& w) {
    if (!IsProduct(w) || w.f32.empty()) return;
    if (w.bf16.empty()) w.bf16 = Tensor(w.spec.shape, DType::kBF16);
    Convert(std::as_const(w.f32).Matrix(), w.bf16.Matrix());
  });
}

bool LanguageModel::IsProduct(const Weight& w) const {
  return w.spec.role == Role::kLinear && (&w != &params_.embedding || params_.tied());
}

void LanguageModel::RequireF32(const char* what) const {
  params_.ForEach([&](const Weight& w) {
    if (!w.f32.empty()) return;
    throw UserError({w.spec.name, fmt::format("{} needs the weights in f32", what), "f32",
                     !w.bound()        ? "no values"
                     : w.quant.empty() ? "bf16 alone, as the model was loaded"
                                       : "quantized weights, as the model was loaded",
                     "load the model in f32"});
  });
}

void LanguageModel::RequireMasters(const char* what) const {
  RequireF32(what);
  params_.ForEach([&](const Weight& w) {
    if (!w.f32.is_view()) return;
    throw UserError({w.spec.name, fmt::format("{} needs weights that may be changed", what), "a copy in memory",
                     "the file itself, as the model was loaded"});
  });
}

void LanguageModel::KeepFile(std::shared_ptr<const MappedFile> file) {
  if (std::find(files_.begin(), files_.end(), file) == files_.end()) files_.push_back(std::move(file));
}

void LanguageModel::CheckFiles() const {
  for (const auto& file : files_) file->CheckUnchanged();
}

SequenceState LanguageModel::NewState() const {
  SequenceState state;
  state.layers.resize(layers_.size());
  ForEachState(layers_, [&](size_t i, const StateSpec& spec) { state.layers[i].Add(spec); });
  return state;
}

void LanguageModel::Forward(const Batch& batch, const GateOptions& gate, bool keep, ForwardContext& context,
                            const std::function<void(int64_t, ConstMatrixView)>& after_layer) const {
  CheckBatch(batch, config_);
  const RowsAlone alone(batch.rows_alone);
  ForwardContext::Impl& c = *context.impl_;
  c.batch = batch;
  c.results.Reset();
  c.scratch.Reset();
  c.kept = keep;
  c.saved.resize(layers_.size());
  c.entries.assign(layers_.size(), {});
  c.gates.resize(static_cast<size_t>(config_.num_sals()));
  c.controls.resize(c.gates.size());
  c.time_steps.assign(c.watches_time_steps ? layers_.size() : 0, {});
  for (size_t sal = 0; sal < c.controls.size(); ++sal) c.controls[sal] = ControlsOf(gate, sal);
  c.positions.clear();
  for (const Segment& s : batch.segments) {
    c.positions.push_back(s.position());
    if (s.state_out && s.state_out->layers.empty()) s.state_out->layers = NewState().layers;
  }
  c.h = c.results.Matrix(batch.size(), config_.hidden_size);
  {
    const OpTimer timer("embedding");
    LookUp(params_.embedding, batch.tokens, c.h);
    Multiply(c.h, static_cast<float>(config_.embedding_multiplier));
  }
  if (after_layer) after_layer(-1, c.h);
  const bool again = keep && c.recompute == Recompute::kBlock;
  const Keep how = batch.ahead ? Keep::kRows : keep && !again ? KeepOf(c.recompute) : Keep::kNothing;
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (again) {
      c.entries[i] = c.results.Matrix(batch.size(), config_.hidden_size);
      Convert(c.h, c.entries[i]);
    }
    SetLayerSegments(batch, c.positions, i, c.segments);
    for (const LayerSegment& s : c.segments) CHECK(!again || s.state_in == nullptr || s.state_in != s.state_out);
    ForwardLayer(i, how, context, c.results, c.h);
    if (after_layer) after_layer(static_cast<int64_t>(i), c.h);
  }
  for (size_t j = 0; j < batch.segments.size(); ++j) {
    const Segment& s = batch.segments[j];
    if (s.state_out) s.state_out->position = c.positions[j] + s.length;
  }
  CheckFiles();
}

void LanguageModel::ForwardLayer(size_t index, Keep keep, ForwardContext& context, Arena& results, MatrixView h) const {
  ForwardContext::Impl& c = *context.impl_;
  const Branches& branches = layers_[index].branches;
  auto& saved = c.saved[index];
  saved.resize(branches.size());
  size_t sal = static_cast<size_t>(first_sal_[index]);
  for (size_t i = 0; i < branches.size(); ++i) {
    ForwardCall call{.segments = c.segments, .scratch = &c.scratch, .results = &results, .keep = keep, .dtype = dtype_};
    call.kv_dtype = call.kept() ? dtype_ : kv_dtype();
    if (branches[i]->selective()) {
      call.controls = &c.controls[sal];
      call.report = c.reporting ? &c.gates[sal] : nullptr;
      ++sal;
    } else if (c.watches_time_steps && c.reporting) {
      call.report = &c.time_steps[index];
    }
    const bool keeps = keep != Keep::kNothing;
    if (keeps && !saved[i]) saved[i] = branches[i]->NewSaved();
    branches[i]->Forward(*params_.layers[index][i], call, h, keeps ? saved[i].get() : nullptr);
  }
}

void LanguageModel::Advance(ForwardContext& context, int64_t begin, int64_t count, SequenceState& state) const {
  ForwardContext::Impl& c = *context.impl_;
  CHECK(c.batch.ahead && begin >= 0 && begin + count <= c.batch.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    for (size_t j = 0; j < layers_[i].branches.size(); ++j) {
      layers_[i].branches[j]->Advance(*params_.layers[i][j], *c.saved[i][j], begin, count, state.layers[i], c.scratch);
    }
  }
  state.position += count;
}

void LanguageModel::FinalNorm(ConstMatrixView h, MatrixView normed, float* inv_rms) const {
  RmsNorm(h, params_.norm.F32(), static_cast<float>(config_.rms_norm_eps), normed, inv_rms);
  Multiply(normed, static_cast<float>(1 / config_.logits_scaling));
}

void LanguageModel::Logits(ForwardContext& context, std::span<const int64_t> rows, MatrixView logits) const {
  ForwardContext::Impl& c = *context.impl_;
  CHECK_EQ(logits.cols, config_.vocab_size);
  const Arena::Scope scope(c.scratch);
  const OpTimer timer("head");
  const RowsAlone alone(c.batch.rows_alone);
  const int64_t n = static_cast<int64_t>(rows.size());
  const MatrixView h = c.scratch.Matrix(n, c.h.cols), normed = c.scratch.Matrix(n, c.h.cols, dtype_);
  GatherRows(c.h, rows.data(), h);
  FinalNorm(h, normed, nullptr);
  Linear(normed, params_.head(), logits);
  CheckFiles();
}

double LanguageModel::Score(ForwardContext& context, float* logprobs) const {
  ForwardContext::Impl& c = *context.impl_;
  const Arena::Scope scope(c.scratch);
  const Labels labels = LabelsOf(c.batch, config_.vocab_size);
  const OpTimer timer("head, loss");
  const int64_t n = static_cast<int64_t>(labels.rows.size());
  const MatrixView h = c.scratch.Matrix(n, c.h.cols), normed = c.scratch.Matrix(n, c.h.cols, dtype_);
  GatherRows(c.h, labels.rows.data(), h);
  FinalNorm(h, normed, nullptr);
  std::vector<float> values(labels.rows.size());
  const HeadInputs in = {normed, params_.head(), labels.targets, labels.weights};
  const double sum = HeadCrossEntropy(in, values.data(), nullptr, c.scratch);
  if (logprobs != nullptr) {
    std::fill_n(logprobs, c.batch.tokens.size(), 0.0f);
    for (size_t i = 0; i < values.size(); ++i) logprobs[labels.rows[i]] = values[i];
  }
  CheckFiles();
  return sum;
}

// dh [T, d] <- gradient of the mean cross entropy at the last layer's output; returns the weighted sum of -log p.
double LanguageModel::HeadBackward(ForwardContext& context, const StepTotals& totals, ModelParams& grads,
                                   MatrixView dh) const {
  ForwardContext::Impl& c = *context.impl_;
  const Arena::Scope scope(c.scratch);
  const Labels labels = LabelsOf(c.batch, config_.vocab_size);
  const int64_t n = static_cast<int64_t>(labels.rows.size()), d = config_.hidden_size;
  const OpTimer timer("head, loss");
  const MatrixView h = c.scratch.Matrix(n, d), normed = c.scratch.Matrix(n, d, dtype_);
  const MatrixView dnormed = c.scratch.Matrix(n, d);
  float* inv_rms = c.scratch.Floats(n);
  GatherRows(c.h, labels.rows.data(), h);
  FinalNorm(h, normed, inv_rms);
  const HeadInputs in = {normed, params_.head(), labels.targets, labels.weights};
  const HeadGradients out = {.scale = totals.targets > 0 ? static_cast<float>(1.0 / totals.targets) : 0.0f,
                             .dh = dnormed,
                             .dw = grads.head().f32.Matrix()};
  const double nll = HeadCrossEntropy(in, nullptr, &out, c.scratch);
  const MatrixView drows = c.scratch.Matrix(n, d);
  Multiply(dnormed, static_cast<float>(1 / config_.logits_scaling));
  RmsNormBackward(h, params_.norm.F32(), inv_rms, {.dy = dnormed, .dx = drows, .dweight = grads.norm.F32()});
  ScatterRows(drows, labels.rows.data(), dh);
  return nll;
}

// Runs layer i again from the stream at its entry, kept for backward this time.
void LanguageModel::LayerAgain(size_t i, ForwardContext& context) const {
  ForwardContext::Impl& c = *context.impl_;
  c.again.Reset();
  SetLayerSegments(c.batch, c.positions, i, c.segments);
  for (LayerSegment& s : c.segments) s.state_out = nullptr;
  const MatrixView h = c.again.Matrix(c.entries[i].rows, c.entries[i].cols);
  Convert(c.entries[i], h);
  c.reporting = false;
  ForwardLayer(i, Keep::kAll, context, c.again, h);
  c.reporting = true;
}

double LanguageModel::Backward(ForwardContext& context, const StepTotals& totals, const BudgetSums& sums,
                               const LossOptions& loss, ModelParams& grads,
                               std::span<const SequenceStateGradient* const> dstate_out,
                               std::span<SequenceStateGradient* const> dstate_in, const GradientsDone& done) const {
  ForwardContext::Impl& c = *context.impl_;
  CHECK(c.kept);
  const Arena::Scope scope(c.scratch);
  const MatrixView dh = c.scratch.Matrix(c.batch.size(), config_.hidden_size);
  const double nll = HeadBackward(context, totals, grads, dh);
  if (done) done(static_cast<int64_t>(layers_.size()));
  c.gate_gradients.resize(c.gates.size());
  const size_t n_segments = c.batch.segments.size();
  std::vector<const LayerStateGradient*> out(dstate_out.empty() ? 0 : n_segments, nullptr);
  std::vector<LayerStateGradient*> in(dstate_in.empty() ? 0 : n_segments, nullptr);
  for (SequenceStateGradient* g : dstate_in) {
    if (g) g->layers.resize(layers_.size());
  }
  for (size_t i = layers_.size(); i-- > 0;) {
    for (size_t j = 0; j < out.size(); ++j)
      out[j] = dstate_out[j] && !dstate_out[j]->layers.empty() ? &dstate_out[j]->layers[i] : nullptr;
    for (size_t j = 0; j < in.size(); ++j) in[j] = dstate_in[j] ? &dstate_in[j]->layers[i] : nullptr;
    if (c.recompute == Recompute::kBlock) LayerAgain(i, context);
    const Branches& branches = layers_[i].branches;
    size_t sal = static_cast<size_t>(i + 1 < layers_.size() ? first_sal_[i + 1] : config_.num_sals());
    for (size_t b = branches.size(); b-- > 0;) {
      std::vector<float> dm;
      BranchReport* report = nullptr;
      if (branches[b]->selective()) {
        report = &c.gate_gradients[--sal];
        dm = BudgetGradient(sal < sums.m.size() ? sums.m[sal] : std::vector<double>(), totals, loss);
      }
      const BackwardCall call{.segments = c.segments,
                              .scratch = &c.scratch,
                              .dtype = dtype_,
                              .dstate_out = out,
                              .dstate_in = in,
                              .auxiliary = dm,
                              .report = report};
      branches[b]->Backward(*params_.layers[i][b], call, *c.saved[i][b], dh, *grads.layers[i][b]);
    }
    if (done) done(static_cast<int64_t>(i));
  }
  {
    const OpTimer timer("embedding");
    Multiply(dh, static_cast<float>(config_.embedding_multiplier));
    EmbedBackward(dh, c.batch.tokens, grads.embedding.f32.Matrix());
  }
  if (done) done(-1);
  return nll;
}

}  // namespace taipan
