#pragma once
// Small random models for tests: shapes and weights drawn from a seed, the weights so large that every path matters.

#include <cstdint>
#include <string>
#include <vector>

#include "model/model.h"

namespace taipan::test {

// A sequence of random numbers; equal seeds give equal sequences.
class RandomSource {
 public:
  explicit RandomSource(uint64_t seed) : key_{.seed = seed, .stream = kTestStream} {}
  uint64_t Below(uint64_t n) { return RandomBelow(key_, next_++, n); }
  double Uniform() { return RandomUniform(key_, next_++); }
  double Normal() { return RandomNormal(key_, next_++); }
  int64_t Pick(const std::vector<int64_t>& choices) { return choices[Below(choices.size())]; }

 private:
  RandomKey key_;
  uint64_t next_ = 0;
};

// Cases to draw: `fast`, times the environment's TAIPAN_TEST_SCALE (a number, 1 when unset), at least 1.
int64_t Scaled(int64_t fast);

struct NamedPattern {
  std::string name;
  std::vector<LayerKind> layers;
};
// The five named patterns, each layer kind alone, and `random` explicit ones.
std::vector<NamedPattern> TestPatterns(int64_t random);
bool HasMamba2(const ModelConfig& config);
bool HasAttention(const ModelConfig& config);  // of any of the three kinds

// Shapes from the seed: n_groups 1 and 2, chunks 1 to 64, windows 1 to beyond any test's length, grouped queries,
// RoPE on and off, finite and infinite time_step_limit, tied and untied heads.
ModelConfig RandomConfig(const std::vector<LayerKind>& pattern, uint64_t seed);

// Weights from the seed. perturbation: each is multiplied by 1 +- perturbation, the signs drawn from `signs`.
LanguageModel RandomModel(const ModelConfig& config, uint64_t seed, double perturbation = 0, uint64_t signs = 0);

std::vector<int32_t> RandomTokens(const ModelConfig& config, int64_t n, uint64_t seed);

}  // namespace taipan::test
