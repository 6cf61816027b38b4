#include "kernels/gemm/quant_matrix.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/parallel.h"
#include "tensor/ggml_codes.h"

namespace taipan {
namespace {

constexpr int64_t kVector = 64;  // bytes: a word of each row

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// A field of scales in a file's block: `count` numbers of `size` bytes.
struct Field {
  int offset, size, count;
};

// Where a type's scales are in a file's block.
struct Stored {
  QuantFormat format;
  Field fields[2];
};

constexpr Stored kStored[] = {
    {{GgmlType::kQ8_0, 8, 128, 32, 2, 0, 512}, {{0, 2, 1}}},
    {{GgmlType::kQ4_0, 4, 8, 32, 2, 0, 256}, {{0, 2, 1}}},
    {{GgmlType::kQ4_1, 4, 0, 32, 4, 0, 256}, {{0, 2, 2}}},
    {{GgmlType::kQ5_0, 5, 16, 32, 2, 64, 256}, {{0, 2, 1}}},
    {{GgmlType::kQ5_1, 5, 0, 32, 4, 64, 256}, {{0, 2, 2}}},
    {{GgmlType::kIQ4_NL, 4, 128, 32, 2, 0, 256}, {{0, 2, 1}}},
    {{GgmlType::kQ4_K, 4, 0, 256, 16, 0, 256}, {{0, 2, 2}, {4, 1, 12}}},
    {{GgmlType::kQ5_K, 5, 0, 256, 16, 64, 256}, {{0, 2, 2}, {4, 1, 12}}},
    {{GgmlType::kQ6_K, 6, 32, 256, 18, 128, 256}, {{208, 2, 1}, {192, 1, 16}}},
};

const Stored* Find(GgmlType type) {
  const auto found =
      std::find_if(std::begin(kStored), std::end(kStored), [&](const Stored& s) { return s.format.type == type; });
  return found == std::end(kStored) ? nullptr : found;
}
const Stored& Of(GgmlType type) {
  const Stored* stored = Find(type);
  CHECK(stored != nullptr);
  return *stored;
}

int64_t HeadBytes(const QuantFormat& f, int64_t cols) {
  return RoundUp(cols / f.elements * f.head * kQuantRows, kVector);
}
int64_t GroupBytes(const QuantFormat& f, int64_t cols) {
  return HeadBytes(f, cols) + cols / kQuantRun * (f.high + f.low);
}

// The scales of block `b` of row r, from a file's block or back to it.
template <bool kFromFile, class Block>
void CopyHead(const Stored& stored, Block* block, int64_t b, int64_t r,
              std::conditional_t<kFromFile, uint8_t, const uint8_t>* heads) {
  auto* at = heads + b * stored.format.head * kQuantRows;
  for (const Field& field : stored.fields) {
    for (int i = 0; i < field.count; ++i, at += field.size * kQuantRows) {
      auto* in_block = block + field.offset + i * field.size;
      auto* in_head = at + r * field.size;
      if constexpr (kFromFile) {
        std::memcpy(in_head, in_block, static_cast<size_t>(field.size));
      } else {
        std::memcpy(in_block, in_head, static_cast<size_t>(field.size));
      }
    }
  }
}

uint32_t Word(const uint8_t* p) {
  uint32_t word;
  std::memcpy(&word, p, 4);
  return word;
}
void OrWord(uint8_t* p, uint32_t bits) {
  bits |= Word(p);
  std::memcpy(p, &bits, 4);
}

// One row's 32 codes into a run of a group (where its bits are zero) and back.
void SetRun(const QuantFormat& f, const uint8_t* codes, int64_t r, uint8_t* high, uint8_t* low) {
  for (int c = 0; c < 8; ++c) {
    const uint32_t word = Word(codes + 4 * c), upper = (word >> 4) & 0x0f0f0f0f;
    if (f.bits == 8) {
      std::memcpy(low + c * kVector + 4 * r, &word, 4);
      continue;
    }
    OrWord(low + c / 2 * kVector + 4 * r, (word & 0x0f0f0f0f) << (c % 2 * 4));
    if (f.bits == 5) OrWord(high + 4 * r, upper << c);
    if (f.bits == 6) OrWord(high + c / 4 * kVector + 4 * r, upper << (c % 4 * 2));
  }
}
void GetRun(const QuantFormat& f, const uint8_t* high, const uint8_t* low, int64_t r, uint8_t* codes) {
  for (int c = 0; c < 8; ++c) {
    uint32_t word = f.bits == 8 ? Word(low + c * kVector + 4 * r)
                                : (Word(low + c / 2 * kVector + 4 * r) >> (c % 2 * 4)) & 0x0f0f0f0f;
    if (f.bits == 5) word |= ((Word(high + 4 * r) >> c) & 0x01010101) << 4;
    if (f.bits == 6) word |= ((Word(high + c / 4 * kVector + 4 * r) >> (c % 4 * 2)) & 0x03030303) << 4;
    std::memcpy(codes + 4 * c, &word, 4);
  }
}

}  // namespace

bool IsQuantFormat(GgmlType type) { return Find(type) != nullptr; }
const QuantFormat& QuantFormatOf(GgmlType type) { return Of(type).format; }

int64_t QuantMatrixView::group_bytes() const { return GroupBytes(QuantFormatOf(type), cols); }

QuantGroup QuantMatrixView::Group(int64_t group) const {
  const QuantFormat& f = QuantFormatOf(type);
  const uint8_t* head = data + group * GroupBytes(f, cols);
  const uint8_t* high = head + HeadBytes(f, cols);
  return {head, high, high + cols / kQuantRun * f.high};
}

int64_t QuantMatrixBytes(GgmlType type, int64_t rows, int64_t cols) {
  return (rows + kQuantRows - 1) / kQuantRows * GroupBytes(QuantFormatOf(type), cols);
}

QuantMatrix::QuantMatrix(GgmlType type, int64_t rows, int64_t cols, Tensor memory)
    : memory_(std::move(memory)), type_(type), rows_(rows), cols_(cols) {
  CHECK_EQ(cols % QuantFormatOf(type).elements, 0);
  CHECK_EQ(memory_.bytes(), QuantMatrixBytes(type, rows, cols));
}

QuantMatrix::QuantMatrix(GgmlType type, int64_t rows, int64_t cols)
    : QuantMatrix(type, rows, cols, Tensor::Unset({QuantMatrixBytes(type, rows, cols)}, DType::kU8)) {}

QuantMatrixView QuantMatrix::View() const { return {static_cast<const uint8_t*>(memory_.data()), type_, rows_, cols_}; }

void QuantMatrix::SetGroup(int64_t group, const uint8_t* rows, int64_t count) {
  const Stored& stored = Of(type_);
  const QuantFormat& f = stored.format;
  const int64_t size = GroupBytes(f, cols_), block_bytes = BlockBytes(type_), blocks = cols_ / f.elements;
  uint8_t* const heads = static_cast<uint8_t*>(memory_.data()) + group * size;
  uint8_t* const high = heads + HeadBytes(f, cols_);
  uint8_t* const low = high + cols_ / kQuantRun * f.high;
  std::memset(heads, 0, static_cast<size_t>(size));
  uint8_t codes[256];
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t b = 0; b < blocks; ++b, rows += block_bytes) {
      CopyHead<true>(stored, rows, b, r, heads);
      BlockCodes(type_, rows, codes);
      for (int64_t i = 0; i < f.elements; i += kQuantRun) {
        const int64_t run = (b * f.elements + i) / kQuantRun;
        SetRun(f, codes + i, r, high + run * f.high, low + run * f.low);
      }
    }
  }
}

void QuantMatrix::SetRows(const std::function<void(int64_t row, int64_t count, uint8_t* to)>& read) {
  const int64_t row_bytes = cols_ / BlockElements(type_) * BlockBytes(type_);
  constexpr int64_t kTask = 8;  // groups
  ParallelForRanges((rows_ + kQuantRows - 1) / kQuantRows, kTask, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> rows(static_cast<size_t>(kQuantRows * row_bytes));
    for (int64_t group = begin; group < end; ++group) {
      const int64_t first = group * kQuantRows, count = std::min(kQuantRows, rows_ - first);
      read(first, count, rows.data());
      SetGroup(group, rows.data(), count);
    }
  });
}

void StoredRow(const QuantMatrixView& m, int64_t row, uint8_t* to) {
  CHECK(row >= 0 && row < m.rows);
  const Stored& stored = Of(m.type);
  const QuantFormat& f = stored.format;
  const QuantGroup group = m.Group(row / kQuantRows);
  const int64_t r = row % kQuantRows, blocks = m.cols / f.elements, block_bytes = BlockBytes(m.type);
  uint8_t codes[256];
  for (int64_t b = 0; b < blocks; ++b, to += block_bytes) {
    for (int64_t i = 0; i < f.elements; i += kQuantRun) {
      const int64_t run = (b * f.elements + i) / kQuantRun;
      GetRun(f, group.high + run * f.high, group.low + run * f.low, r, codes + i);
    }
    SetBlockCodes(m.type, codes, to);
    CopyHead<false>(stored, to, b, r, group.head);
  }
}

void DecodeRow(const QuantMatrixView& m, int64_t row, float* to) {
  thread_local std::vector<uint8_t> stored;
  stored.resize(static_cast<size_t>(m.cols / BlockElements(m.type) * BlockBytes(m.type)));
  StoredRow(m, row, stored.data());
  Dequantize(m.type, stored.data(), m.cols, to);
}

}  // namespace taipan
