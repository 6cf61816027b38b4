#pragma once
// Sequences through a model in any order of pieces and any batching, and what came out: for comparing such runs.

#include <string>
#include <vector>

#include "model/model.h"

namespace taipan::test {

using Sequences = std::vector<std::vector<int32_t>>;

// The next `length` tokens of a sequence.
struct Cut {
  int64_t sequence = 0, length = 0;
};
// One inner list is one forward call; a sequence appears at most once in it.
using Plan = std::vector<std::vector<Cut>>;

Plan WholePlan(const Sequences& sequences);                  // a call for each sequence
Plan TogetherPlan(const Sequences& sequences);               // one call, all sequences packed
Plan PiecesPlan(const Sequences& sequences, int64_t n);      // all together in pieces of n tokens
Plan RandomPlan(const Sequences& sequences, uint64_t seed);  // random pieces of random sequences in each call
Plan AlonePlan(const Plan& plan, int64_t sequence);          // the pieces of one sequence, each in its own call

struct SalTrace {
  std::vector<uint8_t> selected;     // [n]
  std::vector<float> margin, alpha;  // [n]
};
struct Trace {
  int64_t vocab = 0;
  std::vector<float> logits;  // [n, V]
  std::vector<SalTrace> sals;
  SequenceState state;  // after the last token

  int64_t tokens() const { return vocab == 0 ? 0 : static_cast<int64_t>(logits.size()) / vocab; }
};

// Fresh sequences start without a state or with an empty one, in turn; later pieces update their state in place.
// Sequences that the plan does not touch have empty traces. The rows of noise are the sequences.
std::vector<Trace> RunPlan(const LanguageModel& model, const Sequences& sequences, const Plan& plan,
                           const GateOptions& gate = {});

// The same for one sequence whose state exists: `tokens` in pieces of the given lengths, the state updated.
Trace Continue(const LanguageModel& model, const std::vector<int32_t>& tokens, const std::vector<int64_t>& pieces,
               SequenceState& state, const GateOptions& gate = {});

// Keys and values of a cache, rows ascending.
struct KeysValues {
  int64_t first = 0;
  std::vector<float> k, v;  // [count, width]
};
KeysValues ReadCache(const KvCache& cache);
// ssm, conv, k, v of every layer, those that it has, named "layer0.ssm".
struct StatePart {
  std::string name;
  std::vector<float> values;
};
std::vector<StatePart> FlattenState(const SequenceState& state);

// Bit for bit, with the first difference in `why`.
bool SameBits(const Trace& a, const Trace& b, std::string* why);

// How far two runs may be apart: see TraceTolerance.
struct Tolerances {
  double logits = 0, margin = 0, alpha = 0;  // absolute
  double state = 0;                          // relative to the largest value of a part
};
// What f32 arithmetic costs here, measured: rounding errors of sums and products have the effect of relative changes of
// about one unit in the last place in the weights. Weights are perturbed by +-2^-23, three times; the bound is sixteen
// times the largest change seen (there are more roundings than weights, and the sample is small) plus 2^-20 of the
// largest value.
Tolerances TraceTolerance(const ModelConfig& config, uint64_t weight_seed, const Sequences& sequences,
                          const GateOptions& gate = {});

// Compares logits, gates and states within the tolerances. Selections must agree where the margin to the threshold is
// above its tolerance; after a near-tie that fell the other way only the rows before it are compared.
// Returns "" or what is wrong; adds to *rows the rows compared.
std::string CompareTraces(const Trace& expected, const Trace& actual, const Tolerances& tolerance,
                          const std::vector<float>& delta, int64_t* rows);

}  // namespace taipan::test
