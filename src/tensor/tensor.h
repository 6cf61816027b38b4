#pragma once
// Numbers in memory: a dtype, two non-owning row-strided views that carry it, an owning aligned tensor, an arena.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "tensor/bf16.h"

namespace taipan {

enum class DType : uint8_t { kF32, kF64, kBF16, kF16, kI64, kI32, kU32, kI16, kU16, kI8, kU8, kBool };
int64_t SizeOf(DType dtype);      // bytes of one element
const char* NameOf(DType dtype);  // "F32" as safetensors spells it

// Of the element types that code is written for; another one does not compile.
template <class T>
struct ElementType;
template <>
struct ElementType<float> {
  static constexpr DType kDType = DType::kF32;
};
template <>
struct ElementType<BF16> {
  static constexpr DType kDType = DType::kBF16;
};
template <class T>
inline constexpr DType kDTypeOf = ElementType<T>::kDType;

// A read-only [rows, cols] matrix whose rows are `stride` elements apart; the elements of a row are adjacent.
struct ConstMatrixView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0, stride = 0;

  ConstMatrixView() = default;
  ConstMatrixView(const void* d, DType t, int64_t r, int64_t c, int64_t s)
      : data(d), dtype(t), rows(r), cols(c), stride(s) {}
  ConstMatrixView(const float* d, int64_t r, int64_t c) : ConstMatrixView(d, DType::kF32, r, c, c) {}

  explicit operator bool() const { return data != nullptr; }
  const float* F32(int64_t row = 0) const {
    CHECK(dtype == DType::kF32);
    return static_cast<const float*>(data) + row * stride;
  }
  template <class T>  // float or BF16
  const T* As(int64_t row = 0) const {
    CHECK(dtype == kDTypeOf<T>);
    return static_cast<const T*>(data) + row * stride;
  }
  ConstMatrixView Rows(int64_t begin, int64_t count) const;
  ConstMatrixView Cols(int64_t begin, int64_t count) const;
};

struct MatrixView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0, stride = 0;

  MatrixView() = default;
  MatrixView(void* d, DType t, int64_t r, int64_t c, int64_t s) : data(d), dtype(t), rows(r), cols(c), stride(s) {}
  MatrixView(float* d, int64_t r, int64_t c) : MatrixView(d, DType::kF32, r, c, c) {}
  operator ConstMatrixView() const { return {data, dtype, rows, cols, stride}; }

  explicit operator bool() const { return data != nullptr; }
  float* F32(int64_t row = 0) const {
    CHECK(dtype == DType::kF32);
    return static_cast<float*>(data) + row * stride;
  }
  template <class T>
  T* As(int64_t row = 0) const {
    CHECK(dtype == kDTypeOf<T>);
    return static_cast<T*>(data) + row * stride;
  }
  MatrixView Rows(int64_t begin, int64_t count) const;
  MatrixView Cols(int64_t begin, int64_t count) const;
  void Zero() const;
};
void CopyMatrix(ConstMatrixView from, MatrixView to);  // same shape and dtype

struct FreeMemory {
  void operator()(void* p) const;
};

// Owns 64-byte aligned memory, zero at first, or is a view. Row-major; a copy copies the elements.
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(std::vector<int64_t> shape, DType dtype = DType::kF32);
  static Tensor Unset(std::vector<int64_t> shape, DType dtype);  // its elements are for the caller to write
  // A part of a block that is shared with others, `offset` bytes from its start; its elements are for the caller to
  // write.
  static Tensor PartOf(const Tensor& block, int64_t offset, std::vector<int64_t> shape, DType dtype);
  // Of memory that `data` keeps alive and that is not to be written, such as a mapped file.
  static Tensor View(std::vector<int64_t> shape, DType dtype, std::shared_ptr<const void> data);
  Tensor(const Tensor& other);
  Tensor& operator=(const Tensor& other);
  Tensor(Tensor&&) noexcept = default;
  Tensor& operator=(Tensor&&) noexcept = default;

  const std::vector<int64_t>& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  int64_t size() const { return size_; }  // elements
  int64_t bytes() const { return size_ * SizeOf(dtype_); }
  bool empty() const { return size_ == 0; }
  bool is_view() const { return view_; }

  void* data() {
    CHECK(!view_);
    return data_.get();
  }
  const void* data() const { return data_.get(); }
  template <class T>
  T* As() {
    CHECK(dtype_ == kDTypeOf<T>);
    return static_cast<T*>(data());
  }
  template <class T>
  const T* As() const {
    CHECK(dtype_ == kDTypeOf<T>);
    return static_cast<const T*>(data());
  }
  float* F32() {
    CHECK(dtype_ == DType::kF32);
    return static_cast<float*>(data());
  }
  const float* F32() const {
    CHECK(dtype_ == DType::kF32);
    return static_cast<const float*>(data());
  }
  // First dimension as rows, the rest flattened as columns; of an empty tensor a null view.
  MatrixView Matrix();
  ConstMatrixView Matrix() const;
  void Zero();
  void Reshape(std::vector<int64_t> shape);  // as many elements

 private:
  std::vector<int64_t> shape_;
  DType dtype_ = DType::kF32;
  int64_t size_ = 0;
  bool view_ = false;
  std::shared_ptr<void> data_;  // of this object alone, but for views and parts
};
std::string ShapeString(const std::vector<int64_t>& shape);  // "[2, 3]"

// Bump allocator for activations and scratch. Memory is not cleared. It keeps what it has for the next round, in one
// block once a round has shown how much is needed, so a steady loop allocates nothing.
class Arena {
 public:
  float* Floats(int64_t n) { return static_cast<float*>(Bytes(n * 4)); }
  MatrixView Matrix(int64_t rows, int64_t cols, DType dtype = DType::kF32);
  void* Bytes(int64_t n);  // 64-byte aligned
  template <class T>
  T* Array(int64_t n) {
    return static_cast<T*>(Bytes(n * static_cast<int64_t>(sizeof(T))));
  }
  void Reset();  // everything handed out is void
  int64_t peak_bytes() const { return peak_; }

  // Gives back, at the end of the scope, what was taken since its start.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), block_(arena.block_), used_(arena.used_), total_(arena.total_) {}
    ~Scope() {
      arena_.block_ = block_;
      arena_.used_ = used_;
      arena_.total_ = total_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    size_t block_;
    int64_t used_, total_;
  };

 private:
  struct Block {  // pages that nothing has touched yet take no memory
    explicit Block(int64_t n);
    int64_t bytes;
    std::unique_ptr<void, FreeMemory> data;
  };
  std::vector<Block> blocks_;
  size_t block_ = 0;              // the block in use
  int64_t used_ = 0;              // bytes used of it
  int64_t total_ = 0, peak_ = 0;  // bytes handed out, now and at most
};

}  // namespace taipan
