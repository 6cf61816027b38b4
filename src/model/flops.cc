#include "model/flops.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace taipan {
namespace {

constexpr double kF32 = 4;  // bytes: residual stream, gradients of weights, dt, SSM states

double Real(int64_t n) { return static_cast<double>(n); }

// Mean number of keys that a query sees. Causal: those before it and half of its own, n / 2 over n positions.
double MeanKeys(const Workload& w, int64_t window) {
  const double limit = window > 0 ? Real(window) : 0x1p62;
  if (w.phase == Phase::kDecode) return std::min(Real(w.context) + Real(w.tokens) / 2, limit);
  const double n = Real(w.context), full = std::min(n, limit);
  return (full * full / 2 + (n - full) * full) / n;
}

class Counter {
 public:
  Counter(const ModelConfig& config, const Workload& work)
      : c_(config), w_(work), tokens_(Real(TokensOf(work))), e_(Real(work.element_bytes)) {}

  std::vector<OpCost> Count() {
    const double d = Real(c_.hidden_size), v = Real(c_.vocab_size);
    // A row is copied; backward adds the stream's gradient to it.
    Add("embedding", 0, tokens_ * kF32 * d * (w_.phase == Phase::kTrain ? 5 : 2));
    for (const LayerKind kind : c_.layer_pattern) {
      if (IsMamba2(kind)) {
        AddMamba2();
      } else {
        AddAttention(kind);
      }
      if (HasMlp(kind)) AddMlp();
    }
    const double rows = w_.phase == Phase::kPrefill ? Real(w_.sequences) : tokens_;
    // The final norm, the head and the loss, which keeps logits in the cache, chunk by chunk, and goes back at once.
    if (w_.phase != Phase::kTrain) {
      Product("head", rows, v, d, kF32, w_.phase == Phase::kPrefill ? 1 : Real(w_.forwards));
    } else {
      const double forwards = Real(w_.forwards), weight = v * d;
      // The weight's gradient is written by the first micro-batch, read and written by others.
      Add("head, loss", 6 * rows * weight,
          rows * 3 * kF32 * d + forwards * e_ * weight + (2 * forwards - 1) * kF32 * weight);
      // AdamW reads weight, gradient and both moments and writes all but the gradient, and the copy for products.
      const double copy = e_ < kF32 ? e_ : 0;
      costs_.push_back({"optimizer", 0, Real(CountParameters(c_)) * (7 * kF32 + copy)});
    }
    return std::move(costs_);
  }

 private:
  void Add(const std::string& op, double flops, double bytes) {
    for (OpCost& cost : costs_) {
      if (cost.op == op) {
        cost.flops += flops;
        cost.bytes += bytes;
        return;
      }
    }
    costs_.push_back({op, flops, bytes});
  }

  // Forward reads `in` and writes `out` bytes a row; backward reads d out and the inputs and writes d in.
  void Mixer(const std::string& op, double rows, double flops, double in, double out) {
    Add(op, rows * flops, rows * (in + out));
    if (w_.phase == Phase::kTrain) Add(op + " backward", 2 * rows * flops, rows * (2 * in + out));
  }
  void Pointwise(const std::string& op, double rows, double in, double out) { Mixer(op, rows, 0, in, out); }

  // y [rows, n] = x [rows, k] W^T with y's elements of y_bytes, in `forwards` parts. Backward writes the weight's
  // gradient in f32 and, from the second micro-batch on, reads it too.
  void Product(const std::string& op, double rows, double n, double k, double y_bytes, double forwards) {
    const double flops = 2 * rows * n * k;
    Add(op, flops, rows * (e_ * k + y_bytes * n) + forwards * e_ * n * k);
    if (w_.phase != Phase::kTrain) return;
    Add(op + " backward", 2 * flops,
        rows * (2 * e_ * k + y_bytes * n) + forwards * e_ * n * k + std::max(2 * forwards - 1, 0.0) * kF32 * n * k);
  }

  // The same for every token, in every forward.
  void Product(const std::string& op, double n, double k, double y_bytes) {
    Product(op, tokens_, n, k, y_bytes, Real(w_.forwards));
  }

  void AddMamba2() {
    const double d = Real(c_.hidden_size), inner = Real(c_.d_inner()), heads = Real(c_.ssm_heads());
    const double group_state = Real(c_.n_groups * c_.state_size), channels = inner + 2 * group_state;
    Pointwise("norm", tokens_, kF32 * d, e_ * d);
    Product("in_proj", inner + channels + heads, d, e_);
    Mixer("conv", tokens_, 2 * Real(c_.conv_kernel) * channels, e_ * channels, e_ * channels);
    // Decoding reads and writes the state [H, P, N] for each token; longer runs keep it in the cache.
    const double state = w_.phase == Phase::kDecode ? 2 * kF32 * inner * Real(c_.state_size) : 0;
    Mixer("ssd", tokens_, 4 * inner * Real(c_.state_size), e_ * channels + kF32 * heads + state, e_ * inner);
    Pointwise("gated norm", tokens_, 2 * e_ * inner, e_ * inner);
    Product("out_proj", d, inner, 2 * kF32);  // added to the stream
  }

  void AddAttention(LayerKind kind) {
    const bool selective = kind == LayerKind::kSelectiveAttention;
    const double d = Real(c_.hidden_size), queries = selective ? w_.selected_share * tokens_ : tokens_;
    const double q = Real(c_.num_attention_heads * c_.attention_head_dim);
    const double kv = Real(c_.num_key_value_heads * c_.attention_head_dim);
    // Forwards that have a query at all; others need neither weight.
    const double forwards = Real(w_.forwards);
    const double busy = selective ? forwards * (1 - std::pow(1 - w_.selected_share, tokens_ / forwards)) : forwards;
    const double keys = MeanKeys(w_, kind == LayerKind::kAttention ? 0 : c_.sliding_window);
    Pointwise("norm", tokens_, kF32 * d, e_ * d);
    if (selective) Mixer("gate", tokens_, 2 * 2 * d, e_ * d, 0);
    Product("q_proj", queries, q, d, e_, busy);
    Product("k_proj, v_proj", 2 * kv, d, e_);
    // Decoding reads the window's keys and values for each query; longer runs read each once.
    Mixer("attention", queries, 4 * q * keys, e_ * q + (w_.phase == Phase::kDecode ? 2 * e_ * kv * keys : 0), e_ * q);
    if (w_.phase != Phase::kDecode) Pointwise("attention", tokens_, 2 * e_ * kv, 0);
    Product("o_proj", queries, d, q, 2 * kF32, busy);
  }

  void AddMlp() {
    const double d = Real(c_.hidden_size), ff = Real(c_.intermediate_size);
    Pointwise("norm", tokens_, kF32 * d, e_ * d);
    Product("gate_proj, up_proj", 2 * ff, d, e_);
    Pointwise("swiglu", tokens_, 2 * e_ * ff, e_ * ff);
    Product("down_proj", d, ff, 2 * kF32);
  }

  const ModelConfig& c_;
  const Workload& w_;
  const double tokens_, e_;  // of a run; bytes of an element
  std::vector<OpCost> costs_;
};

}  // namespace

int64_t TokensOf(const Workload& w) { return (w.phase == Phase::kDecode ? w.tokens : w.context) * w.sequences; }

std::vector<OpCost> CostByOperation(const ModelConfig& config, const Workload& workload) {
  CHECK(workload.context >= 0 && TokensOf(workload) > 0 && workload.forwards > 0);
  CHECK(workload.selected_share >= 0 && workload.selected_share <= 1);
  return Counter(config, workload).Count();
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
