// grads/CASE: losses, gates and every parameter's gradient of one batch, computed as one batch, row by row and in
// pieces whose states carry gradients.

#include <fmt/format.h>

#include <cmath>

#include "golden_check/golden.h"
#include "model/model_files.h"
#include "support/step_runs.h"

namespace taipan::golden {
namespace {

using test::StepOutcome;
using test::StepPlan;
using test::StepSpec;

constexpr double kRelative = 1e-3;  // the bound a tensor, Frobenius
// A gradient whose true norm is this small a part of the whole one's is a difference of equal terms. What f32 leaves of
// it is about 2^-24 of those terms, which are at most of the size of the whole gradient; sixteen times that.
constexpr double kVanishing = 16.0 / (1 << 24);

struct GradientSet {
  nlohmann::json expected;
  SafetensorsFile inputs, gradients;
};

StepSpec SpecOf(const GradientSet& set, const ModelConfig& config) {
  const nlohmann::json& e = set.expected;
  const std::vector<int64_t> shape = set.inputs.At("tokens").shape;
  const Tensor tokens = set.inputs.Read("tokens");
  CHECK(tokens.dtype() == DType::kI32);
  const auto* ids = static_cast<const int32_t*>(tokens.data());
  StepSpec spec;
  for (int64_t row = 0; row < shape.at(0); ++row) {
    spec.rows.emplace_back();
    const int32_t* at = ids + row * shape.at(1);
    for (int64_t length : e.at("documents").at(static_cast<size_t>(row)).get<std::vector<int64_t>>()) {
      spec.rows.back().push_back(test::NextTokenDocument({at, at + length}));
      at += length;
    }
    CHECK_EQ(at - ids, (row + 1) * shape.at(1));
  }
  const int64_t sals = config.num_sals(), n = spec.tokens();
  if (set.inputs.Has("noise") && sals > 0) {
    const std::vector<float> noise = Values(set.inputs, "noise", {{sals, shape[0], shape[1], 2}});
    for (int64_t g = 0; g < sals; ++g) {
      spec.noise.emplace_back(noise.begin() + g * 2 * n, noise.begin() + (g + 1) * 2 * n);
    }
  }
  spec.gate.tau = e.at("gumbel_temperature").get<float>();
  spec.gate.attend_all = e.at("straight_through") == "all";
  spec.loss = {.budget = e.at("attention_budget"), .budget_weight = e.at("budget_loss_weight")};
  return spec;
}

void CompareLosses(const GradientSet& set, const StepSpec& spec, const StepOutcome& result) {
  const nlohmann::json& e = set.expected;
  EXPECT_EQ(spec.totals().targets, e.at("targets").get<double>());
  EXPECT_NEAR(result.ce, e.at("ce"), 1e-5);
  // With the same selection the budget loss is exact arithmetic on counts.
  EXPECT_NEAR(result.budget_loss, e.at("budget_loss"), 1e-9);
  EXPECT_NEAR(result.total, e.at("total"), 1e-5);
  EXPECT_NEAR(result.grad_norm, e.at("grad_norm"), kRelative * e.at("grad_norm").get<double>());
  if (!e.contains("selected_share_per_sal")) return;
  const auto shares = e.at("selected_share_per_sal").get<std::vector<double>>();
  ASSERT_EQ(result.sals.size(), shares.size());
  for (size_t g = 0; g < shares.size(); ++g) {
    double share = 0;
    for (double m : result.sums.m[g]) share += m / static_cast<double>(spec.tokens());
    EXPECT_NEAR(share, shares[g], 1e-9) << "SAL " << g;
  }
}

void CompareGates(const GradientSet& set, const StepSpec& spec, const StepOutcome& result) {
  if (result.sals.empty() || !set.inputs.Has("selected")) return;
  const int64_t n = spec.tokens(), sals = static_cast<int64_t>(result.sals.size());
  const std::vector<uint8_t> selected = Bytes(set.inputs, "selected", sals * n);
  const std::vector<float> margin = Values(set.inputs, "margin"), alpha = Values(set.inputs, "alpha");
  for (int64_t g = 0; g < sals; ++g) {
    const test::SalValues& sal = result.sals[static_cast<size_t>(g)];
    for (int64_t i = 0; i < n; ++i) {
      const size_t at = static_cast<size_t>(g * n + i), t = static_cast<size_t>(i);
      double noisy = sal.margin[t];
      if (!spec.noise.empty()) {
        const std::vector<float>& noise = spec.noise[static_cast<size_t>(g)];
        noisy += static_cast<double>(noise[2 * t + 1]) - static_cast<double>(noise[2 * t]);
      }
      ASSERT_EQ(int{sal.selected[t]}, int{selected[at]}) << "SAL " << g << " token " << i << " margin " << margin[at];
      ASSERT_NEAR(noisy, margin[at], 2e-4) << "SAL " << g << " token " << i;
      ASSERT_NEAR(sal.alpha[t], alpha[at], 1e-4) << "SAL " << g << " token " << i;
    }
  }
}

void CompareGradients(const GradientSet& set, const StepOutcome& result) {
  const double whole = set.expected.at("grad_norm");
  EXPECT_EQ(set.gradients.entries().size(), result.gradients.size());
  for (const test::NamedGradient& gradient : result.gradients) {
    const std::vector<float> expected = Values(set.gradients, gradient.name, gradient.shape);
    const double norm = test::Norm(expected), distance = test::DistanceOf(expected, gradient.values);
    const double bound = norm > kVanishing * whole ? kRelative * norm : kVanishing * whole;
    EXPECT_LE(distance, bound) << gradient.name << ": " << distance / norm << " of its norm " << norm;
  }
}

}  // namespace

void CheckGradients(const std::string& folder) {
  const GradientSet set{ReadJson(folder + "/expected.json"), SafetensorsFile(PathOf(folder + "/inputs.safetensors")),
                        SafetensorsFile(PathOf(folder + "/grads.safetensors"))};
  const LanguageModel model = LoadModel(PathOf(set.expected.at("model")));
  const StepSpec spec = SpecOf(set, model.config());
  const std::pair<const char*, StepPlan> plans[] = {{"one batch", test::WholeStep(spec)},
                                                    {"row by row", test::RowByRow(spec)},
                                                    {"in pieces", test::StepInPieces(spec, 1)}};
  for (const auto& [how, plan] : plans) {
    SCOPED_TRACE(how);
    const StepOutcome result = test::RunStep(model, spec, plan);
    CompareLosses(set, spec, result);
    CompareGates(set, spec, result);
    CompareGradients(set, result);
  }
}

}  // namespace taipan::golden
