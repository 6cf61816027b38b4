#include "tensor/tensor.h"

#include <sys/mman.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/memory.h"

namespace taipan {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kAlign = 64;  // a cache line and an AVX-512 vector

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Aligned memory, not cleared. Large blocks ask for huge pages: streaming kernels gain a quarter to a half where the
// system grants them.
void* Allocate(int64_t bytes) {
  const bool huge = bytes >= 2 * kHugePage;
  const int64_t align = huge ? kHugePage : kAlign, rounded = RoundUp(std::max<int64_t>(bytes, 1), align);
  void* memory = std::aligned_alloc(static_cast<size_t>(align), static_cast<size_t>(rounded));
  if (memory == nullptr) throw OutOfMemory(bytes);
  if (huge) ::madvise(memory, static_cast<size_t>(rounded), MADV_HUGEPAGE);  // advice: failure does no harm
  return memory;
}

int64_t Elements(const std::vector<int64_t>& shape) {
  int64_t size = 1;
  for (const int64_t n : shape) {
    CHECK_GE(n, 0);
    size *= n;
  }
  return size;
}

}  // namespace

int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
    case DType::kU32:
      return 4;
    case DType::kBF16:
    case DType::kF16:
    case DType::kI16:
    case DType::kU16:
      return 2;
    case DType::kI8:
    case DType::kU8:
    case DType::kBool:
      return 1;
  }
  CHECK(false);
  return 0;
}

const char* NameOf(DType dtype) {
  static constexpr const char* kNames[] = {"F32", "F64", "BF16", "F16", "I64", "I32",
                                           "U32", "I16", "U16",  "I8",  "U8",  "BOOL"};
  return kNames[static_cast<int>(dtype)];
}

ConstMatrixView ConstMatrixView::Rows(int64_t begin, int64_t count) const {
  CHECK(begin >= 0 && count >= 0);
  CHECK_LE(begin + count, rows);
  return {static_cast<const char*>(data) + begin * stride * SizeOf(dtype), dtype, count, cols, stride};
}

ConstMatrixView ConstMatrixView::Cols(int64_t begin, int64_t count) const {
  CHECK(begin >= 0 && count >= 0);
  CHECK_LE(begin + count, cols);
  return {static_cast<const char*>(data) + begin * SizeOf(dtype), dtype, rows, count, stride};
}

MatrixView MatrixView::Rows(int64_t begin, int64_t count) const {
  CHECK(begin >= 0 && count >= 0);
  CHECK_LE(begin + count, rows);
  return {static_cast<char*>(data) + begin * stride * SizeOf(dtype), dtype, count, cols, stride};
}

MatrixView MatrixView::Cols(int64_t begin, int64_t count) const {
  CHECK(begin >= 0 && count >= 0);
  CHECK_LE(begin + count, cols);
  return {static_cast<char*>(data) + begin * SizeOf(dtype), dtype, rows, count, stride};
}

void MatrixView::Zero() const {
  for (int64_t r = 0; r < rows; ++r) {
    std::memset(static_cast<char*>(data) + r * stride * SizeOf(dtype), 0, static_cast<size_t>(cols * SizeOf(dtype)));
  }
}

void CopyMatrix(ConstMatrixView from, MatrixView to) {
  CHECK(from.dtype == to.dtype);
  CHECK_EQ(from.rows, to.rows);
  CHECK_EQ(from.cols, to.cols);
  const int64_t element = SizeOf(from.dtype);
  for (int64_t r = 0; r < from.rows; ++r) {
    std::memcpy(static_cast<char*>(to.data) + r * to.stride * element,
                static_cast<const char*>(from.data) + r * from.stride * element,
                static_cast<size_t>(from.cols * element));
  }
}

void FreeMemory::operator()(void* p) const { std::free(p); }

Tensor Tensor::View(std::vector<int64_t> shape, DType dtype, std::shared_ptr<const void> data) {
  Tensor t;
  t.shape_ = std::move(shape);
  t.dtype_ = dtype;
  t.size_ = Elements(t.shape_);
  t.view_ = true;
  t.data_ = std::const_pointer_cast<void>(std::move(data));
  return t;
}

Tensor Tensor::PartOf(const Tensor& block, int64_t offset, std::vector<int64_t> shape, DType dtype) {
  CHECK(offset >= 0 && offset % kAlign == 0);
  Tensor t = View(std::move(shape), dtype, {block.data_, static_cast<const char*>(block.data()) + offset});
  t.view_ = block.view_;
  CHECK_LE(offset + t.bytes(), block.bytes());
  return t;
}

Tensor Tensor::Unset(std::vector<int64_t> shape, DType dtype) {
  Tensor t = View(std::move(shape), dtype, nullptr);
  t.view_ = false;
  t.data_.reset(Allocate(t.bytes()), FreeMemory());
  return t;
}

Tensor::Tensor(std::vector<int64_t> shape, DType dtype) : Tensor(Unset(std::move(shape), dtype)) { Zero(); }

Tensor::Tensor(const Tensor& other) { *this = other; }

Tensor& Tensor::operator=(const Tensor& other) {
  if (this == &other) return *this;
  if (!other.data_) {
    *this = Tensor();
    return *this;
  }
  if (!data_ || view_ || shape_ != other.shape_ || dtype_ != other.dtype_) *this = Unset(other.shape_, other.dtype_);
  std::memcpy(data_.get(), other.data_.get(), static_cast<size_t>(bytes()));
  return *this;
}

MatrixView Tensor::Matrix() {
  if (!data_) return {};
  const int64_t rows = shape_.empty() ? 1 : shape_[0];
  const int64_t cols = rows == 0 ? 0 : size_ / rows;
  return {data(), dtype_, rows, cols, cols};
}

ConstMatrixView Tensor::Matrix() const {
  if (!data_) return {};
  const int64_t rows = shape_.empty() ? 1 : shape_[0];
  const int64_t cols = rows == 0 ? 0 : size_ / rows;
  return {data(), dtype_, rows, cols, cols};
}

void Tensor::Reshape(std::vector<int64_t> shape) {
  CHECK_EQ(Elements(shape), size_);
  shape_ = std::move(shape);
}

void Tensor::Zero() {
  if (data_) std::memset(data(), 0, static_cast<size_t>(bytes()));
}

std::string ShapeString(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

MatrixView Arena::Matrix(int64_t rows, int64_t cols, DType dtype) {
  return {Bytes(rows * cols * SizeOf(dtype)), dtype, rows, cols, cols};
}

Arena::Block::Block(int64_t n) : bytes(n), data(Allocate(n)) {
#ifndef NDEBUG
  std::memset(data.get(), 0xff, static_cast<size_t>(n));  // NaN: what is read before it is written shows
#endif
}

void* Arena::Bytes(int64_t n) {
  CHECK_GE(n, 0);
  n = RoundUp(n, kAlign);
  total_ += n;
  peak_ = std::max(peak_, total_);
  while (block_ < blocks_.size() && used_ + n > blocks_[block_].bytes) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    constexpr int64_t kLeast = int64_t{1} << 20;
    const int64_t last = blocks_.empty() ? kLeast : blocks_.back().bytes;
    blocks_.emplace_back(std::max(n, last));
    used_ = 0;
  }
  char* p = static_cast<char*>(blocks_[block_].data.get()) + used_;
  used_ += n;
  return p;
}

void Arena::Reset() {
  if (blocks_.size() > 1) {
    blocks_.clear();
    // A quarter more than the peak: blocks end with holes, and later rounds may be a little larger.
    blocks_.emplace_back(RoundUp(peak_ + peak_ / 4, kAlign));
  }
  block_ = 0;
  used_ = total_ = 0;
}

}  // namespace taipan
