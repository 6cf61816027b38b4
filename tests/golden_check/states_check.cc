// states/NAME: what a sequence's state holds after a prefix, and that continuing from it gives the rows of the whole.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "golden_check/golden.h"
#include "model/model_files.h"
#include "model/selection.h"
#include "support/inference_runs.h"

namespace taipan::golden {
namespace {

using test::Trace;

struct StatesSet {
  LanguageModel model;
  std::vector<int32_t> tokens;
  SafetensorsFile file;
  std::vector<float> logits;  // [n, V] of the whole sequence
  Bounds bounds;
  GateOptions gate;
};

// Absolute floor of state comparisons: f32 steps of values of order one.
constexpr double kFloor = 1e-7;

void CompareTensor(const StatesSet& set, const std::string& name, const Tensor& actual) {
  const std::vector<float> expected = Values(set.file, name, actual.shape());
  const std::vector<float> values(actual.F32(), actual.F32() + actual.size());
  EXPECT_LE(MaxDifference(expected, values), set.bounds.Of(expected) + kFloor) << name;
}

// The file holds the last min(k, sliding_window) positions; a cache of full attention holds all of them.
void CompareCache(const StatesSet& set, const std::string& name, const KvCache& cache, int64_t k) {
  EXPECT_EQ(cache.end(), k);
  EXPECT_EQ(cache.count(), cache.window() > 0 ? std::min(k, cache.window()) : k) << name;
  const test::KeysValues actual = test::ReadCache(cache);
  const std::pair<const char*, const std::vector<float>*> parts[] = {{"k", &actual.k}, {"v", &actual.v}};
  for (const auto& [part, values] : parts) {
    const std::vector<float> expected = Values(set.file, name + part);
    ASSERT_LE(expected.size(), values->size()) << name << part;
    const std::vector<float> last(values->end() - static_cast<int64_t>(expected.size()), values->end());
    EXPECT_LE(MaxDifference(expected, last), set.bounds.Of(expected) + kFloor) << name << part;
  }
}

void CompareState(const StatesSet& set, const SequenceState& state, int64_t k) {
  ASSERT_EQ(state.position, k);
  for (size_t layer = 0; layer < state.layers.size(); ++layer) {
    const LayerState& part = state.layers[layer];
    const std::string name = fmt::format("{}.layer{}.", k, layer);
    if (!part.ssm.empty()) {
      CompareTensor(set, name + "ssm_state", part.ssm);
      CompareTensor(set, name + "conv_state", part.conv);
    } else {
      CompareCache(set, name, part.kv, k);
    }
  }
}

void CompareRows(const StatesSet& set, const Trace& trace, int64_t begin, const std::string& what) {
  const int64_t vocab = set.model.config().vocab_size;
  const auto from = set.logits.begin() + begin * vocab;
  const std::vector<float> expected(from, from + static_cast<int64_t>(trace.logits.size()));
  EXPECT_LE(MaxDifference(expected, trace.logits), set.bounds.logits) << what;
}

void CheckPrefix(const StatesSet& set, int64_t k) {
  const int64_t n = static_cast<int64_t>(set.tokens.size());
  const std::vector<int32_t> prefix(set.tokens.begin(), set.tokens.begin() + k);
  const std::vector<int32_t> rest(set.tokens.begin() + k, set.tokens.end());
  SequenceState state = set.model.NewState();
  CompareRows(set, test::Continue(set.model, prefix, {k}, state, set.gate), 0, "prefix in one piece");
  CompareState(set, state, k);

  SequenceState stepped = set.model.NewState();
  test::Continue(set.model, prefix, std::vector<int64_t>(static_cast<size_t>(k), 1), stepped, set.gate);
  SCOPED_TRACE("or token by token");
  CompareState(set, stepped, k);
  if (k == n) return;

  SequenceState copy = state;
  CompareRows(set, test::Continue(set.model, rest, {n - k}, copy, set.gate), k, "continued from a copy");
  const std::vector<int64_t> steps(static_cast<size_t>(n - k), 1);
  CompareRows(set, test::Continue(set.model, rest, steps, state, set.gate), k, "continued token by token");
}

}  // namespace

void CheckStates(const std::string& folder) {
  const nlohmann::json info = ReadJson(folder + "/info.json");
  StatesSet set{LoadModel(PathOf(info.at("model"))),
                ReadTokens(folder + "/tokens.jsonl").at(0),
                SafetensorsFile(PathOf(folder + "/states.safetensors")),
                {},
                {},
                {}};
  const int64_t n = static_cast<int64_t>(set.tokens.size());
  set.logits = Values(set.file, "logits", {{n, set.model.config().vocab_size}});
  set.bounds = BoundsOf(OracleError(info), MaxAbs(set.logits));
  set.gate = InferenceGate(set.model.config());
  for (int64_t k : info.at("prefixes").get<std::vector<int64_t>>()) {
    SCOPED_TRACE(fmt::format("prefix of {} tokens", k));
    CheckPrefix(set, k);
  }
}

}  // namespace taipan::golden
