#include "cli/bench_roof.h"

#include <algorithm>

#include "base/parallel.h"
#include "base/rng.h"
#include "cli/bench_memory.h"
#include "kernels/gemm.h"

namespace taipan {
namespace {

constexpr double kRunSeconds = 0.1;  // long against the start of a parallel loop (microseconds)

void AddProduct(std::vector<MatrixProduct>& products, const std::string& name, int64_t n, int64_t k) {
  for (MatrixProduct& p : products) {
    if (p.name == name && p.n == n && p.k == k) {
      ++p.count;
      return;
    }
  }
  products.push_back({name, n, k, 1});
}

Tensor RandomMatrix(int64_t rows, int64_t cols, uint32_t stream) {
  Tensor m({rows, cols});
  for (int64_t i = 0; i < m.size(); ++i) {
    m.F32()[i] = static_cast<float>(RandomUniform({1, kTestStream + stream}, static_cast<uint64_t>(i))) - 0.5f;
  }
  return m;
}

// Runs a measurement at another number of threads.
class ThreadScope {
 public:
  explicit ThreadScope(int threads) : before_(NumThreads()) { SetNumThreads(threads); }
  ~ThreadScope() { SetNumThreads(before_); }
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

}  // namespace

std::vector<MatrixProduct> ProductsOf(const ModelConfig& c) {
  std::vector<MatrixProduct> products;
  const int64_t d = c.hidden_size;
  for (const LayerKind kind : c.layer_pattern) {
    if (kind == LayerKind::kMamba2) {
      AddProduct(products, "in_proj", 2 * c.d_inner() + 2 * c.n_groups * c.state_size + c.ssm_heads(), d);
      AddProduct(products, "out_proj", d, c.d_inner());
      continue;
    }
    AddProduct(products, "q_proj", c.num_attention_heads * c.attention_head_dim, d);
    for (int i = 0; i < 2; ++i) AddProduct(products, "k_proj, v_proj", c.num_key_value_heads * c.attention_head_dim, d);
    AddProduct(products, "o_proj", d, c.num_attention_heads * c.attention_head_dim);
    for (int i = 0; i < 2; ++i) AddProduct(products, "gate_proj, up_proj", c.intermediate_size, d);
    AddProduct(products, "down_proj", d, c.intermediate_size);
  }
  AddProduct(products, "head", c.vocab_size, d);
  return products;
}

ProductRate MeasureProduct(const MatrixProduct& product, int64_t rows, int threads, int runs) {
  const ThreadScope scope(threads);
  const Tensor x = RandomMatrix(rows, product.k, 1), w = RandomMatrix(product.n, product.k, 2);
  Tensor y({rows, product.n});
  auto once = [&] { MatMul(x.Matrix(), false, w.Matrix(), true, y.Matrix(), Accumulate::kWrite); };
  once();  // oneDNN generates the kernel for a shape at its first use
  const int64_t repetitions = Repetitions(kRunSeconds, once);
  const double flops =
      2.0 * static_cast<double>(rows) * static_cast<double>(product.n) * static_cast<double>(product.k);
  ProductRate rate{product, threads, {}};
  for (int run = 0; run < runs; ++run) {
    const double start = NowSeconds();
    for (int64_t i = 0; i < repetitions; ++i) once();
    rate.gflops.push_back(flops * static_cast<double>(repetitions) / (NowSeconds() - start) * 1e-9);
  }
  return rate;
}

BandwidthRate MeasureBandwidth(int64_t bytes, int threads, int runs) {
  const ThreadScope scope(threads);
  constexpr int64_t kGrain = 256;                                                    // floats: what the sweeps need
  const int64_t part = std::max<int64_t>(bytes / 4 / threads / kGrain, 1) * kGrain;  // floats a thread
  std::vector<Tensor> parts(static_cast<size_t>(threads));
  // Each thread touches its own part first, so that the pages lie on its own memory node.
  ParallelFor(threads, [&](int64_t i) { parts[static_cast<size_t>(i)] = Tensor({part}); });
  int64_t sweeps = 1;
  auto read = [&] {
    ParallelFor(threads, [&](int64_t i) {
      for (int64_t s = 0; s < sweeps; ++s) SweepRead(parts[static_cast<size_t>(i)].F32(), part);
    });
  };
  auto write = [&] {
    ParallelFor(threads, [&](int64_t i) {
      for (int64_t s = 0; s < sweeps; ++s) SweepWrite(parts[static_cast<size_t>(i)].F32(), part, static_cast<float>(s));
    });
  };
  auto measure = [&](auto&& sweep) {
    sweeps = 1;
    sweep();
    // Sweeps within one parallel loop, so that small buffers are not measured by the start of the loop.
    while (true) {
      const double start = NowSeconds();
      sweep();
      if (NowSeconds() - start > kRunSeconds / 2) break;
      sweeps *= 2;
    }
    std::vector<double> rates;
    for (int run = 0; run < runs; ++run) {
      const double start = NowSeconds();
      sweep();
      rates.push_back(4.0 * static_cast<double>(part * threads * sweeps) / (NowSeconds() - start) * 1e-9);
    }
    return SpreadOf(rates);
  };
  BandwidthRate rate{4 * part * threads, threads, {}, {}};
  rate.read = measure(read);
  rate.write = measure(write);
  return rate;
}

Spread WeightedRate(const std::vector<ProductRate>& rates) {
  CHECK(!rates.empty());
  std::vector<double> weighted;
  for (size_t run = 0; run < rates.front().gflops.size(); ++run) {
    double flops = 0, seconds = 0;  // a row of input; the unit cancels
    for (const ProductRate& r : rates) {
      const double f = static_cast<double>(r.product.count * r.product.n * r.product.k);
      flops += f;
      seconds += f / r.gflops.at(run);
    }
    weighted.push_back(flops / seconds);
  }
  return SpreadOf(weighted);
}

}  // namespace taipan
