#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "base/fields.h"
#include "formats/safetensors.h"
#include "kernels/scale.h"

namespace taipan {

double GradientNorm(ModelParams& gradients) {
  double sum = 0;
  gradients.ForEach([&](Weight& g) { sum += SquaredNorm(g.F32(), g.f32.size()); });
  return std::sqrt(sum);
}

std::string FirstNonFinite(ModelParams& params) {
  std::string name;
  params.ForEach([&](Weight& p) {
    // The sum of the squares of finite floats cannot overflow a double, so the norm decides.
    if (name.empty() && !std::isfinite(SquaredNorm(p.F32(), p.f32.size()))) name = p.spec.name;
  });
  return name;
}

void ScaleNewWeights(ModelParams& params, double width) {
  if (width == 1) return;
  params.ForEach([&](Weight& w) {
    if (SumsOverWidth(w.spec)) Scale(w.f32.Matrix(), static_cast<float>(1 / std::sqrt(width)), w.f32.Matrix());
  });
}

Optimizer::Optimizer(ModelParams& params, OptimizerKind kind) : kind_(kind) {
  params.ForEach([&](Weight& p) {
    const bool one = kind_ == OptimizerKind::kMuon && IsHiddenMatrix(p.spec);
    moments_.push_back({p.spec.name, Tensor(p.spec.shape), one ? Tensor() : Tensor(p.spec.shape)});
  });
}

WeightGroups::WeightGroups(const std::string& names, const std::vector<ParameterGroup>& groups) {
  std::stringstream list(names);
  for (std::string name; std::getline(list, name, ',');) {
    if (std::none_of(groups.begin(), groups.end(), [&](const ParameterGroup& g) { return g.name == name; })) {
      std::string known;
      for (const ParameterGroup& g : groups) known += (known.empty() ? "" : ", ") + g.name;
      throw UserError({"--train-only", "no group of this model's weights", known, "\"" + name + "\""});
    }
    names_.insert(name);
  }
}

namespace {

// The maps within a weight, each a matrix of its own. A step along an orthogonal matrix changes outputs by as much as
// sqrt(inputs) times its size, of which each output gets 1/sqrt(outputs): docs/math/mup.md.
void AppendParts(Weight& p, float* gradient, Tensor& momentum, double width, std::vector<MuonMatrix>& to) {
  const MatrixView g(gradient, p.spec.shape[0], p.spec.shape[1]);
  const MatrixView copy = p.bf16.empty() ? MatrixView() : p.bf16.Matrix();
  int64_t row = 0;
  for (const auto& [rows, grows] : p.spec.Parts()) {
    to.push_back({p.f32.Matrix().Rows(row, rows), g.Rows(row, rows), momentum.Matrix().Rows(row, rows),
                  copy ? copy.Rows(row, rows) : copy, 1 / (grows ? std::sqrt(width) : width)});
    row += rows;
  }
  CHECK_EQ(row, p.spec.shape[0]);
}

}  // namespace

void Optimizer::Step(ModelParams& params, ModelParams& gradients, const AdamWSettings& settings,
                     const WeightGroups& trained, double width) {
  std::vector<MuonMatrix> matrices;
  std::vector<float*> g;
  gradients.ForEach([&](Weight& w) { g.push_back(w.F32()); });
  CHECK_EQ(g.size(), moments_.size());
  size_t i = 0;
  params.ForEach([&](Weight& p) {
    AdamWSettings own = settings;
    if (!p.spec.decay) own.weight_decay = 0;
    Moments& moments = moments_[i];
    float* const gradient = g[i++];
    if (!trained.Has(p.spec.group)) {
      std::fill_n(gradient, p.f32.size(), 0.0f);
      return;
    }
    if (moments.v.empty()) return AppendParts(p, gradient, moments.m, width, matrices);
    if (SumsOverWidth(p.spec)) {
      own.lr /= width;
      own.weight_decay *= width;
    }
    AdamW({p.F32(), gradient, moments.m.F32(), moments.v.F32(), p.f32.size()}, own,
          {.bf16 = p.bf16.empty() ? nullptr : p.bf16.As<BF16>(), .clear = gradient});
  });
  Muon(matrices, {.lr = settings.lr, .weight_decay = settings.weight_decay, .gradient_scale = settings.gradient_scale},
       scratch_);
}

void Optimizer::Save(const std::string& path) const {
  std::vector<SafetensorsItem> items;
  for (const Moments& moments : moments_) {
    items.push_back({"m." + moments.name, DType::kF32, moments.m.shape(), moments.m.data()});
    if (moments.v.empty()) continue;
    items.push_back({"v." + moments.name, DType::kF32, moments.v.shape(), moments.v.data()});
  }
  WriteSafetensors(path, items);
}

void Optimizer::Load(const std::string& path) {
  const SafetensorsFile file(path);
  size_t expected = 0;
  for (const Moments& moments : moments_) {
    expected += moments.v.empty() ? 1 : 2;
    // AdamW has two moments of every weight; one alone is Muon's.
    if (!file.Has("m." + moments.name) || file.Has("v." + moments.name) == !moments.v.empty()) continue;
    throw UserError({path, "the state of another optimizer", NameIn(kind_),
                     NameIn(kind_ == OptimizerKind::kMuon ? OptimizerKind::kAdamW : OptimizerKind::kMuon)});
  }
  if (file.entries().size() != expected) {
    throw UserError({path, "not the optimizer state of this model", fmt::format("{} tensors", expected),
                     fmt::format("{} tensors", file.entries().size())});
  }
  for (Moments& moments : moments_) {
    moments.m = file.ReadF32("m." + moments.name, moments.m.shape());
    if (!moments.v.empty()) moments.v = file.ReadF32("v." + moments.name, moments.v.shape());
  }
}

}  // namespace taipan
