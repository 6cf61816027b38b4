#pragma once
// The exponential moving average of a model's weights over the steps (EMA): what a run validates and publishes, where
// one is asked for. Training goes on from the weights themselves.

#include <string>
#include <vector>

#include "formats/safetensors.h"
#include "model/parameters.h"

namespace taipan {

class WeightAverage {
 public:
  // Begins at the weights. decay: in (0, 1), the share of the average that a step leaves.
  WeightAverage(ModelParams& params, double decay);

  // After update `step`, from 1. Young averages forget faster, by min(decay, (1 + step) / (10 + step)), so that little
  // stays of the first weights.
  void Add(ModelParams& params, int64_t step);

  // Exchanges the average and the weights; copies in bf16 are the caller's to refresh.
  void Swap(ModelParams& params);

 private:
  double decay_;
  std::vector<Tensor> values_;  // in the order of ForEach
};

// Weights beside a model that holds their average.
std::vector<SafetensorsItem> TrainedWeights(ModelParams& params);       // they point to the parameters
void LoadTrainedWeights(ModelParams& params, const std::string& path);  // UserError

}  // namespace taipan
