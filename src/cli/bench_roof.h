#pragma once
// What this machine can do at best: the rate of matrix products and the bandwidth of memory.

#include <optional>
#include <string>
#include <vector>

#include "cli/bench_stats.h"
#include "model/config.h"

namespace taipan {

// y[rows, n] = x[rows, k] W^T, `count` of them in one forward.
struct MatrixProduct {
  std::string name;
  int64_t n = 0, k = 0, count = 1;
};
// The linear layers of a model, equal shapes together. SAL queries and outputs count in full although only selected
// tokens need them.
std::vector<MatrixProduct> ProductsOf(const ModelConfig& config);

struct ProductRate {
  MatrixProduct product;
  int threads = 1;
  std::vector<double> gflops;  // a run each
};
struct BandwidthRate {
  int64_t bytes = 0;  // of the buffer, over all threads
  int threads = 1;
  Spread read, write;  // GB/s, 1e9 bytes
};

ProductRate MeasureProduct(const MatrixProduct& product, int64_t rows, int threads, int runs);
BandwidthRate MeasureBandwidth(int64_t bytes, int threads, int runs);
// The rate of all products together: each weighs as many FLOPs as it has in a forward.
Spread WeightedRate(const std::vector<ProductRate>& rates);

}  // namespace taipan
