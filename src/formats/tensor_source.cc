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

constexpr int64_t kTask = int64_t{1} << 16;  // elements; a multiple of every block
constexpr int64_t kLeastAlignment = 32;      // of views: what GGUF gives; a vector then touches two cache lines at most

const char* At(const StoredTensor& t, int64_t element) {
  return static_cast<const char*>(t.data) + element / t.block * t.block_bytes;
}

// Elements [begin, end) of a task.
void ReadTask(const StoredTensor& from, int64_t begin, int64_t end, Tensor& to) {
  if (from.dtype == to.dtype()) {
    std::memcpy(static_cast<char*>(to.data()) + begin * from.block_bytes, At(from, begin),
                static_cast<size_t>((end - begin) * from.block_bytes));
  } else if (to.dtype() == DType::kF32) {
    from.decode(At(from, begin), end - begin, to.F32() + begin);
  } else {
    thread_local std::vector<float> values;
    values.resize(static_cast<size_t>(kTask));
    from.decode(At(from, begin), end - begin, values.data());
    std::transform(values.data(), values.data() + (end - begin), to.As<BF16>() + begin, ToBF16);
  }
}

}  // namespace

// The tensor, or the part of it, where name, shape and type are right.
StoredTensor TensorSource::Fitting(const std::string& name, const std::vector<int64_t>& shape, RowRange rows) const {
  StoredTensor stored = Stored(name);
  CheckTensorShape(stored.file, stored.name, shape, stored.shape);
  if (!stored.decode) {
    throw UserError({stored.file, "tensor " + QuoteName(stored.name) + " has the wrong dtype", "F32, F64, BF16 or F16",
                     stored.type, ""});
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
  // The file's pages go as soon as they were read, so that no more than a piece of it is in memory beside the result.
  constexpr int64_t kPiece = 32 * kTask;
  for (int64_t begin = 0; begin < to.size(); begin += kPiece) {
    const int64_t n = std::min(kPiece, to.size() - begin);
    ParallelForRanges(n, kTask, [&](int64_t b, int64_t e) { ReadTask(from, begin + b, begin + e, to); });
    if (from.file_mapped) from.file_mapped->Release(At(from, begin), At(from, begin + n) - At(from, begin));
  }
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
    stored.decode(At(stored, row * cols), cols, to);
  };
}

std::unique_ptr<TensorSource> OpenTensors(const std::string& path) {
  if (IsDirectory(path)) return std::make_unique<SafetensorsSet>(path);
  if (path.ends_with(".safetensors")) return std::make_unique<SafetensorsFile>(path);
  if (IsGgufFile(path)) return std::make_unique<GgufFile>(path);
  throw UserError({path, "not a checkpoint", "a folder, a .safetensors file or a GGUF file",
                   PathExists(path) ? "a file of another name" : "nothing there", ""});
}

void RefuseMissingTensor(const std::string& file, const std::string& name, const std::vector<std::string>& names) {
  const std::string nearest = NearestName(name, names);
  throw UserError({file, "tensor " + QuoteName(name) + " is missing", "", "",
                   nearest.empty() ? fmt::format("the file has {} tensors", names.size())
                                   : "the nearest name in the file is " + QuoteName(nearest)});
}

void CheckTensorShape(const std::string& file, const std::string& name, const std::vector<int64_t>& expected,
                      const std::vector<int64_t>& found) {
  if (expected == found) return;
  throw UserError(
      {file, "tensor " + QuoteName(name) + " has the wrong shape", ShortShape(expected), ShortShape(found), ""});
}

}  // namespace taipan
