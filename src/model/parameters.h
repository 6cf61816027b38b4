#pragma once
// The parameters of a model: declared from its config alone, so that tables, plans and checks of files take no memory;
// bound later, when it is known where the values come from and in which type they will be used.

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "layers/branch.h"
#include "model/config.h"

namespace taipan {

struct Layer;

// Weights, or gradients of the same shapes.
struct ModelParams {
  Weight embedding;                                                // [V, d]
  std::vector<std::vector<std::unique_ptr<BranchParams>>> layers;  // a branch each
  Weight norm;                                                     // [d]
  Weight lm_head;                                                  // [V, d]; not declared where tied

  // Every parameter once, in file order, with its full name ("model.layers.0.mixer.in_proj.weight").
  void ForEach(const WeightVisitor& visit);
  void ForEach(const std::function<void(const Weight&)>& visit) const;
  bool tied() const { return lm_head.spec.shape.empty(); }
  const Weight& head() const { return tied() ? embedding : lm_head; }
  Weight& head() { return tied() ? embedding : lm_head; }

  void BindZeros();  // every weight in f32: gradients, masters before they are filled
  void Zero();       // what is bound
};

ModelParams DeclareParams(const ModelConfig& config, const std::vector<Layer>& layers);

// out [T, d] f32: the rows of the tokens, as they are stored.
void LookUp(const Weight& embedding, std::span<const int32_t> tokens, MatrixView out);

// What a config of positive sizes declares, in file order.
std::vector<WeightSpec> WeightSpecs(const ModelConfig& config);

// A matrix from activations to activations, within a layer: not the embedding, not the head.
bool IsHiddenMatrix(const WeightSpec& spec);

// A map whose outputs are sums over as many inputs as the model is wide: hidden matrices and the gate. (The head is
// one, too; muP scales its outputs.)
bool SumsOverWidth(const WeightSpec& spec);

struct ParameterGroup {
  std::string name;  // "mamba2 in_proj"
  double count;      // a whole number; exact below 2^53
};
// By group, in the order of their first weights.
std::vector<ParameterGroup> ParameterGroups(const ModelConfig& config);
double SumParameters(const ModelConfig& config);
int64_t CountParameters(const ModelConfig& config);  // tied embeddings once

}  // namespace taipan
