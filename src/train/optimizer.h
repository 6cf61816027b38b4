#pragma once
// AdamW over all parameters of a model, with its moments.

#include <set>
#include <string>
#include <vector>

#include "kernels/adamw.h"
#include "model/model.h"
#include "model/parameters.h"

namespace taipan {

// Euclidean norm over every gradient, sums in double in file order. NaN and infinity come through.
double GradientNorm(ModelParams& gradients);

// The name of the first tensor, in file order, that holds a NaN or an infinity; "" where all are finite.
std::string FirstNonFinite(ModelParams& params);

// Which weights are trained: those of all groups, or of some.
class WeightGroups {
 public:
  WeightGroups() = default;  // all
  // names: separated by commas, each one of `groups` (UserError); empty: all.
  WeightGroups(const std::string& names, const std::vector<ParameterGroup>& groups);
  bool Has(const std::string& group) const { return names_.empty() || names_.count(group) > 0; }

 private:
  std::set<std::string> names_;
};

class Optimizer {
 public:
  explicit Optimizer(ModelParams& params);  // zero moments of the parameters' shapes

  // One update, of bf16 copies too; it leaves the gradients zero, which saves a pass over them. Weight decay acts on
  // the parameters that declare it; settings.step is the number of this update, from 1. Weights of other groups than
  // `trained` stay, whatever their gradients.
  void Step(ModelParams& params, ModelParams& gradients, const AdamWSettings& settings,
            const WeightGroups& trained = {});

  // "m.NAME" and "v.NAME" of every parameter. Load checks names and shapes (UserError).
  void Save(const std::string& path) const;
  void Load(const std::string& path);

 private:
  struct Moments {
    std::string name;
    Tensor m, v;
  };
  std::vector<Moments> moments_;  // in the order of ForEach
};

}  // namespace taipan
