#include "support/inference_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "support/random_model.h"

namespace taipan::test {
namespace {

int64_t Size(const std::vector<int32_t>& tokens) { return static_cast<int64_t>(tokens.size()); }

// One call's batch and where its segments belong.
struct Call {
  Batch batch;
  std::vector<int64_t> sequence;
};

void AppendRows(const LanguageModel& model, ForwardContext& context, const Call& call, std::vector<Trace>& traces) {
  const int64_t n = call.batch.size(), vocab = model.config().vocab_size;
  std::vector<int64_t> rows(static_cast<size_t>(n));
  std::iota(rows.begin(), rows.end(), int64_t{0});
  std::vector<float> logits(static_cast<size_t>(n * vocab));
  model.Logits(context, rows, MatrixView(logits.data(), n, vocab));
  const std::vector<GateReport>& gates = context.gates();
  for (size_t s = 0; s < call.sequence.size(); ++s) {
    const Segment& segment = call.batch.segments[s];
    Trace& trace = traces[static_cast<size_t>(call.sequence[s])];
    const int64_t begin = segment.begin, end = segment.begin + segment.length;
    trace.vocab = vocab;
    trace.logits.insert(trace.logits.end(), logits.begin() + begin * vocab, logits.begin() + end * vocab);
    trace.sals.resize(gates.size());
    for (size_t g = 0; g < gates.size(); ++g) {
      SalTrace& sal = trace.sals[g];
      sal.selected.insert(sal.selected.end(), gates[g].selected + begin, gates[g].selected + end);
      sal.margin.insert(sal.margin.end(), gates[g].margin + begin, gates[g].margin + end);
      sal.alpha.insert(sal.alpha.end(), gates[g].alpha + begin, gates[g].alpha + end);
    }
  }
}

double MaxAbs(const std::vector<float>& x) {
  double largest = 0;
  for (float value : x) largest = std::max(largest, std::fabs(static_cast<double>(value)));
  return largest;
}

double MaxDifference(const std::vector<float>& a, const std::vector<float>& b, size_t n) {
  double largest = 0;
  for (size_t i = 0; i < n; ++i) {
    const double d = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= largest)) largest = d;  // a NaN comes through
  }
  return largest;
}

// The first token at which any SAL decided otherwise, or the number of tokens.
int64_t FirstFlip(const Trace& a, const Trace& b) {
  int64_t first = a.tokens();
  for (size_t g = 0; g < a.sals.size(); ++g) {
    const auto& x = a.sals[g].selected;
    const auto differs = std::mismatch(x.begin(), x.end(), b.sals[g].selected.begin());
    first = std::min<int64_t>(first, differs.first - x.begin());
  }
  return first;
}

bool SameVector(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

// Adds what a perturbed run changed.
void Widen(const Trace& base, const Trace& other, Tolerances& t) {
  const int64_t n = FirstFlip(base, other);
  t.logits = std::max(t.logits, MaxDifference(base.logits, other.logits, static_cast<size_t>(n * base.vocab)));
  for (size_t g = 0; g < base.sals.size(); ++g) {
    t.margin = std::max(t.margin, MaxDifference(base.sals[g].margin, other.sals[g].margin, static_cast<size_t>(n)));
    t.alpha = std::max(t.alpha, MaxDifference(base.sals[g].alpha, other.sals[g].alpha, static_cast<size_t>(n)));
  }
  if (n < base.tokens()) return;
  const auto a = FlattenState(base.state), b = FlattenState(other.state);
  for (size_t i = 0; i < a.size(); ++i) {
    const double scale = MaxAbs(a[i].values);
    if (scale > 0) t.state = std::max(t.state, MaxDifference(a[i].values, b[i].values, a[i].values.size()) / scale);
  }
}

std::string CompareStates(const SequenceState& expected, const SequenceState& actual, double tolerance) {
  if (expected.position != actual.position) {
    return fmt::format("position {}, expected {}", actual.position, expected.position);
  }
  const auto a = FlattenState(expected), b = FlattenState(actual);
  if (a.size() != b.size()) return fmt::format("{} state parts, expected {}", b.size(), a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].name != b[i].name || a[i].values.size() != b[i].values.size()) {
      return fmt::format("state part {} of {} values, expected {} of {}", b[i].name, b[i].values.size(), a[i].name,
                         a[i].values.size());
    }
    const double d = MaxDifference(a[i].values, b[i].values, a[i].values.size());
    const double bound = tolerance * MaxAbs(a[i].values);
    if (!(d <= bound)) return fmt::format("state {} differs by {:.3g}, bound {:.3g}", a[i].name, d, bound);
  }
  return "";
}

}  // namespace

Plan WholePlan(const Sequences& sequences) {
  Plan plan;
  for (size_t s = 0; s < sequences.size(); ++s) plan.push_back({{static_cast<int64_t>(s), Size(sequences[s])}});
  return plan;
}

Plan TogetherPlan(const Sequences& sequences) {
  Plan plan(1);
  for (size_t s = 0; s < sequences.size(); ++s) plan[0].push_back({static_cast<int64_t>(s), Size(sequences[s])});
  return plan;
}

Plan PiecesPlan(const Sequences& sequences, int64_t n) {
  Plan plan;
  for (int64_t begin = 0;; begin += n) {
    std::vector<Cut> call;
    for (size_t s = 0; s < sequences.size(); ++s) {
      const int64_t left = Size(sequences[s]) - begin;
      if (left > 0) call.push_back({static_cast<int64_t>(s), std::min(left, n)});
    }
    if (call.empty()) return plan;
    plan.push_back(call);
  }
}

Plan RandomPlan(const Sequences& sequences, uint64_t seed) {
  RandomSource random(seed);
  std::vector<int64_t> left;
  for (const auto& tokens : sequences) left.push_back(Size(tokens));
  Plan plan;
  while (std::any_of(left.begin(), left.end(), [](int64_t n) { return n > 0; })) {
    std::vector<Cut> call;
    for (size_t s = 0; s < left.size(); ++s) {
      if (left[s] == 0 || random.Below(3) == 0) continue;
      const uint64_t most = random.Below(3) == 0 ? 1 : random.Below(2) == 0 ? 8 : static_cast<uint64_t>(left[s]);
      const int64_t length = std::min(left[s], static_cast<int64_t>(1 + random.Below(most)));
      call.push_back({static_cast<int64_t>(s), length});
      left[s] -= length;
    }
    if (!call.empty()) plan.push_back(call);
  }
  return plan;
}

Plan AlonePlan(const Plan& plan, int64_t sequence) {
  Plan alone;
  for (const auto& call : plan) {
    for (const Cut& cut : call) {
      if (cut.sequence == sequence) alone.push_back({cut});
    }
  }
  return alone;
}

std::vector<Trace> RunPlan(const LanguageModel& model, const Sequences& sequences, const Plan& plan,
                           const GateOptions& gate) {
  std::vector<Trace> traces(sequences.size());
  std::vector<int64_t> done(sequences.size(), 0);
  ForwardContext context;
  for (const auto& cuts : plan) {
    Call call;
    for (const Cut& cut : cuts) {
      const size_t s = static_cast<size_t>(cut.sequence);
      SequenceState& state = traces[s].state;
      if (done[s] == 0) state = model.NewState();
      Segment segment{.begin = call.batch.size(), .length = cut.length, .row = cut.sequence, .row_begin = done[s]};
      segment.state_in = done[s] == 0 && s % 2 == 0 ? nullptr : &state;
      segment.state_out = &state;
      call.batch.segments.push_back(segment);
      call.sequence.push_back(cut.sequence);
      const auto first = sequences[s].begin() + done[s];
      call.batch.tokens.insert(call.batch.tokens.end(), first, first + cut.length);
      done[s] += cut.length;
    }
    model.Forward(call.batch, gate, false, context);
    AppendRows(model, context, call, traces);
  }
  return traces;
}

Trace Continue(const LanguageModel& model, const std::vector<int32_t>& tokens, const std::vector<int64_t>& pieces,
               SequenceState& state, const GateOptions& gate) {
  std::vector<Trace> traces(1);
  ForwardContext context;
  int64_t done = 0;
  for (int64_t length : pieces) {
    Call call;
    call.batch.tokens.assign(tokens.begin() + done, tokens.begin() + done + length);
    call.batch.segments = {{.length = length, .row_begin = state.position, .state_in = &state, .state_out = &state}};
    call.sequence = {0};
    model.Forward(call.batch, gate, false, context);
    AppendRows(model, context, call, traces);
    done += length;
  }
  traces[0].state = state;
  return traces[0];
}

KeysValues ReadCache(const KvCache& cache) {
  KeysValues out;
  out.first = cache.first();
  std::vector<KeySpan> spans(static_cast<size_t>(cache.pages()));
  spans.resize(static_cast<size_t>(cache.Spans(cache.first(), spans.data())));
  for (const KeySpan& span : spans) {
    const ConstMatrixView k(span.k, span.dtype, span.count, cache.width(), span.stride);
    const ConstMatrixView v(span.v, span.dtype, span.count, cache.width(), span.stride);
    for (int64_t i = 0; i < span.count; ++i) {
      out.k.insert(out.k.end(), k.F32(i), k.F32(i) + cache.width());
      out.v.insert(out.v.end(), v.F32(i), v.F32(i) + cache.width());
    }
  }
  return out;
}

std::vector<StatePart> FlattenState(const SequenceState& state) {
  std::vector<StatePart> parts;
  for (size_t i = 0; i < state.layers.size(); ++i) {
    const LayerState& layer = state.layers[i];
    const auto add = [&](const char* name, const float* values, int64_t n) {
      if (n > 0) parts.push_back({fmt::format("layer{}.{}", i, name), std::vector<float>(values, values + n)});
    };
    if (!layer.ssm.empty()) add("ssm", layer.ssm.F32(), layer.ssm.size());
    if (!layer.conv.empty()) add("conv", layer.conv.F32(), layer.conv.size());
    const KeysValues kv = ReadCache(layer.kv);
    add("k", kv.k.data(), static_cast<int64_t>(kv.k.size()));
    add("v", kv.v.data(), static_cast<int64_t>(kv.v.size()));
  }
  return parts;
}

bool SameBits(const Trace& a, const Trace& b, std::string* why) {
  if (!SameVector(a.logits, b.logits)) {
    const size_t n = std::min(a.logits.size(), b.logits.size());
    const auto at = std::mismatch(a.logits.begin(), a.logits.begin() + static_cast<int64_t>(n), b.logits.begin());
    const int64_t index = at.first - a.logits.begin();
    *why = fmt::format("logits differ from token {} on, by {:.3g} at most", a.vocab != 0 ? index / a.vocab : 0,
                       MaxDifference(a.logits, b.logits, n));
    return false;
  }
  for (size_t g = 0; g < a.sals.size(); ++g) {
    if (a.sals[g].selected != b.sals[g].selected || !SameVector(a.sals[g].margin, b.sals[g].margin) ||
        !SameVector(a.sals[g].alpha, b.sals[g].alpha)) {
      *why = fmt::format("gate {} differs", g);
      return false;
    }
  }
  const auto x = FlattenState(a.state), y = FlattenState(b.state);
  for (size_t i = 0; i < std::max(x.size(), y.size()); ++i) {
    if (i < x.size() && i < y.size() && x[i].name == y[i].name && SameVector(x[i].values, y[i].values)) continue;
    *why = fmt::format("state {} differs", i < x.size() ? x[i].name : y[i].name);
    return false;
  }
  return a.state.position == b.state.position;
}

Tolerances TraceTolerance(const ModelConfig& config, uint64_t weight_seed, const Sequences& sequences,
                          const GateOptions& gate) {
  const Plan plan = WholePlan(sequences);
  const std::vector<Trace> base = RunPlan(RandomModel(config, weight_seed), sequences, plan, gate);
  Tolerances t;
  double logit = 0, margin = 0;
  for (const Trace& trace : base) {
    logit = std::max(logit, MaxAbs(trace.logits));
    for (const SalTrace& sal : trace.sals) margin = std::max(margin, MaxAbs(sal.margin));
  }
  for (uint64_t signs = 1; signs <= 3; ++signs) {
    const std::vector<Trace> other =
        RunPlan(RandomModel(config, weight_seed, std::ldexp(1.0, -23), signs), sequences, plan, gate);
    for (size_t s = 0; s < base.size(); ++s) Widen(base[s], other[s], t);
  }
  const double floor = std::ldexp(1.0, -20);
  t.logits = 16 * t.logits + floor * logit;
  t.margin = 16 * t.margin + floor * margin;
  t.alpha = 16 * t.alpha + floor;
  t.state = 16 * t.state + floor;
  return t;
}

std::string CompareTraces(const Trace& expected, const Trace& actual, const Tolerances& tolerance,
                          const std::vector<float>& delta, int64_t* rows) {
  if (expected.tokens() != actual.tokens()) {
    return fmt::format("{} rows, expected {}", actual.tokens(), expected.tokens());
  }
  const int64_t n = FirstFlip(expected, actual);
  for (size_t g = 0; n < expected.tokens() && g < expected.sals.size(); ++g) {
    const size_t i = static_cast<size_t>(n);
    const SalTrace& sal = expected.sals[g];
    if (sal.selected[i] == actual.sals[g].selected[i]) continue;
    const double margin = sal.margin[i] - (g < delta.size() ? delta[g] : 0.0f);
    if (std::fabs(margin) > tolerance.margin) {
      return fmt::format("SAL {} selects token {} otherwise at margin {:.3g}, bound {:.3g}", g, n, margin,
                         tolerance.margin);
    }
    break;  // an earlier SAL's near-tie explains the later ones of this token
  }
  *rows += n;
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t v = 0; v < expected.vocab; ++v) {
      const size_t i = static_cast<size_t>(t * expected.vocab + v);
      const double d = std::fabs(static_cast<double>(expected.logits[i]) - static_cast<double>(actual.logits[i]));
      if (!(d <= tolerance.logits)) {
        return fmt::format("logit {} of token {} differs by {:.3g}, bound {:.3g}", v, t, d, tolerance.logits);
      }
    }
  }
  for (size_t g = 0; g < expected.sals.size(); ++g) {
    const double margin = MaxDifference(expected.sals[g].margin, actual.sals[g].margin, static_cast<size_t>(n));
    const double alpha = MaxDifference(expected.sals[g].alpha, actual.sals[g].alpha, static_cast<size_t>(n));
    if (!(margin <= tolerance.margin)) {
      return fmt::format("margins of SAL {} differ by {:.3g}, bound {:.3g}", g, margin, tolerance.margin);
    }
    if (!(alpha <= tolerance.alpha)) {
      return fmt::format("alpha of SAL {} differs by {:.3g}, bound {:.3g}", g, alpha, tolerance.alpha);
    }
  }
  return n == expected.tokens() ? CompareStates(expected.state, actual.state, tolerance.state) : "";
}

}  // namespace taipan::test
