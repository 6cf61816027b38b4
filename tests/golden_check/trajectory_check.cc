// trajectory/NAME: a short training run with our forward, backward, clipping and AdamW, step for step.

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <map>
#include <numbers>

#include "base/files.h"
#include "golden_check/golden.h"
#include "kernels/adamw.h"
#include "model/model_files.h"
#include "support/step_runs.h"

namespace taipan::golden {
namespace {

using test::StepOutcome;
using test::StepSpec;
using Json = nlohmann::json;

// The bounds on losses; the others are wider by what a gradient may be off.
constexpr double kLoss = 1e-4, kLossAfterFlip = 1e-3;
constexpr double kNorm = 1e-3, kNormAfterFlip = 5e-2;
// A gate may fall otherwise only where the reference's smallest margin is within what losses 1e-4 apart explain.
constexpr double kNearTie = 1e-3;

struct Trajectory {
  std::string folder;
  Json train;
  std::vector<Json> metrics;
  std::vector<uint16_t> tokens;
  LanguageModel model;
  std::map<std::string, std::vector<float>> start, m, v;  // by parameter
  bool flipped = false;
};

std::vector<uint16_t> ReadU16(const std::string& relative) {
  const std::string bytes = ReadFile(PathOf(relative));
  std::vector<uint16_t> tokens(bytes.size() / 2);
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<uint16_t>(static_cast<uint8_t>(bytes[2 * i]) | static_cast<uint8_t>(bytes[2 * i + 1]) << 8);
  }
  return tokens;
}

// Every row is one document, and every position has a target.
StepSpec SpecOf(const Trajectory& run, int64_t step) {
  const int64_t batch = run.train.at("batch"), context = run.train.at("context");
  StepSpec spec;
  for (int64_t row = 0; row < batch; ++row) {
    const auto from = run.tokens.begin() + ((step - 1) * batch + row) * context;
    CHECK_LE(from + context + 1 - run.tokens.begin(), static_cast<int64_t>(run.tokens.size()));
    spec.rows.push_back({{{from, from + context}, {from + 1, from + context + 1}}});
  }
  spec.gate.tau = run.train.at("gumbel_temperature").get<float>();
  spec.gate.attend_all = run.train.at("straight_through") == "all";
  spec.loss = {.budget = run.train.at("attention_budget"), .budget_weight = run.train.at("budget_loss_weight")};
  return spec;
}

double LearningRate(const Json& train, int64_t step) {
  const double peak = train.at("peak_lr"), low = train.at("min_lr");
  const double t = static_cast<double>(step), warmup = train.at("warmup_steps"), steps = train.at("steps");
  if (t <= warmup) return peak * t / warmup;
  return low + (peak - low) * (1 + std::cos(std::numbers::pi * (t - warmup) / (steps - warmup))) / 2;
}

void Update(Trajectory& run, const StepOutcome& result, int64_t step, double lr) {
  double sum = 0;
  for (const auto& g : result.gradients) sum += SquaredNorm(g.values.data(), static_cast<int64_t>(g.values.size()));
  const double norm = std::sqrt(sum), clip = run.train.at("grad_clip");
  EXPECT_NEAR(norm, result.grad_norm, 1e-6 * norm);
  AdamWSettings settings{.lr = lr,
                         .beta1 = run.train.at("beta1"),
                         .beta2 = run.train.at("beta2"),
                         .eps = run.train.at("eps"),
                         .step = step};
  if (norm > clip) settings.gradient_scale = static_cast<float>(clip / norm);
  run.model.params().ForEach([&](Weight& weight) {
    const size_t n = static_cast<size_t>(weight.f32.size());
    run.m[weight.spec.name].resize(n);
    run.v[weight.spec.name].resize(n);
    settings.weight_decay = weight.spec.decay ? run.train.at("weight_decay").get<double>() : 0.0;
    AdamW({weight.F32(), result.Of(weight.spec.name).values.data(), run.m[weight.spec.name].data(),
           run.v[weight.spec.name].data(), weight.f32.size()},
          settings);
  });
}

// Shares say whether a gate fell otherwise than in the reference; from then on the bounds are wider.
void CompareShares(Trajectory& run, const StepSpec& spec, const StepOutcome& result, const Json& expected) {
  const auto shares = expected.at("selected_share_per_sal").get<std::vector<double>>();
  ASSERT_EQ(result.sals.size(), shares.size());
  for (size_t g = 0; g < shares.size(); ++g) {
    double share = 0;
    for (double m : result.sums.m[g]) share += m / static_cast<double>(spec.tokens());
    const double off = std::fabs(share - shares[g]) * static_cast<double>(spec.tokens());  // tokens
    if (off < 0.5) continue;
    const double margin = expected.at("min_abs_gate_margin");
    if (!run.flipped) {
      run.flipped = true;
      EXPECT_LE(margin, kNearTie) << "SAL " << g << " selects " << off << " tokens otherwise, and none is a near-tie";
      Note(
          fmt::format("{}: step {} SAL {}: a near-tie fell otherwise (share {:.6f}, reference {:.6f}, its smallest "
                      "margin {:.2g}); losses from here on within {:g}",
                      run.folder, expected.at("step").get<int64_t>(), g, share, shares[g], margin, kLossAfterFlip));
    }
    EXPECT_LE(off, 0.02 * static_cast<double>(spec.tokens())) << "SAL " << g;
  }
}

void CheckStep(Trajectory& run, int64_t step) {
  const Json& expected = run.metrics.at(static_cast<size_t>(step - 1));
  SCOPED_TRACE(fmt::format("step {}{}", step, run.flipped ? " (after a flip)" : ""));
  ASSERT_EQ(expected.at("step"), step);
  const StepSpec spec = SpecOf(run, step);
  const StepOutcome result = test::RunStep(run.model, spec, test::WholeStep(spec));
  CompareShares(run, spec, result, expected);
  const double loss = run.flipped ? kLossAfterFlip : kLoss;
  EXPECT_NEAR(result.total, expected.at("loss"), loss);
  EXPECT_NEAR(result.ce, expected.at("ce"), loss);
  EXPECT_NEAR(result.budget_loss, expected.at("budget_loss"), run.flipped ? 1e-2 : 1e-9);
  const double norm = expected.at("grad_norm");
  EXPECT_NEAR(result.grad_norm, norm, norm * (run.flipped ? kNormAfterFlip : kNorm));
  const double lr = LearningRate(run.train, step);
  EXPECT_NEAR(lr, expected.at("lr"), 1e-15);
  Update(run, result, step, lr);
}

void CompareFinal(Trajectory& run) {
  const Json parameters = ReadJson(run.folder + "/final.json").at("parameters");
  const double relative = run.flipped ? kNormAfterFlip : kNorm;
  size_t seen = 0;
  run.model.params().ForEach([&](Weight& weight) {
    ++seen;
    if (!parameters.contains(weight.spec.name)) {
      ADD_FAILURE() << weight.spec.name << " is not in final.json";
      return;
    }
    const Json& expected = parameters.at(weight.spec.name);
    const std::vector<float> values(weight.F32(), weight.F32() + weight.f32.size());
    const double norm = expected.at("norm"), change = expected.at("change");
    EXPECT_EQ(weight.spec.decay, expected.at("decays").get<bool>()) << weight.spec.name;
    EXPECT_NEAR(test::Norm(values), norm, 1e-5 * norm + relative * change) << weight.spec.name;
    EXPECT_NEAR(test::DistanceOf(values, run.start[weight.spec.name]), change, relative * change) << weight.spec.name;
  });
  EXPECT_EQ(seen, parameters.size());
}

}  // namespace

void CheckTrajectory(const std::string& folder) {
  const Json train = ReadJson(folder + "/train.json");
  ASSERT_FALSE(train.at("gumbel_noise").get<bool>()) << "trajectories have no Gumbel noise";
  Trajectory run{folder,
                 train,
                 ReadJsonLines(folder + "/metrics.jsonl"),
                 ReadU16(train.at("tokens")),
                 LoadModel(PathOf(train.at("model"))),
                 {},
                 {},
                 {}};
  run.model.params().ForEach(
      [&](Weight& weight) { run.start[weight.spec.name].assign(weight.F32(), weight.F32() + weight.f32.size()); });
  const int64_t steps = train.at("steps");
  ASSERT_EQ(static_cast<int64_t>(run.metrics.size()), steps);
  for (int64_t step = 1; step <= steps && !testing::Test::HasFatalFailure(); ++step) CheckStep(run, step);
  CompareFinal(run);
}

}  // namespace taipan::golden
