// Initialisation of a whole model, by name, as docs and config say: distributions, residual scaling, the open gate.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "support/random_model.h"

namespace taipan::test {
namespace {

constexpr double kRange = 0.03;  // not the default of 0.02

ModelConfig WideConfig() {
  constexpr LayerKind kM = LayerKind::kMamba2, kS = LayerKind::kSelectiveAttention;
  ModelConfig config;
  config.layer_pattern = {kM, kM, kS, kM, LayerKind::kAttention, LayerKind::kSlidingAttention, kS};
  config.vocab_size = 512;
  config.hidden_size = 128;
  config.intermediate_size = 320;
  config.head_dim = 2;  // many heads: enough samples of A_log and dt_bias
  config.state_size = 16;
  config.num_attention_heads = config.num_key_value_heads = 4;
  config.attention_head_dim = 32;
  config.sliding_window = 64;
  config.initializer_range = kRange;
  config.tie_word_embeddings = false;
  return config;
}
constexpr double kBranches = 3 * 1 + 4 * 2;  // a Mamba-2 block writes to the residual stream once, the others twice

bool EndsWith(const std::string& name, const std::string& end) {
  return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
}

struct Named {
  std::string name;
  std::vector<double> values;
};
std::vector<Named> Initialised(uint64_t seed, double gate_bias) {
  LanguageModel model(WideConfig());
  model.Initialise(seed, gate_bias);
  std::vector<Named> all;
  model.params().ForEach([&](Weight& weight) {
    all.push_back({weight.spec.name, {weight.F32(), weight.F32() + weight.f32.size()}});
  });
  return all;
}

// Largest distance of the empirical distribution from `cdf`, times sqrt(n): above 2 with probability 2 exp(-8) = 7e-4
// (Dvoretzky, Kiefer, Wolfowitz); seeds are fixed, so a test that passes once passes always.
template <class F>
double Distance(std::vector<double> values, F&& cdf) {
  std::sort(values.begin(), values.end());
  const double n = static_cast<double>(values.size());
  double worst = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double p = cdf(values[i]), rank = static_cast<double>(i);
    worst = std::max({worst, p - rank / n, (rank + 1) / n - p});
  }
  return worst * std::sqrt(n);
}

TEST(Initialise, LinearWeights) {
  int residual = 0, plain = 0;
  for (const Named& p : Initialised(1, 3.0)) {
    const bool writes = EndsWith(p.name, "out_proj.weight") || EndsWith(p.name, "o_proj.weight") ||
                        EndsWith(p.name, "down_proj.weight");
    const bool linear = writes || EndsWith(p.name, "_proj.weight") || EndsWith(p.name, "gate.weight") ||
                        p.name == "lm_head.weight" || p.name == "model.embeddings.weight";
    if (!linear) continue;
    ++(writes ? residual : plain);
    const double deviation = writes ? kRange / std::sqrt(kBranches) : kRange;
    EXPECT_LT(Distance(p.values, [&](double x) { return 0.5 * std::erfc(-x / (deviation * std::sqrt(2.0))); }), 2)
        << p.name;
  }
  EXPECT_EQ(residual, kBranches);
  EXPECT_EQ(plain, 2 + 3 * 1 + 4 * 5 + 2);  // in_proj; q, k, v, gate_proj, up_proj; the two gates
}

TEST(Initialise, NormsAndBiases) {
  for (const Named& p : Initialised(1, 3.0)) {
    const bool one = EndsWith(p.name, "norm.weight") || EndsWith(p.name, ".D");
    if (!one && !EndsWith(p.name, "conv1d.bias")) continue;
    EXPECT_EQ(p.values, std::vector<double>(p.values.size(), one ? 1.0 : 0.0)) << p.name;
  }
}

TEST(Initialise, DecayAndTimeStep) {
  std::vector<double> a, dt;
  for (const Named& p : Initialised(2, 3.0)) {
    for (double x : p.values) {
      if (EndsWith(p.name, "A_log")) a.push_back(std::exp(x));
      if (EndsWith(p.name, "dt_bias")) dt.push_back(std::log1p(std::exp(x)));
    }
  }
  ASSERT_EQ(a.size(), 3u * 128u);
  ASSERT_EQ(dt.size(), 3u * 128u);
  EXPECT_LT(Distance(a, [](double x) { return std::clamp((x - 1) / 15, 0.0, 1.0); }), 2);
  EXPECT_LT(Distance(dt, [](double x) { return std::clamp(std::log(x / 1e-3) / std::log(100.0), 0.0, 1.0); }), 2);
}

TEST(Initialise, GateBiasOpensTheGate) {
  for (double bias : {3.0, 0.0, -1.0}) {
    int gates = 0;
    for (const Named& p : Initialised(1, bias)) {
      if (!EndsWith(p.name, "gate.bias")) continue;
      ++gates;
      ASSERT_EQ(p.values.size(), 2u);
      EXPECT_NEAR(p.values[1] - p.values[0], bias, 1e-6) << p.name;
    }
    EXPECT_EQ(gates, 2);
  }
}

TEST(Initialise, SeedsAndTensorsAreIndependent) {
  const std::vector<Named> one = Initialised(1, 3.0), again = Initialised(1, 3.0), two = Initialised(2, 3.0);
  std::set<double> firsts;
  size_t random = 0;
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].values, again[i].values) << one[i].name;
    if (one[i].values == std::vector<double>(one[i].values.size(), one[i].values[0])) continue;  // ones and zeros
    if (EndsWith(one[i].name, "gate.bias")) continue;
    EXPECT_NE(one[i].values, two[i].values) << one[i].name;
    firsts.insert(one[i].values[0]);
    ++random;
  }
  EXPECT_EQ(firsts.size(), random) << "two tensors begin with the same number";
}

}  // namespace
}  // namespace taipan::test
