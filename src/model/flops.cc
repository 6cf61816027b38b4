#include "model/flops.h"

#include "base/error.h"
#include "model/layer_table.h"
#include "model/parameters.h"

namespace taipan {
namespace {

void CountLayers(const ModelConfig& config, CostSink& sink) {
  for (const Layer& layer : DeclaredLayers(config)) {
    for (const auto& branch : layer.branches) branch->Cost(sink);
  }
}

// The final norm, the head and the loss, which keeps logits in the cache, chunk by chunk, and goes back at once.
void CountTrainingHead(const ModelConfig& c, CostSink& sink) {
  const double f = CostSink::kF32, e = sink.element_bytes(), rows = sink.tokens();
  const double d = static_cast<double>(c.hidden_size), weight = static_cast<double>(c.vocab_size) * d;
  const double forwards = static_cast<double>(sink.work().forwards);
  // The weight's gradient is written by the first micro-batch, read and written by others.
  sink.Add("head, loss", 6 * rows * weight, rows * 3 * f * d + forwards * e * weight + (2 * forwards - 1) * f * weight);
  // AdamW reads weight, gradient and both moments and writes all but the gradient, and the copy for products.
  sink.Add("optimizer", 0, SumParameters(c) * (7 * f + (e < f ? e : 0)));
}

void CountHead(const ModelConfig& c, CostSink& sink) {
  const bool last = sink.work().phase == Phase::kPrefill;
  const double rows = last ? static_cast<double>(sink.work().sequences) : sink.tokens();
  const double forwards = last ? 1 : static_cast<double>(sink.work().forwards);
  const double d = static_cast<double>(c.hidden_size), v = static_cast<double>(c.vocab_size);
  const double e = sink.element_bytes();
  sink.Add("head", 2 * rows * v * d, rows * (e * d + CostSink::kF32 * v) + forwards * e * v * d);
}

}  // namespace

std::vector<OpCost> CostByOperation(const ModelConfig& config, const Workload& w) {
  CHECK(w.context >= 0 && TokensOf(w) > 0 && w.forwards > 0);
  CHECK(w.selected_share >= 0 && w.selected_share <= 1);
  CostSink sink(w);
  // A row is copied; backward adds the stream's gradient to it.
  const double row = CostSink::kF32 * static_cast<double>(config.hidden_size);
  sink.Add("embedding", 0, sink.tokens() * row * (sink.training() ? 5 : 2));
  CountLayers(config, sink);
  sink.training() ? CountTrainingHead(config, sink) : CountHead(config, sink);
  return sink.ops();
}

std::vector<MatrixProduct> ProductsOf(const ModelConfig& config, const Workload& work) {
  CostSink sink(work);
  CountLayers(config, sink);
  if (work.phase != Phase::kPrefill) sink.Product("head", config.vocab_size, config.hidden_size, CostSink::kF32);
  return sink.products();
}

double TotalFlops(const std::vector<OpCost>& costs) {
  double sum = 0;
  for (const OpCost& cost : costs) sum += cost.flops;
  return sum;
}

double TotalBytes(const std::vector<OpCost>& costs) {
  double sum = 0;
  for (const OpCost& cost : costs) sum += cost.bytes;
  return sum;
}

}  // namespace taipan
