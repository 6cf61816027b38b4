#pragma once
// The useful work of a run, layer by layer: what measured times are compared with. Recomputation, unselected queries
// and the extra products of chunked scans are not useful work.

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace taipan {

enum class Phase {
  kTrain,
  kScore,    // a forward with the logits of every token
  kPrefill,  // a forward with the logits of the last token
  kDecode,
};

struct Workload {
  Phase phase = Phase::kTrain;
  int64_t context = 1;        // kTrain, kScore, kPrefill: tokens a sequence; kDecode: tokens read before
  int64_t tokens = 1;         // kDecode: tokens a sequence after the context
  int64_t sequences = 1;      // a run
  int64_t forwards = 1;       // a run: each reads the weights (micro-batches, pieces of a prompt, decode steps)
  double selected_share = 1;  // queries of selective attention layers
  int64_t element_bytes = 4;  // of activations and weights in products: 2 for bf16
};
int64_t TokensOf(const Workload& w);  // read in a run

// Of one run. Names are those of the timers in layers, model and train: "in_proj", "in_proj backward", ...
struct OpCost {
  std::string op;
  double flops = 0;  // two a multiplication with addition; products, convolution, scan and attention only
  double bytes = 0;  // what the operation must read and write once in memory
};

// y[rows, n] = x[rows, k] W^T, `count` of them in one forward, each for `share` of the tokens.
struct MatrixProduct {
  std::string name;
  int64_t n = 0, k = 0, count = 1;
  double share = 1;
  double weight() const { return static_cast<double>(count) * share; }
};

// Collects what layers say of a run. Quantities a row are doubles.
class CostSink {
 public:
  static constexpr double kF32 = 4;  // bytes: residual stream, gradients of weights, dt, SSM states

  explicit CostSink(const Workload& work)
      : work_(work), tokens_(static_cast<double>(TokensOf(work))), element_(static_cast<double>(work.element_bytes)) {}

  const Workload& work() const { return work_; }
  bool training() const { return work_.phase == Phase::kTrain; }
  bool decoding() const { return work_.phase == Phase::kDecode; }
  double tokens() const { return tokens_; }          // of the run
  double element_bytes() const { return element_; }  // of an activation
  // Mean number of keys that a query sees. Causal: those before it and half of its own; window 0: no limit.
  double MeanKeys(int64_t window) const;

  void Add(const std::string& op, double flops, double bytes);
  // Forward reads `in` and writes `out` bytes a row; backward reads d out and the inputs and writes d in.
  void Mixer(const std::string& op, double rows, double flops, double in, double out);
  void Pointwise(const std::string& op, double in, double out) { Mixer(op, tokens_, 0, in, out); }
  // `count` products [n, k] that read the same rows, y's elements of y_bytes, for `share` of the tokens. Backward
  // writes the weight's gradient in f32 and, from the second micro-batch on, reads it too.
  void Product(const std::string& op, int64_t n, int64_t k, double y_bytes, int64_t count = 1, double share = 1);
  void Norm(int64_t width) {
    Pointwise("norm", kF32 * static_cast<double>(width), element_ * static_cast<double>(width));
  }

  const std::vector<OpCost>& ops() const { return ops_; }                   // by operation, in the order of the network
  const std::vector<MatrixProduct>& products() const { return products_; }  // equal ones together

 private:
  const Workload work_;
  const double tokens_, element_;
  std::vector<OpCost> ops_;
  std::vector<MatrixProduct> products_;
};

// Bytes a token that training keeps for the backward pass of a branch, and the scratch of the larger of its passes.
struct TrainingBytes {
  double kept = 0, scratch = 0;
};

}  // namespace taipan
