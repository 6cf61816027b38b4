#pragma once
// What this machine can do at best: the rate of matrix products and the bandwidth of memory.

#include <optional>
#include <string>
#include <vector>

#include "cli/bench/bench_stats.h"
#include "model/flops.h"
#include "tensor/tensor.h"

namespace taipan {

// "f32", "bf16" or "int8" (weights; u8 activations, sums in i32), the types that matrices are measured in. CHECKs.
DType DTypeNamed(const std::string& name);

struct ProductRate {
  MatrixProduct product;
  int threads = 1;
  int64_t rows = 0;
  std::vector<double> gflops;  // a run each
};
struct BandwidthRate {
  int64_t bytes = 0;  // of the buffer, over all threads
  int threads = 1;
  Spread read, write;  // GB/s, 1e9 bytes
};

// Rows are fewer where a product's result would have more elements than this: heads work in chunks of rows.
inline constexpr int64_t kMostResult = int64_t{64} << 20;

// How often and how long something is measured. A run is long against the start of a parallel loop (microseconds).
struct Effort {
  int64_t runs = 5;
  double run_seconds = 0.1;
};

ProductRate MeasureProduct(const MatrixProduct& product, int64_t rows, DType dtype, int threads, const Effort& effort);
BandwidthRate MeasureBandwidth(int64_t bytes, int threads, const Effort& effort);
Spread MeasureReads(int64_t bytes, int threads, const Effort& effort);  // GB/s
// The rate of all products together: each weighs as many FLOPs as it has in a forward.
Spread WeightedRate(const std::vector<ProductRate>& rates);

}  // namespace taipan
