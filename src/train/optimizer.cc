#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <sstream>

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

void Optimizer::Step(ModelParams& params, ModelParams& gradients, const AdamWSettings& settings,
                     const WeightGroups& trained) {
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
    AdamW({p.F32(), gradient, moments.m.F32(), moments.v.F32(), p.f32.size()}, own,
          {.bf16 = p.bf16.empty() ? nullptr : p.bf16.As<BF16>(), .clear = gradient});
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
