#include "support/random_model.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace taipan::test {
namespace {

constexpr LayerKind kM = LayerKind::kMamba2, kS = LayerKind::kSelectiveAttention;
constexpr LayerKind kA = LayerKind::kAttention, kW = LayerKind::kSlidingAttention, kF = LayerKind::kMamba2Mlp;
constexpr LayerKind kO = LayerKind::kAttentionOnly, kR = LayerKind::kRelu2Mlp, kP = LayerKind::kMamba2Attention;

double InverseSoftplus(double y) { return y + std::log(-std::expm1(-y)); }

// Larger than at initialisation: every block changes the stream by a good part of its size.
double DrawWeight(const WeightSpec& spec, RandomSource& random) {
  const double fan_in = spec.shape.size() > 1 ? static_cast<double>(spec.shape[1]) : 1.0;
  switch (spec.init) {
    case Init::kNormal:
      return random.Normal() / std::sqrt(fan_in);
    case Init::kNormalResidual:
      return 0.7 * random.Normal() / std::sqrt(fan_in);
    case Init::kOnes:
      return 1.0 + 0.2 * random.Normal();
    case Init::kZeros:
      return 0.1 * random.Normal();
    case Init::kConv:
      return 0.5 * random.Normal();
    case Init::kALog:
      return std::log(0.3 + 4.0 * random.Uniform());
    case Init::kDtBias:
      return InverseSoftplus(0.01 * std::pow(50.0, random.Uniform()));
    case Init::kGateBias:
      return 0.3 * random.Normal();
  }
  return 0;
}

// What models of other programs have beside their kinds of layers.
void DrawVariants(RandomSource& random, ModelConfig& config) {
  if (random.Below(2) != 0) config.ssm_num_heads = config.n_groups * random.Pick({1, 3});
  config.gated_norm = static_cast<GatedNorm>(random.Below(3));
  if (random.Below(4) == 0) return;
  const auto draw = [&] { return 0.5 + random.Uniform(); };
  config.embedding_multiplier = draw();
  config.logits_scaling = draw();
  config.mlp_gate_multiplier = draw();
  config.ssm_out_multiplier = draw();
  config.attention_out_multiplier = draw();
  config.mlp_out_multiplier = draw();
  if (random.Below(2) != 0) config.attention_multiplier = 0.1 + 0.3 * random.Uniform();
  if (random.Below(2) == 0) return;
  for (double& multiplier : config.ssm_multipliers) multiplier = draw();
}

bool HasState(const ModelConfig& config, bool per_token) {
  return AnyBranch(config, [&](const Branch& branch) {
    const std::vector<StateSpec> state = branch.State();
    return std::any_of(state.begin(), state.end(), [&](const StateSpec& spec) { return spec.per_token == per_token; });
  });
}

}  // namespace

int64_t Scaled(int64_t fast) {
  const char* text = std::getenv("TAIPAN_TEST_SCALE");
  const double scale = text != nullptr ? std::atof(text) : 1.0;
  return std::max<int64_t>(1, std::llround(static_cast<double>(fast) * scale));
}

std::vector<NamedPattern> TestPatterns(int64_t random) {
  std::vector<NamedPattern> patterns = {
      {"taipan", {kM, kM, kS, kM, kS}}, {"mamba2", {kM, kM, kM}},        {"transformer", {kA, kA}},
      {"jamba", {kM, kM, kA, kM, kA}},  {"samba", {kM, kM, kW, kM, kW}}, {"selective_only", {kS, kS}},
      {"sliding_only", {kW, kW}},       {"mamba2_only", {kM}},           {"bamba", {kF, kA, kF}},
  };
  const LayerKind kinds[] = {kM, kS, kA, kW};
  for (int64_t i = 0; i < random; ++i) {
    RandomSource source(1000 + static_cast<uint64_t>(i));
    NamedPattern pattern{"random" + std::to_string(i), {}};
    const uint64_t layers = 2 + source.Below(4);
    for (uint64_t layer = 0; layer < layers; ++layer) pattern.layers.push_back(kinds[source.Below(4)]);
    patterns.push_back(pattern);
  }
  patterns.push_back({"granite_h", {kF, kA, kF}});
  patterns.push_back({"nemotron_h", {kM, kR, kO, kM}});
  patterns.push_back({"falcon_h1", {kP, kP}});
  patterns.push_back({"everything", {kF, kS, kP, kR, kW, kO}});
  return patterns;
}

bool HasMamba2(const ModelConfig& config) { return HasState(config, /*per_token=*/false); }
bool HasAttention(const ModelConfig& config) { return HasState(config, /*per_token=*/true); }

ModelConfig RandomConfig(const std::vector<LayerKind>& pattern, uint64_t seed) {
  RandomSource random(seed * 7919 + 13);
  ModelConfig config;
  config.layer_pattern = pattern;
  config.vocab_size = random.Pick({31, 64, 97});
  config.intermediate_size = random.Pick({20, 33, 48});
  config.expand = random.Pick({1, 2});
  config.head_dim = random.Pick({4, 8, 12});
  config.n_groups = random.Pick({1, 2});
  config.hidden_size = config.head_dim * config.n_groups * random.Pick({2, 3}) * (config.expand == 1 ? 2 : 1);
  config.state_size = random.Pick({4, 8, 13, 16});
  config.conv_kernel = random.Pick({2, 3, 4, 4});
  config.chunk_size = random.Pick({1, 2, 5, 8, 16, 31, 64});
  if (random.Below(2) != 0) config.time_step_limit = {0.02, 0.4};
  config.num_attention_heads = random.Pick({1, 2, 4, 6});
  config.num_key_value_heads = config.num_attention_heads;
  if (config.num_attention_heads % 2 == 0) config.num_key_value_heads /= random.Pick({1, 2});
  if (config.num_attention_heads > 2 && random.Below(4) == 0) config.num_key_value_heads = 1;
  config.attention_head_dim = random.Pick({4, 6, 10, 16});
  config.sliding_window = random.Pick({1, 2, 7, 24, 40, 500});
  if (random.Below(2) != 0) config.rope_theta = 1000.0;
  config.attention_budget = 0.15 + 0.1 * random.Uniform();
  config.gumbel_temperature = random.Below(2) != 0 ? 1.0 : 0.7;
  config.tie_word_embeddings = random.Below(2) != 0;
  if (config.attention_head_dim % 4 == 0 && random.Below(2) != 0) config.partial_rotary_factor = 0.5;
  const uint64_t scaling = random.Below(3);
  if (scaling == 1) config.rope_scaling = RopeScaling{.factor = 3};
  if (scaling == 2) config.rope_scaling = RopeScaling{RopeScaling::Type::kLlama3, 8, 1, 4, 40};
  const bool foreign = std::any_of(pattern.begin(), pattern.end(), [](LayerKind k) { return k == kF || k > kF; });
  if (foreign) DrawVariants(random, config);
  if (random.Below(2) != 0) config.refinement = Refinement::kResidual;
  return config;
}

LanguageModel RandomModel(const ModelConfig& config, uint64_t seed, double perturbation, uint64_t signs) {
  LanguageModel model(config);
  model.params().BindZeros();
  RandomSource weights(seed), sign(signs + 0x5eed);
  model.params().ForEach([&](Weight& weight) {
    for (int64_t i = 0; i < weight.f32.size(); ++i) {
      const double value = DrawWeight(weight.spec, weights);
      const double factor = perturbation == 0 ? 1.0 : 1.0 + perturbation * (sign.Below(2) != 0 ? 1 : -1);
      // Rounded first: with perturbation 0 and not, the model perturbed is the same.
      weight.F32()[i] = static_cast<float>(static_cast<double>(static_cast<float>(value)) * factor);
    }
  });
  return model;
}

std::vector<int32_t> RandomTokens(const ModelConfig& config, int64_t n, uint64_t seed) {
  RandomSource random(seed + 0x70ce5);
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.Below(static_cast<uint64_t>(config.vocab_size)));
  return tokens;
}

}  // namespace taipan::test
