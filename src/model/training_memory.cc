#include "model/training_memory.h"

#include <algorithm>

#include "base/progress.h"
#include "kernels/cross_entropy.h"
#include "model/layer_table.h"
#include "model/parameters.h"

namespace taipan {
namespace {

// Absurd sizes stop at 2^60, so that their sum does not wrap round.
int64_t WholeBytes(double bytes) { return static_cast<int64_t>(std::min(bytes, 0x1p60)); }

double HiddenParameters(const ModelConfig& c) {
  double sum = 0;
  for (const WeightSpec& spec : WeightSpecs(c)) sum += IsHiddenMatrix(spec) ? spec.count() : 0;
  return sum;
}

// Parameters whose gradients a backward needs at once: a layer's, the head's or the embedding's, and a tied embedding's
// beside the others.
double ParametersAtOnce(const ModelConfig& c, const std::vector<Layer>& layers) {
  const double table = static_cast<double>(c.vocab_size) * static_cast<double>(c.hidden_size);
  double most = c.tie_word_embeddings ? 0 : table + static_cast<double>(c.hidden_size);
  for (const Layer& layer : layers) {
    double sum = 0;
    for (const auto& branch : layer.branches) {
      branch->Declare()->ForEach([&](Weight& w) { sum += w.spec.count(); });
    }
    most = std::max(most, sum);
  }
  return most + (c.tie_word_embeddings ? table : 0);
}

}  // namespace

TrainingMemory PlanTraining(const ModelConfig& c, const TrainingShape& shape) {
  const double tokens = static_cast<double>(shape.tokens()), d = static_cast<double>(c.hidden_size);
  const double e = static_cast<double>(SizeOf(shape.dtype));
  const bool again = shape.recompute == Recompute::kBlock;
  const Keep keep = shape.recompute == Recompute::kMixer ? Keep::kLess : Keep::kAll;
  double kept = 0, most_kept = 0, most_scratch = 0;  // bytes a token
  const std::vector<Layer> layers = DeclaredLayers(c);
  for (const Layer& layer : layers) {
    double block = 0;
    for (const auto& branch : layer.branches) {
      const TrainingBytes bytes = branch->Bytes(e, keep);
      block += bytes.kept;
      most_scratch = std::max(most_scratch, bytes.scratch);
    }
    kept += again ? 4 * d : block;
    most_kept = std::max(most_kept, block);
  }
  if (again) kept += most_kept + 4 * d;
  const double vocab = static_cast<double>(c.vocab_size);
  const double chunk_rows = std::min(tokens, static_cast<double>(HeadChunkRows(c.vocab_size)));
  const double head = tokens * (3 * 4 + e) * d + chunk_rows * vocab * 4;
  const double parameters = SumParameters(c);
  TrainingMemory memory;
  const bool shares = shape.ranks > 1 && shape.one_backward;
  memory.gradients = WholeBytes(
      4 * (shares ? parameters / static_cast<double>(shape.ranks) + ParametersAtOnce(c, layers) : parameters));
  memory.weights = WholeBytes((shape.average ? 8 : 4) * parameters);
  const double moments = 2 * parameters - (shape.one_moment ? HiddenParameters(c) : 0);
  memory.moments = WholeBytes(static_cast<double>(SizeOf(shape.moments)) * moments / static_cast<double>(shape.ranks));
  memory.copies = shape.dtype == DType::kBF16 ? WholeBytes(2 * parameters) : 0;
  memory.kept = WholeBytes(tokens * (kept + 4 * d));
  memory.scratch = WholeBytes(tokens * 4 * d + std::max(tokens * most_scratch, head));
  return memory;
}

std::string Describe(const TrainingMemory& m) {
  std::string text = fmt::format("{}: weights {}", FormatBytes(m.total()), FormatBytes(m.weights));
  if (m.copies > 0) text += fmt::format(", bf16 copies {}", FormatBytes(m.copies));
  return text + fmt::format(", gradients {}, moments {}, activations {}, scratch {}", FormatBytes(m.gradients),
                            FormatBytes(m.moments), FormatBytes(m.kept), FormatBytes(m.scratch));
}

}  // namespace taipan
