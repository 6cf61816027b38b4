#include "model/parameters.h"

#include <algorithm>

#include "kernels/embedding.h"
#include "model/layer_table.h"

namespace taipan {
namespace {

constexpr char kEmbedding[] = "embedding", kHead[] = "head";  // groups

}  // namespace

void ModelParams::ForEach(const WeightVisitor& visit) {
  visit(embedding);
  for (const auto& layer : layers) {
    for (const auto& branch : layer) branch->ForEach(visit);
  }
  visit(norm);
  if (!tied()) visit(lm_head);
}

void ModelParams::ForEach(const std::function<void(const Weight&)>& visit) const {
  visit(embedding);
  for (const auto& layer : layers) {
    for (const auto& branch : layer) branch->ForEach([&](const Weight& w) { visit(w); });
  }
  visit(norm);
  if (!tied()) visit(lm_head);
}

void ModelParams::BindZeros() {
  ForEach([](Weight& w) { w.f32 = Tensor(w.spec.shape); });
}

void ModelParams::Zero() {
  ForEach([](Weight& w) {
    w.f32.Zero();
    w.bf16.Zero();
  });
}

ModelParams DeclareParams(const ModelConfig& c, const std::vector<Layer>& layers) {
  const auto table = [&](const char* name, const char* group) {
    return Weight({name, group, {c.vocab_size, c.hidden_size}, Role::kLinear, Init::kNormal, /*decay=*/true});
  };
  ModelParams p;
  p.embedding = table("model.embeddings.weight", kEmbedding);
  for (size_t i = 0; i < layers.size(); ++i) {
    p.layers.emplace_back();
    for (const auto& branch : layers[i].branches) {
      p.layers.back().push_back(branch->Declare());
      p.layers.back().back()->ForEach(
          [&](Weight& w) { w.spec.name = fmt::format("model.layers.{}.{}", i, w.spec.name); });
    }
  }
  p.norm = Weight({.name = "model.norm.weight", .group = "final norm", .shape = {c.hidden_size}});
  if (!c.tie_word_embeddings) p.lm_head = table("lm_head.weight", kHead);
  return p;
}

void LookUp(const Weight& embedding, std::span<const int32_t> tokens, MatrixView out) {
  if (!embedding.quant.empty()) {
    const auto row = [&](int64_t token, float* to) { DecodeRow(embedding.quant.View(), token, to); };
    Embed(row, embedding.spec.shape[0], tokens, out);
  } else if (embedding.rows) {
    Embed(embedding.rows, embedding.spec.shape[0], tokens, out);
  } else {
    Embed((embedding.f32.empty() ? embedding.bf16 : embedding.f32).Matrix(), tokens, out);
  }
}

std::vector<WeightSpec> WeightSpecs(const ModelConfig& config) {
  std::vector<WeightSpec> specs;
  DeclareParams(config, DeclaredLayers(config)).ForEach([&](Weight& w) { specs.push_back(w.spec); });
  return specs;
}

bool IsHiddenMatrix(const WeightSpec& spec) {
  return spec.role == Role::kLinear && spec.group != kEmbedding && spec.group != kHead;
}

bool SumsOverWidth(const WeightSpec& spec) {
  return IsHiddenMatrix(spec) || (spec.role == Role::kVector && spec.init == Init::kNormal);
}

std::vector<ParameterGroup> ParameterGroups(const ModelConfig& config) {
  std::vector<ParameterGroup> groups;
  for (const WeightSpec& spec : WeightSpecs(config)) {
    auto it = std::find_if(groups.begin(), groups.end(), [&](const ParameterGroup& g) { return g.name == spec.group; });
    if (it == groups.end()) it = groups.insert(groups.end(), {spec.group, 0});
    it->count += spec.count();
  }
  return groups;
}

double SumParameters(const ModelConfig& config) {
  double sum = 0;
  for (const ParameterGroup& group : ParameterGroups(config)) sum += group.count;
  return sum;
}

int64_t CountParameters(const ModelConfig& config) { return static_cast<int64_t>(SumParameters(config)); }

}  // namespace taipan
