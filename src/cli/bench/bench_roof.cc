#include "cli/bench/bench_roof.h"

#include <algorithm>

#include "base/parallel.h"
#include "base/rng.h"
#include "cli/bench/bench_memory.h"
#include "kernels/gemm/gemm.h"

namespace taipan {
namespace {

Tensor RandomMatrix(int64_t rows, int64_t cols, DType dtype, uint32_t stream) {
  Tensor m({rows, cols}, dtype);
  for (int64_t i = 0; i < m.size(); ++i) {
    const float value = static_cast<float>(RandomUniform({1, kTestStream + stream}, static_cast<uint64_t>(i))) - 0.5f;
    if (dtype == DType::kBF16) {
      m.As<BF16>()[i] = ToBF16(value);
    } else if (SizeOf(dtype) == 1) {
      static_cast<uint8_t*>(m.data())[i] = static_cast<uint8_t>(static_cast<int>(127 * value));
    } else {
      m.F32()[i] = value;
    }
  }
  return m;
}

struct ProductTypes {
  DType x, weight, y;
};
ProductTypes TypesOf(DType dtype) {
  if (dtype == DType::kI8) return {DType::kU8, DType::kI8, DType::kI32};
  return {dtype, dtype, dtype};
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

// Reads or writes a buffer again and again, on all threads.
class Sweeps {
 public:
  Sweeps(int64_t bytes, int threads, const Effort& effort)
      : scope_(threads),
        threads_(threads),
        effort_(effort),
        part_(std::max<int64_t>(bytes / 4 / threads / kGrain, 1) * kGrain),
        parts_(static_cast<size_t>(threads)) {
    // Each thread touches its own part first, so that the pages lie on its own memory node.
    ParallelFor(threads_, [&](int64_t i) { parts_[static_cast<size_t>(i)] = Tensor({part_}); });
  }

  int64_t bytes() const { return 4 * part_ * threads_; }
  Spread Read() {
    return MeasureSweep([&](int64_t i, int64_t sweeps) {
      for (int64_t s = 0; s < sweeps; ++s) SweepRead(parts_[static_cast<size_t>(i)].F32(), part_);
    });
  }
  Spread Write() {
    return MeasureSweep([&](int64_t i, int64_t sweeps) {
      for (int64_t s = 0; s < sweeps; ++s)
        SweepWrite(parts_[static_cast<size_t>(i)].F32(), part_, static_cast<float>(s));
    });
  }

 private:
  static constexpr int64_t kGrain = 256;  // floats: what the sweeps need

  // GB/s of sweep(part, times). Sweeps lie within one parallel loop, so that small buffers are not measured by the
  // start of the loop.
  template <class F>
  Spread MeasureSweep(F&& sweep) {
    auto seconds = [&](int64_t sweeps) {
      const double start = NowSeconds();
      ParallelFor(threads_, [&](int64_t i) { sweep(i, sweeps); });
      return NowSeconds() - start;
    };
    int64_t sweeps = 1;
    seconds(sweeps);
    while (seconds(sweeps) <= effort_.run_seconds / 2) sweeps *= 2;
    std::vector<double> rates;
    for (int64_t run = 0; run < effort_.runs; ++run) {
      rates.push_back(static_cast<double>(bytes() * sweeps) / seconds(sweeps) * 1e-9);
    }
    return SpreadOf(rates);
  }

  ThreadScope scope_;
  int threads_;
  Effort effort_;
  int64_t part_;  // floats a thread
  std::vector<Tensor> parts_;
};

}  // namespace

DType DTypeNamed(const std::string& name) {
  CHECK(name == "f32" || name == "bf16" || name == "int8");
  if (name == "int8") return DType::kI8;
  return name == "bf16" ? DType::kBF16 : DType::kF32;
}

ProductRate MeasureProduct(const MatrixProduct& product, int64_t rows, DType dtype, int threads, const Effort& effort) {
  const ThreadScope scope(threads);
  rows = std::max<int64_t>(1, std::min(rows, kMostResult / product.n));
  const ProductTypes types = TypesOf(dtype);
  const Tensor x = RandomMatrix(rows, product.k, types.x, 1), w = RandomMatrix(product.n, product.k, types.weight, 2);
  Tensor y({rows, product.n}, types.y);
  auto once = [&] { MatMul(x.Matrix(), false, w.Matrix(), true, y.Matrix(), Accumulate::kWrite); };
  once();  // oneDNN generates the kernel for a shape at its first use
  const int64_t repetitions = Repetitions(effort.run_seconds, once);
  const double flops =
      2.0 * static_cast<double>(rows) * static_cast<double>(product.n) * static_cast<double>(product.k);
  ProductRate rate{product, threads, rows, {}};
  for (int64_t run = 0; run < effort.runs; ++run) {
    const double start = NowSeconds();
    for (int64_t i = 0; i < repetitions; ++i) once();
    rate.gflops.push_back(flops * static_cast<double>(repetitions) / (NowSeconds() - start) * 1e-9);
  }
  return rate;
}

Spread MeasureReads(int64_t bytes, int threads, const Effort& effort) { return Sweeps(bytes, threads, effort).Read(); }

BandwidthRate MeasureBandwidth(int64_t bytes, int threads, const Effort& effort) {
  Sweeps sweeps(bytes, threads, effort);
  BandwidthRate rate{sweeps.bytes(), threads, {}, {}};
  rate.read = sweeps.Read();
  rate.write = sweeps.Write();
  return rate;
}

Spread WeightedRate(const std::vector<ProductRate>& rates) {
  CHECK(!rates.empty());
  std::vector<double> weighted;
  for (size_t run = 0; run < rates.front().gflops.size(); ++run) {
    double flops = 0, seconds = 0;  // a row of input; the unit cancels
    for (const ProductRate& r : rates) {
      const double f = r.product.weight() * static_cast<double>(r.product.n * r.product.k);
      flops += f;
      seconds += f / r.gflops.at(run);
    }
    weighted.push_back(flops / seconds);
  }
  return SpreadOf(weighted);
}

}  // namespace taipan
