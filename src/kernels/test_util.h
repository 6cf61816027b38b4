#pragma once
// Shared by the kernel tests: every SIMD target and several thread counts in turn, random and padded matrices, error
// measures, central differences.

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "base/rng.h"
#include "tensor/tensor.h"

namespace taipan::test {

constexpr double kFloatEps = std::numeric_limits<float>::epsilon();  // 2^-23: twice the unit roundoff

// While it lives, HWY_DYNAMIC_DISPATCH runs `target` only.
class ForcedSimdTarget {
 public:
  explicit ForcedSimdTarget(int64_t target) { Set(target); }
  ~ForcedSimdTarget() { Set(0); }
  ForcedSimdTarget(const ForcedSimdTarget&) = delete;
  ForcedSimdTarget& operator=(const ForcedSimdTarget&) = delete;

 private:
  static void Set(int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

// Runs fn() once for each SIMD target that was compiled and that this machine has.
template <class F>
void ForEachSimdTarget(F&& fn) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    ForcedSimdTarget forced(target);
    SCOPED_TRACE(std::string("SIMD target ") + hwy::TargetName(target));
    fn();
    if (::testing::Test::HasFatalFailure()) return;
  }
}

// Restores the number of threads at the end of its scope.
class ThreadCount {
 public:
  explicit ThreadCount(int n) : before_(NumThreads()) { SetNumThreads(n); }
  ~ThreadCount() { SetNumThreads(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int before_;
};

inline bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

// fn returns a std::vector<float> of everything it computed; 1, 2 and 3 threads must give the same bits.
template <class F>
void ExpectSameBitsForAnyThreads(F&& fn) {
  std::vector<float> one;
  for (const int threads : {1, 2, 3}) {
    ThreadCount count(threads);
    const std::vector<float> result = fn();
    if (threads == 1) one = result;
    EXPECT_TRUE(SameBits(one, result)) << threads << " threads";
  }
}

template <class T>
std::vector<T> RandomVector(int64_t n, uint64_t seed, double scale = 1.0, double mean = 0.0) {
  std::vector<T> out(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const double value = RandomNormal({.seed = seed, .stream = kTestStream}, static_cast<uint64_t>(i)) * scale + mean;
    out[static_cast<size_t>(i)] = static_cast<T>(static_cast<float>(value));  // the same number as float and as double
  }
  return out;
}

template <class To, class From>
std::vector<To> ConvertTo(const std::vector<From>& from) {
  return std::vector<To>(from.begin(), from.end());
}

// What rounding to nearest adds to a value that a kernel stores: relative to the value. bf16 has 8 bits.
inline double StorageRoundoff(DType dtype) { return dtype == DType::kBF16 ? 0x1p-8 : 0; }

// The numbers that a view of this type holds after they were written to it.
template <class T>
std::vector<T> Stored(std::vector<T> values, DType dtype) {
  if (dtype == DType::kBF16) {
    for (T& v : values) v = static_cast<T>(ToFloat(ToBF16(static_cast<float>(v))));
  }
  return values;
}

// A [rows, cols] view in a larger buffer: rows `gap` elements apart beyond cols, the first one `offset` elements past a
// 64-byte boundary. Everything outside of the view holds a guard value that must survive. f32 or bf16; numbers go in
// (rounded) and come out as floats.
class PaddedMatrix {
 public:
  PaddedMatrix(int64_t rows, int64_t cols, int64_t gap = 0, int64_t offset = 0, DType dtype = DType::kF32)
      : rows_(rows),
        cols_(cols),
        stride_(cols + gap),
        offset_(offset),
        buffer_({offset + rows * (cols + gap) + kMargin}, dtype) {
    for (int64_t i = 0; i < buffer_.size(); ++i) Set(i, kGuard);
    View().Zero();
  }

  MatrixView View() { return {At(offset_), buffer_.dtype(), rows_, cols_, stride_}; }
  ConstMatrixView View() const { return const_cast<PaddedMatrix*>(this)->View(); }

  PaddedMatrix& Fill(const std::vector<float>& dense) {
    CHECK_EQ(static_cast<int64_t>(dense.size()), rows_ * cols_);
    for (int64_t i = 0; i < rows_ * cols_; ++i) Set(Index(i), dense[static_cast<size_t>(i)]);
    return *this;
  }
  PaddedMatrix& FillRandom(uint64_t seed, double scale = 1.0) {
    return Fill(RandomVector<float>(rows_ * cols_, seed, scale));
  }
  std::vector<float> Dense() const {
    std::vector<float> out;
    out.reserve(static_cast<size_t>(rows_ * cols_));
    for (int64_t i = 0; i < rows_ * cols_; ++i) out.push_back(Get(Index(i)));
    return out;
  }
  std::vector<double> DenseDouble() const { return ConvertTo<double>(Dense()); }

  bool GuardsIntact() const {
    for (int64_t i = 0; i < buffer_.size(); ++i) {
      const int64_t at = i - offset_;
      const bool inside = at >= 0 && at < rows_ * stride_ && at % stride_ < cols_;
      if (!inside && Get(i) != kGuard) return false;
    }
    return true;
  }

 private:
  static constexpr int64_t kMargin = 32;      // two of the widest vectors
  static constexpr float kGuard = -12352.0f;  // a bf16 number
  void* At(int64_t i) { return static_cast<char*>(buffer_.data()) + i * SizeOf(buffer_.dtype()); }
  int64_t Index(int64_t dense) const { return offset_ + dense / cols_ * stride_ + dense % cols_; }
  void Set(int64_t i, float value) {
    if (buffer_.dtype() == DType::kBF16) {
      buffer_.As<BF16>()[i] = ToBF16(value);
    } else {
      buffer_.F32()[i] = value;
    }
  }
  float Get(int64_t i) const {
    return buffer_.dtype() == DType::kBF16 ? ToFloat(buffer_.As<BF16>()[i]) : buffer_.F32()[i];
  }

  int64_t rows_, cols_, stride_, offset_;
  Tensor buffer_;
};

// Widths around one and two vectors of every target, and rows around a tile of 64. Many rows at a few widths only.
struct KernelShape {
  int64_t rows, cols;
};
inline std::vector<KernelShape> KernelShapes() {
  std::vector<KernelShape> out;
  for (const int64_t rows : {0, 1, 2}) {
    for (int64_t cols = 1; cols <= 35; ++cols) out.push_back({rows, cols});
    for (const int64_t cols : {64, 97, 256, 531}) out.push_back({rows, cols});
  }
  for (const int64_t rows : {65, 130}) {
    for (const int64_t cols : {1, 7, 16, 33, 97, 300}) out.push_back({rows, cols});
  }
  return out;
}

template <class A, class B>
double MaxAbsError(const std::vector<A>& actual, const std::vector<B>& expected) {
  CHECK_EQ(actual.size(), expected.size());
  double worst = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(static_cast<double>(actual[i]) - static_cast<double>(expected[i]));
    if (!(error <= worst)) worst = error;  // NaN comes through
    if (std::isnan(worst)) return worst;
  }
  return worst;
}

// The largest error relative to its own value (0 where both are zero).
template <class A, class B>
double MaxRelativeError(const std::vector<A>& actual, const std::vector<B>& expected) {
  CHECK_EQ(actual.size(), expected.size());
  double worst = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double e = static_cast<double>(expected[i]), error = std::abs(static_cast<double>(actual[i]) - e);
    const double relative = error == 0 ? 0 : error / std::abs(e);
    if (!(relative <= worst)) worst = relative;  // NaN comes through
    if (std::isnan(worst)) return worst;
  }
  return worst;
}

template <class A>
double MaxAbs(const std::vector<A>& values) {
  double worst = 0;
  for (const A v : values) worst = std::max(worst, std::abs(static_cast<double>(v)));
  return worst;
}

// ||actual - expected|| / ||expected|| (the numerator itself where expected is zero).
template <class A, class B>
double RelativeFrobeniusError(const std::vector<A>& actual, const std::vector<B>& expected) {
  CHECK_EQ(actual.size(), expected.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double e = static_cast<double>(expected[i]), d = static_cast<double>(actual[i]) - e;
    difference += d * d;
    norm += e * e;
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

template <class A, class B>
double DotProduct(const std::vector<A>& a, const std::vector<B>& b) {
  CHECK_EQ(a.size(), b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// Compares df/dx_i with central differences of f, in double, for every `every`-th i. With steps h = 1e-5 max(1, |x_i|)
// truncation is of the order 1e-10 f''' and rounding 1e-11 |f|, so `tolerance`, relative to the largest gradient
// (at least 1), of 1e-7 leaves room for |f| and f''' of some hundreds.
inline void CheckGradient(const std::function<double(const std::vector<double>&)>& f, std::vector<double> x,
                          const std::vector<double>& analytic, const std::string& name, double tolerance = 1e-7,
                          size_t every = 1) {
  ASSERT_EQ(x.size(), analytic.size()) << name;
  const double scale = std::max(1.0, MaxAbs(analytic));
  for (size_t i = 0; i < x.size(); i += every) {
    const double at = x[i], h = 1e-5 * std::max(1.0, std::abs(at));
    x[i] = at + h;
    const double up = f(x);
    x[i] = at - h;
    const double down = f(x);
    x[i] = at;
    const double numeric = (up - down) / (2 * h);
    ASSERT_LE(std::abs(numeric - analytic[i]), tolerance * scale)
        << "d/d " << name << "[" << i << "]: numeric " << numeric << ", analytic " << analytic[i];
  }
}

}  // namespace taipan::test
