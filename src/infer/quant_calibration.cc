#include "infer/quant_calibration.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <optional>

#include "infer/input_rounding.h"
#include "infer/sequence_reader.h"
#include "kernels/convert.h"
#include "kernels/gemm/input_watch.h"
#include "kernels/rms_norm.h"
#include "layers/multiplier.h"
#include "model/default_dtype.h"
#include "model/gate_controls.h"
#include "model/selection.h"

namespace taipan {
namespace {

constexpr int64_t kBatchTokens = 2048;  // of a forward: large products, little memory
constexpr int64_t kLeastTokens = 1024;
constexpr double kDamping = 0.01;
constexpr float kLeastSquare = 1e-12f;  // below, an input is zero

std::vector<Batch> WindowsOf(const QuantCalibration& calibration) {
  const auto n = static_cast<int64_t>(calibration.tokens.size());
  const int64_t length = std::min(calibration.context, n);
  const int64_t windows = std::max<int64_t>(1, std::min(n, calibration.most_tokens) / length);
  std::vector<Batch> batches;
  for (int64_t i = 0; i < windows; ++i) {
    if (batches.empty() || batches.back().size() + length > kBatchTokens) batches.emplace_back();
    Batch& batch = batches.back();
    const auto row = static_cast<int64_t>(batch.segments.size());
    batch.segments.push_back({.begin = batch.size(), .length = length, .row = row});
    const auto from = calibration.tokens.begin() + (windows > 1 ? i * (n - length) / (windows - 1) : 0);
    batch.tokens.insert(batch.tokens.end(), from, from + length);
  }
  return batches;
}

class Calibrator {
 public:
  Calibrator(LanguageModel& model, const TypeOfTensor& types, const QuantCalibration& calibration)
      : model_(model),
        types_(types),
        calibration_(calibration),
        gate_(InferenceGate(model.config())),
        batches_(WindowsOf(calibration)) {
    for (const Layer& layer : model.layers()) steps_ += static_cast<int64_t>(layer.branches.size());
    steps_ = (steps_ + 1) * static_cast<int64_t>(batches_.size());
  }

  RoundedBlocks Run() {
    for (const Batch& batch : batches_) {
      streams_.emplace_back(std::vector<int64_t>{batch.size(), model_.config().hidden_size});
      LookUp(model_.params().embedding, batch.tokens, streams_.back().Matrix());
      Multiply(streams_.back().Matrix(), static_cast<float>(model_.config().embedding_multiplier));
    }
    for (size_t layer = 0; layer < model_.layers().size(); ++layer) {
      for (size_t b = 0; b < model_.layers()[layer].branches.size(); ++b) RoundBranch(layer, b);
    }
    RoundHead();
    return std::move(rounded_);
  }

 private:
  struct Watched {
    Weight& weight;
    GgmlType type;
    // Sum x^T x over the inputs x, all made equally large: some models have a few tokens whose inputs are a thousand
    // times those of others, and what a branch adds is normalised before it is read.
    Tensor moments;
    void Add(ConstMatrixView x) {
      const std::vector<float> ones(static_cast<size_t>(x.cols), 1.0f);
      Tensor even({x.rows, x.cols}, x.dtype);
      RmsNorm(x, ones.data(), kLeastSquare, even.Matrix(), nullptr);
      LinearBackwardWeight(even.Matrix(), even.Matrix(), moments.Matrix());
    }
  };

  // None where the weight gets no blocks.
  std::optional<Watched> Watch(Weight& w) const {
    if (w.spec.role != Role::kLinear) return std::nullopt;
    const GgmlType type = types_({.name = w.spec.name, .shape = w.spec.shape, .parameter = w.spec.name});
    if (BlockElements(type) == 1) return std::nullopt;
    return Watched{w, type, Tensor({w.spec.shape[1], w.spec.shape[1]})};
  }

  void RoundBranch(size_t layer, size_t branch) {
    std::deque<Watched> watched;  // stay where they are
    model_.params().layers[layer][branch]->ForEach([&](Weight& w) {
      if (auto found = Watch(w)) watched.push_back(std::move(*found));
    });
    for (size_t i = 0; i < batches_.size() && !watched.empty(); ++i) {
      const InputWatch watch([&](const LinearWeight& weight, ConstMatrixView x) {
        for (Watched& w : watched) {
          if (w.weight.f32.Matrix().data == weight.f32.data) w.Add(x);
        }
      });
      Tensor h = streams_[i];
      Forward(layer, branch, batches_[i], h.Matrix());
    }
    for (Watched& w : watched) Round(w);
    for (size_t i = 0; i < batches_.size(); ++i) {
      Forward(layer, branch, batches_[i], streams_[i].Matrix());
      Progress();
    }
    if (model_.layers()[layer].branches[branch]->selective()) ++sals_;
  }

  void Forward(size_t layer, size_t branch, const Batch& batch, MatrixView h) {
    std::vector<LayerSegment> segments;
    for (const Segment& s : batch.segments) segments.push_back({.begin = s.begin, .length = s.length, .row = s.row});
    scratch_.Reset();
    results_.Reset();
    const Branch& at = *model_.layers()[layer].branches[branch];
    const GateControls controls = at.selective() ? ControlsOf(gate_, sals_) : GateControls();
    ForwardCall call{.segments = segments, .scratch = &scratch_, .results = &results_, .dtype = model_.dtype()};
    if (at.selective()) call.controls = &controls;
    at.Forward(*model_.params().layers[layer][branch], call, h, nullptr);
  }

  void RoundHead() {
    std::optional<Watched> w = Watch(model_.params().head());
    for (const Tensor& h : streams_) {
      Tensor normed(h.shape(), model_.dtype());
      RmsNorm(h.Matrix(), model_.params().norm.F32(), static_cast<float>(model_.config().rms_norm_eps), normed.Matrix(),
              nullptr);
      if (w) w->Add(normed.Matrix());
      Progress();
    }
    if (w) Round(*w);
  }

  void Round(Watched& w) {
    const WeightSpec& spec = w.weight.spec;
    Tensor& values = w.weight.f32;
    const InputFactor factor(w.moments, kDamping);
    const float* importance = factor.Importance();
    if (!std::all_of(importance, importance + factor.size(), [](float d) { return std::isfinite(d) && d > 0; })) {
      throw UserError({calibration_.where, "the inputs of " + spec.name + " are not finite on this text",
                       "a text on which the model works", "numbers out of range"});
    }
    Tensor blocks({spec.shape[0], spec.shape[1] / BlockElements(w.type) * BlockBytes(w.type)}, DType::kU8);
    if (!RoundForInputs(w.type, values, factor, static_cast<uint8_t*>(blocks.data()))) {
      throw UserError({spec.name, "cannot be stored as " + NameOf(w.type), "finite values",
                       "a value that is out of range or not finite", "--keep " + spec.name + "=f32 holds any value"});
    }
    Dequantize(w.type, std::as_const(blocks).data(), values.size(), values.F32());
    if (!w.weight.bf16.empty()) Convert(std::as_const(values).Matrix(), w.weight.bf16.Matrix());
    rounded_.emplace(spec.name, std::move(blocks));
  }

  void Progress() {
    if (calibration_.on_progress) calibration_.on_progress(++done_, steps_);
  }

  LanguageModel& model_;
  const TypeOfTensor& types_;
  const QuantCalibration& calibration_;
  const GateOptions gate_;
  const std::vector<Batch> batches_;
  std::vector<Tensor> streams_;  // of the batches, between two branches
  Arena scratch_, results_;
  size_t sals_ = 0;  // before the branch at work
  RoundedBlocks rounded_;
  int64_t done_ = 0, steps_ = 0;
};

}  // namespace

void CheckCalibration(const QuantCalibration& calibration, const ModelConfig& config) {
  const auto n = static_cast<int64_t>(calibration.tokens.size());
  if (n < kLeastTokens) {
    throw UserError({calibration.where, "too short to calibrate with", fmt::format("at least {} tokens", kLeastTokens),
                     std::to_string(n)});
  }
  CheckTokenIds(calibration.tokens, config.vocab_size, calibration.where);
}

RoundedBlocks CalibrateBlocks(LanguageModel& model, const TypeOfTensor& types, const QuantCalibration& calibration) {
  CheckCalibration(calibration, model.config());
  model.RequireMasters("calibrating");
  model.SetDType(FastDType(model.config()));
  return Calibrator(model, types, calibration).Run();
}

}  // namespace taipan
