#pragma once
// AdamW over all parameters of a model, or Muon over its hidden matrices and AdamW over the rest; with their moments,
// of which each rank of a group keeps its share.

#include <set>
#include <string>
#include <vector>

#include "formats/safetensors.h"
#include "kernels/adamw.h"
#include "kernels/muon.h"
#include "model/model.h"
#include "model/parameters.h"
#include "train/shards.h"

namespace taipan {

enum class OptimizerKind { kAdamW, kMuon };
inline std::vector<std::string> NamesOf(OptimizerKind) { return {"adamw", "muon"}; }

// How moments are kept between steps; bf16 is rounded stochastically.
enum class MomentType { kF32, kBF16 };
inline std::vector<std::string> NamesOf(MomentType) { return {"f32", "bf16"}; }
inline DType DTypeOf(MomentType type) { return type == MomentType::kF32 ? DType::kF32 : DType::kBF16; }

// Euclidean norm over every gradient, sums in double in file order. NaN and infinity come through.
double GradientNorm(ModelParams& gradients);

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

// Weights as initialised for one width, for a model `width` times as wide: sums of more terms keep their size.
void ScaleNewWeights(ModelParams& params, double width);

class Optimizer {
 public:
  // Zero moments of the parameters' shapes.
  explicit Optimizer(ModelParams& params, OptimizerKind kind = OptimizerKind::kAdamW, Group& group = Alone(),
                     MomentType type = MomentType::kF32);

  // One update, of bf16 copies too; it leaves the gradients zero, which saves a pass over them. Weight decay acts on
  // the parameters that declare it; settings.step is the number of this update, from 1. Weights of other groups than
  // `trained` stay, whatever their gradients. Muon takes learning rate, decay and scale from the same settings, and
  // `momentum`.
  // width: of the model, over the width that the learning rate is for (docs/math/mup.md). seed: of the rounding of bf16
  // moments, a function of it, the step and the place in the weight. gradients: of the elements of each weight that
  // this rank updates. It gets the others' weights, too; bf16 copies of these are old then.
  void Step(ModelParams& params, std::span<float* const> gradients, const AdamWSettings& settings,
            const WeightGroups& trained = {}, double width = 1, uint64_t seed = 0,
            double momentum = MuonSettings().momentum);

  // "m.NAME" of every parameter and "v.NAME" of those that AdamW updates; they point to what is here. Load checks names
  // and shapes (UserError). Files hold everything, whatever the number of ranks: of several ranks the first takes items
  // or saves after Gather and loads before Scatter.
  std::vector<SafetensorsItem> Items() const;
  void Save(const std::string& path) const;
  void Load(const std::string& path);

  // By all ranks: brings everything to the first; gives everybody what the first has loaded. No-ops of a group of one.
  void Gather();
  void Scatter();
  std::vector<Tensor> TakeGathered() { return std::move(whole_); }  // what Items point to, of several ranks

  Shards& shards() { return shards_; }

 private:
  struct Moments {
    std::string name;
    std::vector<int64_t> shape;  // of the parameter
    bool one = false;            // Muon updates
    Tensor m, v;                 // of this rank's elements; v is empty where Muon updates

    size_t count() const { return one ? 1 : 2; }
  };
  void Move(Message::Way way);

  const OptimizerKind kind_;
  const DType dtype_;  // of the moments
  Shards shards_;
  std::vector<Moments> moments_;  // in the order of ForEach
  std::vector<Tensor> whole_;     // m, v of every parameter: gathered or loaded, in the order of the file
  std::vector<Arena> scratch_;    // of Muon
};

}  // namespace taipan
