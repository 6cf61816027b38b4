#include "layers/cost.h"

#include <cmath>

namespace taipan {

int64_t TokensOf(const Workload& w) { return (w.phase == Phase::kDecode ? w.tokens : w.context) * w.sequences; }

double CostSink::MeanKeys(int64_t window) const {
  const double limit = window > 0 ? static_cast<double>(window) : 0x1p62, n = static_cast<double>(work_.context);
  if (decoding()) return std::min(n + static_cast<double>(work_.tokens) / 2, limit);
  const double full = std::min(n, limit);
  return (full * full / 2 + (n - full) * full) / n;
}

void CostSink::Add(const std::string& op, double flops, double bytes) {
  for (OpCost& cost : ops_) {
    if (cost.op == op) {
      cost.flops += flops;
      cost.bytes += bytes;
      return;
    }
  }
  ops_.push_back({op, flops, bytes});
}

void CostSink::Mixer(const std::string& op, double rows, double flops, double in, double out) {
  Add(op, rows * flops, rows * (in + out));
  if (training()) Add(op + " backward", 2 * rows * flops, rows * (2 * in + out));
}

void CostSink::Product(const std::string& op, int64_t n, int64_t k, double y_bytes, int64_t count, double share) {
  const auto known = std::find_if(products_.begin(), products_.end(), [&](const MatrixProduct& p) {
    return p.name == op && p.n == n && p.k == k && p.share == share;
  });
  if (known != products_.end()) {
    known->count += count;
  } else if (share > 0) {
    products_.push_back({op, n, k, count, share});
  }
  const double rows = share * tokens_, outputs = static_cast<double>(n * count), inputs = static_cast<double>(k);
  // Forwards that have a row at all; others need no weight.
  double forwards = static_cast<double>(work_.forwards);
  if (share < 1) forwards *= 1 - std::pow(1 - share, tokens_ / forwards);
  const double flops = 2 * rows * outputs * inputs, weight = outputs * inputs;
  Add(op, flops, rows * (element_ * inputs + y_bytes * outputs) + forwards * element_ * weight);
  if (!training()) return;
  Add(op + " backward", 2 * flops,
      rows * (2 * element_ * inputs + y_bytes * outputs) + forwards * element_ * weight +
          std::max(2 * forwards - 1, 0.0) * kF32 * weight);
}

}  // namespace taipan
