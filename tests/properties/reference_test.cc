// Forward against the plain model in double precision, over random shapes: logits, gates, states, scores.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "support/inference_runs.h"
#include "support/random_model.h"
#include "support/reference_model.h"

namespace taipan::test {
namespace {

std::vector<float> ToFloat(const std::vector<Row>& rows, size_t skip = 0) {
  std::vector<float> out;
  for (size_t i = skip; i < rows.size(); ++i) out.insert(out.end(), rows[i].begin(), rows[i].end());
  return out;
}

// The reference's run as a trace, its state in the engine's form.
Trace ReferenceTrace(const ModelConfig& config, LanguageModel& model, const std::vector<int32_t>& tokens,
                     const GateOptions& gate_options) {
  const ReferenceModel reference(config, model);
  ReferenceState state = reference.NewState();
  ReferenceOptions options;
  options.delta.assign(gate_options.delta.begin(), gate_options.delta.end());
  const ReferenceOutput out = reference.Run(tokens, state, options);
  Trace trace;
  trace.vocab = config.vocab_size;
  trace.logits = ToFloat(out.logits);
  for (const ReferenceGate& gate : out.gates) {
    trace.sals.push_back({{gate.hard.begin(), gate.hard.end()},
                          {gate.margin.begin(), gate.margin.end()},
                          {gate.alpha.begin(), gate.alpha.end()}});
  }
  trace.state = model.NewState();
  trace.state.position = state.position;
  for (size_t i = 0; i < state.layers.size(); ++i) {
    const ReferenceLayerState& from = state.layers[i];
    LayerState& to = trace.state.layers[i];
    if (!to.ssm.empty()) std::copy(from.ssm.begin(), from.ssm.end(), to.ssm.F32());
    const std::vector<float> conv = ToFloat(from.conv);
    if (!to.conv.empty()) std::copy(conv.begin(), conv.end(), to.conv.F32());
    const int64_t n = static_cast<int64_t>(from.keys.size());
    if (n == 0) continue;
    const std::vector<float> k = ToFloat(from.keys), v = ToFloat(from.values);
    to.kv.Append(ConstMatrixView(k.data(), n, to.kv.width()), ConstMatrixView(v.data(), n, to.kv.width()));
  }
  return trace;
}

class Reference : public testing::TestWithParam<NamedPattern> {};

TEST_P(Reference, ForwardAgrees) {
  for (int64_t i = 0; i < Scaled(6); ++i) {
    const uint64_t seed = 400 + 10 * static_cast<uint64_t>(i) + GetParam().layers.size();
    const ModelConfig config = RandomConfig(GetParam().layers, seed);
    LanguageModel model = RandomModel(config, seed);
    const Sequences sequences = {RandomTokens(config, 75, seed)};
    GateOptions gate;
    for (int64_t sal = 0; i % 2 == 1 && sal < config.num_sals(); ++sal) {
      gate.delta.push_back(0.3f * static_cast<float>(sal + 1));
    }
    const Tolerances tolerance = TraceTolerance(config, seed, sequences, gate);
    const Trace expected = ReferenceTrace(config, model, sequences[0], gate);
    const Trace actual = RunPlan(model, sequences, WholePlan(sequences), gate)[0];
    int64_t rows = 0;
    EXPECT_EQ(CompareTraces(expected, actual, tolerance, gate.delta, &rows), "")
        << "seed " << seed << " " << ToJson(config);
  }
}

TEST_P(Reference, ScoresAreLogProbabilities) {
  const ModelConfig config = RandomConfig(GetParam().layers, 55);
  LanguageModel model = RandomModel(config, 55);
  Batch batch;
  batch.tokens = RandomTokens(config, 50, 1);
  batch.targets.assign(batch.tokens.begin() + 1, batch.tokens.end());
  batch.targets.push_back(-1);
  batch.targets[7] = -1;
  batch.segments = {{.length = 50}};
  ForwardContext context;
  model.Forward(batch, {}, false, context);
  std::vector<float> scores(50), logits(static_cast<size_t>(50 * config.vocab_size));
  const double sum = model.Score(context, scores.data());
  std::vector<int64_t> rows(50);
  std::iota(rows.begin(), rows.end(), 0);
  model.Logits(context, rows, MatrixView(logits.data(), 50, config.vocab_size));
  double expected_sum = 0;
  for (size_t t = 0; t < 50; ++t) {
    const float* row = logits.data() + t * static_cast<size_t>(config.vocab_size);
    const double largest = *std::max_element(row, row + config.vocab_size);
    double total = 0;
    for (int64_t v = 0; v < config.vocab_size; ++v) total += std::exp(row[v] - largest);
    if (batch.targets[t] < 0) {
      EXPECT_EQ(scores[t], 0.0f);
      continue;
    }
    const double expected = row[batch.targets[t]] - largest - std::log(total);
    EXPECT_NEAR(scores[t], expected, 1e-5);  // about 100 units in the last place of a log probability near -10
    expected_sum -= expected;
  }
  EXPECT_NEAR(sum, expected_sum, 50 * 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Patterns, Reference, testing::ValuesIn(TestPatterns(Scaled(6))),
                         [](const auto& c) { return c.param.name; });

}  // namespace
}  // namespace taipan::test
