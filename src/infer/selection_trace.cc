#include "infer/selection_trace.h"

#include <algorithm>
#include <cmath>

#include "infer/scoring.h"
#include "infer/sequence_reader.h"
#include "model/selection.h"

namespace taipan {
namespace {

void CheckFinite(std::span<const float> margin, size_t sal, int64_t first) {
  for (size_t i = 0; i < margin.size(); ++i) {
    if (std::isfinite(margin[i])) continue;
    throw UserError({fmt::format("token position {}", first + static_cast<int64_t>(i)),
                     fmt::format("the gate of SAL {} gives no finite number", sal), "a finite margin",
                     fmt::format("{}", margin[i]), "its weights are damaged or its training diverged"});
  }
}

}  // namespace

void SelectionTrace::ForEachWindow(const std::function<void(int64_t, int64_t)>& f) const {
  for (int64_t begin = 0; begin < size(); begin += context) f(begin, std::min(context, size() - begin));
}

SelectionTrace TraceSelection(const LanguageModel& model, std::span<const int32_t> tokens, int64_t context,
                              const std::string& where, const std::function<void(int64_t)>& on_progress) {
  CHECK_GT(context, 0);
  if (model.config().num_sals() == 0) {
    throw UserError({where, "the model has no selective attention layers", "a model with some", "none"});
  }
  if (tokens.empty()) throw UserError({where, "nothing to read", "at least one token", "none"});
  CheckTokenIds(tokens, model.config().vocab_size, where);
  SelectionTrace trace{{tokens.begin(), tokens.end()}, context, {}};
  trace.sals.resize(static_cast<size_t>(model.config().num_sals()));
  const GateOptions gate = InferenceGate(model.config());
  ForwardContext activations;
  Batch batch;
  trace.ForEachWindow([&](int64_t window, int64_t length) {
    SequenceState state = model.NewState();
    ForEachPiece(0, length, PieceLength(model.config()), [&](int64_t piece, int64_t count) {
      const int64_t begin = window + piece;
      batch.tokens.assign(tokens.begin() + begin, tokens.begin() + begin + count);
      batch.segments.assign(1, Segment{.begin = 0, .length = count, .state_in = &state, .state_out = &state});
      model.Forward(batch, gate, /*keep=*/false, activations);
      for (size_t s = 0; s < trace.sals.size(); ++s) {
        const GateReport& report = activations.gates()[s];
        CheckFinite({report.margin, static_cast<size_t>(count)}, s, begin);
        SelectionTrace::Sal& sal = trace.sals[s];
        sal.margin.insert(sal.margin.end(), report.margin, report.margin + count);
        sal.alpha.insert(sal.alpha.end(), report.alpha, report.alpha + count);
        sal.selected.insert(sal.selected.end(), report.selected, report.selected + count);
      }
      if (on_progress) on_progress(begin + count);
    });
  });
  return trace;
}

}  // namespace taipan
