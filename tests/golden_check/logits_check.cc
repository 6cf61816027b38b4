// logits/NAME: logits, gates and hidden rows, by whole forward, in pieces, token by token and all sequences together.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "golden_check/golden.h"
#include "kernels/rms_norm.h"
#include "model/model_files.h"
#include "model/selection.h"
#include "support/inference_runs.h"

namespace taipan::golden {
namespace {

using test::Plan;
using test::SalTrace;
using test::Trace;

struct LogitsSet {
  std::string folder;
  nlohmann::json info;
  LanguageModel model;
  test::Sequences sequences;
  Bounds bounds;
  std::vector<int64_t> sal_layers;
  GateOptions gate;  // the thresholds of the model's config
};

std::vector<int64_t> SalLayers(const ModelConfig& config) {
  std::vector<int64_t> layers;
  for (int64_t i = 0; i < config.num_layers(); ++i) {
    if (config.layer_pattern[static_cast<size_t>(i)] == LayerKind::kSelectiveAttention) layers.push_back(i);
  }
  return layers;
}

// Row-wise distance of [n, V] values; the first row beyond the bound, or n.
int64_t FirstBadRow(const std::vector<float>& expected, const std::vector<float>& actual, int64_t vocab, double bound,
                    double* worst) {
  const int64_t n = static_cast<int64_t>(expected.size()) / vocab;
  int64_t first = n;
  *worst = 0;
  for (int64_t t = n; t-- > 0;) {
    for (int64_t i = t * vocab; i < (t + 1) * vocab; ++i) {
      const size_t at = static_cast<size_t>(i);
      const double d = std::fabs(static_cast<double>(expected[at]) - static_cast<double>(actual[at]));
      if (!(d <= *worst)) *worst = d;
      if (!(d <= bound)) first = t;
    }
  }
  return first;
}

// The gates of one sequence against gates.safetensors. Returns the first row whose selection fell otherwise at a
// near-tie (rows from there on are another computation), or the number of rows.
int64_t CompareGates(const LogitsSet& set, const SafetensorsFile& gates, int64_t sequence, const Trace& trace) {
  const int64_t n = trace.tokens();
  int64_t flip = n;
  std::vector<std::vector<float>> margins;
  for (size_t g = 0; g < set.sal_layers.size(); ++g) {
    const std::string name = fmt::format("{}.layer{}.", sequence, set.sal_layers[g]);
    const std::vector<uint8_t> selected = Bytes(gates, name + "selected", n);
    margins.push_back(Values(gates, name + "margin", {{n}}));
    const double bound = std::max(set.bounds.Of(margins.back()), set.bounds.relative);
    for (int64_t t = 0; t < flip; ++t) {
      const size_t i = static_cast<size_t>(t);
      if (selected[i] == trace.sals[g].selected[i]) continue;
      const double tie = margins.back()[i] - (set.gate.delta.empty() ? 0.0f : set.gate.delta[g]);
      EXPECT_LE(std::fabs(tie), bound) << "SAL " << g << " selects token " << t << " otherwise";
      Note(fmt::format("{}: sequence {} SAL {}: near-tie at token {} (margin {:.2g}) fell otherwise; compared up to it",
                       set.folder, sequence, g, t, tie));
      flip = t;
    }
  }
  for (size_t g = 0; g < set.sal_layers.size(); ++g) {
    const std::string name = fmt::format("{}.layer{}.", sequence, set.sal_layers[g]);
    std::vector<float> alpha = Values(gates, name + "alpha", {{n}});
    const double bound = std::max(set.bounds.Of(margins[g]), set.bounds.relative);
    const auto upto = [flip](std::vector<float> x) { return std::vector<float>(x.begin(), x.begin() + flip); };
    EXPECT_LE(MaxDifference(upto(margins[g]), upto(trace.sals[g].margin)), bound) << "margin of SAL " << g;
    // d alpha / d margin = alpha (1 - alpha) <= 1/4.
    EXPECT_LE(MaxDifference(upto(alpha), upto(trace.sals[g].alpha)), bound / 4 + 1e-6) << "alpha of SAL " << g;
  }
  return flip;
}

void ComparePlan(const LogitsSet& set, const char* how, const Plan& plan) {
  SCOPED_TRACE(how);
  const SafetensorsFile logits(PathOf(set.folder + "/logits.safetensors"));
  std::optional<SafetensorsFile> gates;
  const std::string gates_path = PathOf(set.folder + "/gates.safetensors");
  if (!set.sal_layers.empty()) gates.emplace(gates_path);
  const std::vector<Trace> traces = test::RunPlan(set.model, set.sequences, plan, set.gate);
  const int64_t vocab = set.model.config().vocab_size;
  for (size_t s = 0; s < traces.size(); ++s) {
    SCOPED_TRACE(fmt::format("sequence {} of {} tokens", s, traces[s].tokens()));
    const int64_t n = static_cast<int64_t>(set.sequences[s].size());
    ASSERT_EQ(traces[s].tokens(), n);
    const int64_t flip = gates ? CompareGates(set, *gates, static_cast<int64_t>(s), traces[s]) : n;
    const std::vector<float> expected = Values(logits, std::to_string(s), {{n, vocab}});
    double worst = 0;
    const int64_t bad = FirstBadRow(expected, traces[s].logits, vocab, set.bounds.logits, &worst);
    EXPECT_GE(bad, flip) << "logits differ from row " << bad << " on, by " << worst << ", bound " << set.bounds.logits;
  }
}

// The same with threshold delta. No gates are given for it, so a row may differ only at or after a token whose own
// margin is within the bound of delta.
void CompareDelta(LogitsSet& set) {
  SCOPED_TRACE("with delta");
  const SafetensorsFile logits(PathOf(set.folder + "/logits_delta.safetensors"));
  GateOptions gate;
  gate.delta.assign(set.sal_layers.size(), set.info.at("delta").get<float>());
  const std::vector<Trace> traces = test::RunPlan(set.model, set.sequences, test::WholePlan(set.sequences), gate);
  const int64_t vocab = set.model.config().vocab_size;
  for (size_t s = 0; s < traces.size(); ++s) {
    const int64_t n = traces[s].tokens();
    int64_t tie = n;
    for (const SalTrace& sal : traces[s].sals) {
      const double bound = std::max(set.bounds.Of(sal.margin), set.bounds.relative);
      for (int64_t t = tie; t-- > 0;) {
        if (std::fabs(sal.margin[static_cast<size_t>(t)] - gate.delta[0]) <= bound) tie = t;
      }
    }
    double worst = 0;
    const std::vector<float> expected = Values(logits, std::to_string(s), {{n, vocab}});
    const int64_t bad = FirstBadRow(expected, traces[s].logits, vocab, set.bounds.logits, &worst);
    EXPECT_TRUE(bad == n || bad >= tie) << "sequence " << s << ": row " << bad << " on differs by " << worst;
    if (bad < n && bad >= tie) {
      Note(fmt::format("{}: delta, sequence {}: near-tie at token {}; compared up to it", set.folder, s, tie));
    }
  }
}

void CompareHidden(const LogitsSet& set) {
  SCOPED_TRACE("hidden");
  const SafetensorsFile hidden(PathOf(set.folder + "/hidden.safetensors"));
  const size_t sequence = set.info.at("hidden_sequence").get<size_t>();
  const ModelConfig& config = set.model.config();
  Batch batch;
  batch.tokens = set.sequences.at(sequence);
  batch.segments = {{.length = batch.size()}};
  const int64_t n = batch.size(), d = config.hidden_size;
  int seen = 0;
  const auto compare = [&](const std::string& name, ConstMatrixView actual) {
    const std::vector<float> expected = Values(hidden, name, {{n, d}});
    std::vector<float> values;
    for (int64_t t = 0; t < n; ++t) values.insert(values.end(), actual.F32(t), actual.F32(t) + d);
    EXPECT_LE(MaxDifference(expected, values), set.bounds.Of(expected)) << name;
    ++seen;
  };
  ForwardContext context;
  set.model.Forward(batch, set.gate, false, context, [&](int64_t block, ConstMatrixView h) {
    compare(block < 0 ? "embedding" : fmt::format("block{}", block), h);
    if (block != config.num_layers() - 1) return;
    Tensor normed({n, d});
    RmsNorm(h, set.model.params().norm.F32(), static_cast<float>(config.rms_norm_eps), normed.Matrix(), nullptr);
    compare("final_norm", normed.Matrix());
  });
  EXPECT_EQ(seen, config.num_layers() + 2);
}

}  // namespace

void CheckLogits(const std::string& folder) { CheckLogits(folder, ReadJson(folder + "/info.json").at("model")); }

void CheckLogits(const std::string& folder, const std::string& model) {
  const nlohmann::json info = ReadJson(folder + "/info.json");
  LogitsSet set{folder, info, LoadModel(PathOf(model)), ReadTokens(folder + "/tokens.jsonl"), {}, {}, {}};
  const SafetensorsFile logits(PathOf(folder + "/logits.safetensors"));
  ASSERT_FALSE(set.sequences.empty());
  ASSERT_EQ(logits.entries().size(), set.sequences.size());
  double largest = 0;
  for (size_t s = 0; s < set.sequences.size(); ++s) {
    largest = std::max(largest, MaxAbs(Values(logits, std::to_string(s))));
  }
  set.bounds = BoundsOf(OracleError(info), largest);
  set.sal_layers = SalLayers(set.model.config());
  set.gate = InferenceGate(set.model.config());

  ComparePlan(set, "whole", test::WholePlan(set.sequences));
  ComparePlan(set, "all sequences packed", test::TogetherPlan(set.sequences));
  ComparePlan(set, "token by token", test::PiecesPlan(set.sequences, 1));
  ComparePlan(set, "in pieces of 37", test::PiecesPlan(set.sequences, 37));
  ComparePlan(set, "in random pieces and batches", test::RandomPlan(set.sequences, 1));
  if (info.contains("hidden_sequence")) CompareHidden(set);
  if (info.contains("delta")) CompareDelta(set);
}

}  // namespace taipan::golden
