#pragma once
// A matrix of quantized blocks in memory, in an order that products read from end to end.
//
// 16 rows are a group. In a group the same field of 16 rows stands together, so that a vector holds a number of each
// row and sums need no reduction across lanes; nothing is decoded and a row keeps the bytes that its type gives it.
//   heads: of each block the scales, each number 16 times (a row each); up to a multiple of 64 bytes
//   high:  of each run of 32 columns the bits of the codes above the fourth
//   low:   of each run the lower four bits, or all eight
// Codes are unsigned. Of a run, four columns are a chunk: word r of chunk c (4 bytes) is columns 4c to 4c + 3 of row r.
// Chunks 2v and 2v + 1 share vector v of `low`: its lower and upper half bytes. Bit c of a byte of `high` is the fifth
// bit in chunk c; of six-bit codes, bits 2s and 2s + 1 of vector v are the upper two in chunk 4v + s.

#include <cstdint>
#include <functional>

#include "tensor/ggml_blocks.h"
#include "tensor/tensor.h"

namespace taipan {

constexpr int64_t kQuantRows = 16;  // of a group
constexpr int64_t kQuantRun = 32;   // columns

// How a type's blocks are laid out.
struct QuantFormat {
  GgmlType type;
  int bits;           // of a code
  int bias;           // subtracted from a code
  int64_t elements;   // of a block
  int64_t head;       // bytes of scales, of a block of one row
  int64_t high, low;  // bytes of a run of a group
};
// The levels of IQ4_NL's codes as unsigned bytes: its bias is theirs.
alignas(16) inline constexpr uint8_t kIq4Levels[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                       129, 141, 153, 166, 181, 197, 217, 241};
bool IsQuantFormat(GgmlType type);  // whether a QuantMatrix can have it
const QuantFormat& QuantFormatOf(GgmlType type);

struct QuantGroup {
  const uint8_t *head, *high, *low;
};

struct QuantMatrixView {
  const uint8_t* data = nullptr;
  GgmlType type = GgmlType::kF32;
  int64_t rows = 0, cols = 0;

  explicit operator bool() const { return data != nullptr; }
  int64_t group_bytes() const;
  QuantGroup Group(int64_t group) const;
};

// `bytes` of a QuantMatrix; whole groups, the last one filled up with zeros.
int64_t QuantMatrixBytes(GgmlType type, int64_t rows, int64_t cols);

// Weights that products read as they are stored.
class QuantMatrix {
 public:
  QuantMatrix() = default;
  // In `memory` of QuantMatrixBytes, which are for the caller to write.
  QuantMatrix(GgmlType type, int64_t rows, int64_t cols, Tensor memory);
  QuantMatrix(GgmlType type, int64_t rows, int64_t cols);

  bool empty() const { return memory_.empty(); }
  int64_t bytes() const { return memory_.bytes(); }
  QuantMatrixView View() const;
  // From rows as files store them: read(row, count, to) gives some that follow each other; any thread may call it.
  void SetRows(const std::function<void(int64_t row, int64_t count, uint8_t* to)>& read);

 private:
  void SetGroup(int64_t group, const uint8_t* rows, int64_t count);

  Tensor memory_;
  GgmlType type_ = GgmlType::kF32;
  int64_t rows_ = 0, cols_ = 0;
};

// A row as files store it, cols / elements blocks; and its values, bit for bit those of Dequantize.
void StoredRow(const QuantMatrixView& m, int64_t row, uint8_t* to);
void DecodeRow(const QuantMatrixView& m, int64_t row, float* to);

}  // namespace taipan
