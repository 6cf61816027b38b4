#include "formats/tensor_source.h"

#include <algorithm>
#include <cstring>

#include "base/parallel.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "formats/safetensors_header.h"
#include "formats/safetensors_set.h"

namespace taipan {
namespace {

constexpr int64_t kTask = int64_t{1} << 14;  // elements; a multiple of every block
constexpr int64_t kLeastAlignment = 32;      // of views: what GGUF gives; a vector then touches two cache lines at most

const char* At(const StoredTensor& t, int64_t element) {
  return static_cast<const char*>(t.data) + element / t.block * t.block_bytes;
}

// Elements [begin, end) as they are stored.
void Fetch(const StoredTensor& from, int64_t begin, int64_t end, void* to) {
  const int64_t bytes = At(from, end) - At(from, begin);
  if (from.file_mapped) {
    from.file_mapped->Read(At(from, begin), bytes, to);
  } else {
    std::memcpy(to, At(from, begin), static_cast<size_t>(bytes));
  }
}

// The same as f32.
void Decode(const StoredTensor& from, int64_t begin, int64_t end, float* to) {
  thread_local std::vector<char> stored;
  stored.resize(std::max(stored.size(), static_cast<size_t>(At(from, end) - At(from, begin))));
  Fetch(from, begin, end, stored.data());
  from.decode(stored.data(), end - begin, to);
}

void ReadTask(const StoredTensor& from, int64_t begin, int64_t end, Tensor& to) {
  if (from.dtype == to.dtype()) {
    Fetch(from, begin, end, static_cast<char*>(to.data()) + begin * from.block_bytes);
  } else if (to.dtype() == DType::kF32) {
    Decode(from, begin, end, to.F32() + begin);
  } else {
    thread_local std::vector<float> values;
    values.resize(static_cast<size_t>(kTask));
    Decode(from, begin, end, values.data());
    std::transform(values.data(), values.data() + (end - begin), to.As<BF16>() + begin, ToBF16);
  }
}

}  // namespace

void ReadStoredRows(const StoredTensor& from, RowRange rows, void* to) {
  const int64_t cols = from.shape.at(1);
  CHECK_LE(rows.begin + rows.count, from.shape[0]);
  Fetch(from, rows.begin * cols, (rows.begin + rows.count) * cols, to);
  if (from.file_mapped) from.file_mapped->CheckUnchanged();
}

bool HasShape(const StoredTensor& tensor, const std::vector<int64_t>& expected) {
  const auto begin = [&](const std::vector<int64_t>& shape) {
    return tensor.leading_ones ? shape.begin()
                               : std::find_if(shape.begin(), shape.end(), [](int64_t n) { return n != 1; });
  };
  return std::equal(begin(tensor.shape), tensor.shape.end(), begin(expected), expected.end());
}

// The tensor, or the part of it, where name, shape and type are right.
StoredTensor TensorSource::Fitting(const std::string& name, const std::vector<int64_t>& shape, RowRange rows) const {
  StoredTensor stored = Stored(name);
  if (HasShape(stored, shape)) stored.shape = shape;
  CheckTensorShape(stored.file, stored.name, shape, stored.shape);
  if (!stored.decode) {
    throw UserError({stored.file, "tensor " + QuoteName(stored.name) + " has the wrong dtype", "F32, F64, BF16 or F16",
                     stored.type});
  }
  if (rows.count == 0) return stored;
  CHECK(rows.begin >= 0 && rows.begin + rows.count <= shape[0]);
  const int64_t row_bytes = stored.bytes / shape[0];
  stored.data = static_cast<const char*>(stored.data) + rows.begin * row_bytes;
  stored.bytes = rows.count * row_bytes;
  stored.shape[0] = rows.count;
  return stored;
}

Tensor TensorSource::Read(const std::string& name, const std::vector<int64_t>& shape, DType dtype) const {
  Fitting(name, shape);  // refused before memory is taken
  Tensor to = Tensor::Unset(shape, dtype);
  ReadInto(name, shape, {}, to);
  return to;
}

void TensorSource::ReadInto(const std::string& name, const std::vector<int64_t>& shape, RowRange rows,
                            Tensor& to) const {
  CHECK(to.dtype() == DType::kF32 || to.dtype() == DType::kBF16);
  const StoredTensor from = Fitting(name, shape, rows);
  CHECK(from.shape == to.shape());
  ParallelForRanges(to.size(), kTask, [&](int64_t begin, int64_t end) { ReadTask(from, begin, end, to); });
  if (from.file_mapped) from.file_mapped->CheckUnchanged();
}

Tensor TensorSource::View(const std::string& name, const std::vector<int64_t>& shape, RowRange rows,
                          DType dtype) const {
  const StoredTensor stored = Fitting(name, shape, rows);
  const bool aligned = reinterpret_cast<uintptr_t>(stored.data) % kLeastAlignment == 0;
  if (!stored.file_mapped || stored.dtype != dtype || !aligned) return {};
  return Tensor::View(stored.shape, dtype, {stored.file_mapped, stored.data});
}

ReadRow TensorSource::Rows(const std::string& name, const std::vector<int64_t>& shape) const {
  CHECK_EQ(shape.size(), 2u);
  return [stored = Fitting(name, shape), cols = shape[1]](int64_t row, float* to) {
    Decode(stored, row * cols, (row + 1) * cols, to);
  };
}

std::unique_ptr<TensorSource> OpenTensors(const std::string& path) {
  if (IsDirectory(path)) return std::make_unique<SafetensorsSet>(path);
  if (path.ends_with(".safetensors")) return std::make_unique<SafetensorsFile>(path);
  if (IsGgufFile(path)) return std::make_unique<GgufFile>(path);
  throw UserError({path, "not a checkpoint", "a folder, a .safetensors file or a GGUF file",
                   PathExists(path) ? "a file of another name" : "nothing there"});
}

void RefuseMissingTensor(const std::string& file, const std::string& name, const std::vector<std::string>& names) {
  const std::string nearest = NearestName(name, names);
  throw UserError({.where = file,
                   .problem = "tensor " + QuoteName(name) + " is missing",
                   .hint = nearest.empty() ? fmt::format("the file has {} tensors", names.size())
                                           : "the nearest name in the file is " + QuoteName(nearest)});
}

void CheckTensorShape(const std::string& file, const std::string& name, const std::vector<int64_t>& expected,
                      const std::vector<int64_t>& found) {
  if (expected == found) return;
  throw UserError(
      {file, "tensor " + QuoteName(name) + " has the wrong shape", ShortShape(expected), ShortShape(found)});
}

}  // namespace taipan
