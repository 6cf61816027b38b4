#include "train/weight_average.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "kernels/scale.h"

namespace taipan {

WeightAverage::WeightAverage(ModelParams& params, double decay) : decay_(decay) {
  params.ForEach([&](Weight& w) { values_.push_back(w.f32); });
}

void WeightAverage::Add(ModelParams& params, int64_t step) {
  const double t = static_cast<double>(step), decay = std::min(decay_, (1 + t) / (10 + t));
  size_t i = 0;
  params.ForEach([&](Weight& w) { MoveTowards(w.f32.Matrix(), static_cast<float>(1 - decay), values_[i++].Matrix()); });
}

void WeightAverage::Swap(ModelParams& params) {
  size_t i = 0;
  params.ForEach([&](Weight& w) { std::swap(w.f32, values_[i++]); });
}

std::vector<SafetensorsItem> TrainedWeights(ModelParams& params) {
  std::vector<SafetensorsItem> items;
  params.ForEach([&](Weight& w) {
    items.push_back({w.spec.name, DType::kF32, w.spec.shape, std::as_const(w.f32).data()});
  });
  return items;
}

void LoadTrainedWeights(ModelParams& params, const std::string& path) {
  const SafetensorsFile file(path);
  params.ForEach([&](Weight& w) { w.f32 = file.ReadF32(w.spec.name, w.spec.shape); });
}

}  // namespace taipan
