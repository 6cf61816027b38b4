#pragma once
// The roof of a model: the rate that its own matrix shapes reach on this machine, each weighing as many FLOPs as it has
// in a run, and the bandwidth of memory. Measured once for a machine, number of threads, dtype, instruction set and
// list of shapes.

#include <string>

#include "cli/bench/bench_roof.h"
#include "model/flops.h"

namespace taipan {

struct ModelRoof {
  Spread gflops;       // of matrix products
  Spread read_gbytes;  // GB/s (1e9 bytes) of reading memory that no cache holds
  int64_t rows = 0;    // tokens in a product
  bool cached = true;  // measured by an earlier command
};

// rows: tokens of one forward; products are measured with at most 4096. refresh: measure although the cache knows.
ModelRoof RoofOf(const ModelConfig& config, const Workload& work, int64_t rows, const std::string& dtype, bool refresh);

// Seconds that the operation needs at least.
double FloorSeconds(const OpCost& cost, const ModelRoof& roof);

}  // namespace taipan
