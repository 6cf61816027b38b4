#include "train/optimizer.h"

#include <cmath>

#include "formats/safetensors.h"

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

Optimizer::Optimizer(ModelParams& params) {
  params.ForEach([&](Weight& p) { moments_.push_back({p.spec.name, Tensor(p.spec.shape), Tensor(p.spec.shape)}); });
}

void Optimizer::Step(ModelParams& params, ModelParams& gradients, const AdamWSettings& settings) {
  std::vector<float*> g;
  gradients.ForEach([&](Weight& w) { g.push_back(w.F32()); });
  CHECK_EQ(g.size(), moments_.size());
  size_t i = 0;
  params.ForEach([&](Weight& p) {
    AdamWSettings own = settings;
    if (!p.spec.decay) own.weight_decay = 0;
    Moments& moments = moments_[i];
    AdamW({p.F32(), g[i], moments.m.F32(), moments.v.F32(), p.f32.size()}, own,
          {.bf16 = p.bf16.empty() ? nullptr : p.bf16.As<BF16>(), .clear = g[i]});
    ++i;
  });
}

void Optimizer::Save(const std::string& path) const {
  std::vector<SafetensorsItem> items;
  for (const Moments& moments : moments_) {
    items.push_back({"m." + moments.name, DType::kF32, moments.m.shape(), moments.m.data()});
    items.push_back({"v." + moments.name, DType::kF32, moments.v.shape(), moments.v.data()});
  }
  WriteSafetensors(path, items);
}

void Optimizer::Load(const std::string& path) {
  const SafetensorsFile file(path);
  const size_t expected = 2 * moments_.size();
  if (file.entries().size() != expected) {
    throw UserError({path, "not the optimizer state of this model", fmt::format("{} tensors", expected),
                     fmt::format("{} tensors", file.entries().size())});
  }
  for (Moments& moments : moments_) {
    moments.m = file.ReadF32("m." + moments.name, moments.m.shape());
    moments.v = file.ReadF32("v." + moments.name, moments.v.shape());
  }
}

}  // namespace taipan
