#include "model/model_files.h"

#include <utility>

#include "base/files.h"
#include "formats/safetensors.h"
#include "model/config_validate.h"
#include "model/default_dtype.h"

namespace taipan {
namespace {

// Binds what is only read. Products share one block of memory: large blocks have huge pages, which a mapped file has
// not (reading it takes 1 to 2 % more time), and one has no end of a page to waste for each weight.
class Binder {
 public:
  Binder(const TensorSource& tensors, Binding binding, LanguageModel& model)
      : tensors_(tensors), binding_(binding), dtype_(BoundDType(model.config(), binding)), model_(model) {}

  DType dtype() const { return dtype_; }
  int64_t bytes() const { return bytes_; }

  void Count(const ForeignTensor& from, const Weight& w) {
    if (const auto type = QuantOf(from, w)) {
      bytes_ += Rounded(QuantMatrixBytes(*type, w.spec.shape[0], w.spec.shape[1]));
    } else if (IsInBlock(from, w)) {
      bytes_ += Rounded(static_cast<int64_t>(w.spec.count()) * SizeOf(dtype_));
    }
  }

  void Bind(const ForeignTensor& from, Weight& w) {
    if (block_.empty()) block_ = Tensor::Unset({bytes_}, DType::kU8);
    if (const auto type = QuantOf(from, w)) return BindQuant(from, *type, w);
    if (HasRows(from, w)) {
      w.rows = tensors_.Rows(from.name, from.shape);
      model_.KeepFile(tensors_.Stored(from.name).file_mapped);
    }
    Tensor values;
    if (w.spec.role != Role::kLinear) {
      values = ReadParameter(tensors_, from);
    } else if (IsInBlock(from, w)) {
      values = Tensor::PartOf(block_, used_, from.part_shape(), dtype_);
      used_ += Rounded(values.bytes());
      ReadParameterInto(tensors_, from, values);
    } else if (!w.rows) {
      values = View(from);
      model_.KeepFile(tensors_.Stored(from.name).file_mapped);
    }
    if (values.empty()) return;
    values.Reshape(w.spec.shape);
    (values.dtype() == DType::kBF16 ? w.bf16 : w.f32) = std::move(values);
  }

 private:
  static int64_t Rounded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

  // The blocks that a weight keeps; none: it becomes numbers.
  std::optional<GgmlType> QuantOf(const ForeignTensor& from, const Weight& w) const {
    if (binding_ != Binding::kStored || !model_.IsProduct(w)) return std::nullopt;
    const std::optional<GgmlType> type = tensors_.Stored(from.name).quantized;
    return type && IsQuantFormat(*type) ? type : std::nullopt;
  }
  // Rows may have another order in the file; blocks lie within a row.
  void BindQuant(const ForeignTensor& from, GgmlType type, Weight& w) {
    const int64_t rows = w.spec.shape[0], cols = w.spec.shape[1], bytes = QuantMatrixBytes(type, rows, cols);
    w.quant = QuantMatrix(type, rows, cols, Tensor::PartOf(block_, used_, {bytes}, DType::kU8));
    used_ += Rounded(bytes);
    const StoredTensor stored = tensors_.Stored(from.name);
    const int64_t row_bytes = cols / stored.block * stored.block_bytes;
    w.quant.SetRows([&](int64_t row, int64_t count, uint8_t* to) {
      const int64_t step = from.layout == Layout::kSame ? count : 1;
      for (int64_t r = 0; r < count; r += step) {
        ReadStoredRows(stored, {StoredRowOf(from, row + r), step}, to + r * row_bytes);
      }
    });
  }

  Tensor View(const ForeignTensor& from) const {
    if (binding_ != Binding::kView || from.layout != Layout::kSame) return {};
    return tensors_.View(from.name, from.shape, from.part(), dtype_);
  }
  // An embedding that is stored as something else than what products read is looked up in the file.
  bool HasRows(const ForeignTensor& from, const Weight& w) const {
    return (binding_ == Binding::kBF16 || binding_ == Binding::kStored) && &w == &model_.params().embedding &&
           tensors_.Stored(from.name).dtype != dtype_;
  }
  bool IsInBlock(const ForeignTensor& from, const Weight& w) const {
    const bool wanted = w.spec.role == Role::kLinear && (model_.IsProduct(w) || !HasRows(from, w));
    return wanted && View(from).empty();
  }

  const TensorSource& tensors_;
  const Binding binding_;
  const DType dtype_;  // of products
  LanguageModel& model_;
  Tensor block_;
  int64_t bytes_ = 0, used_ = 0;  // of the block
};

// visit(tensor of the file, weight) for all.
template <class F>
void ForEachPair(const Checkpoint& checkpoint, LanguageModel& model, const F& visit) {
  const std::vector<ForeignTensor> names = ForeignTensors(model.config(), checkpoint.naming);
  size_t next = 0;
  model.params().ForEach([&](Weight& w) {
    const ForeignTensor& from = names.at(next++);
    CHECK(from.parameter == w.spec.name);
    visit(from, w);
  });
}

void ReadMasters(const Checkpoint& checkpoint, const TensorSource& tensors, LanguageModel& model) {
  ForEachPair(checkpoint, model, [&](const ForeignTensor& from, Weight& w) {
    w.f32 = ReadParameter(tensors, from);
    w.f32.Reshape(w.spec.shape);
  });
}

}  // namespace

DType BoundDType(const ModelConfig& config, Binding binding) {
  if (binding == Binding::kStored) return FastDType(config);
  return binding == Binding::kBF16 ? DType::kBF16 : DType::kF32;
}

int64_t BoundBytes(const Checkpoint& checkpoint, Binding binding) {
  LanguageModel model(checkpoint.config);
  Binder binder(checkpoint.Tensors(), binding, model);
  double vectors = 0;
  ForEachPair(checkpoint, model, [&](const ForeignTensor& from, Weight& w) {
    binder.Count(from, w);
    if (w.spec.role != Role::kLinear) vectors += w.spec.count();
  });
  return binder.bytes() + static_cast<int64_t>(vectors) * SizeOf(DType::kF32);
}

void LoadWeights(LanguageModel& model, const Checkpoint& checkpoint) {
  ReadMasters(checkpoint, *checkpoint.TensorsFor(model.config()), model);
}

LanguageModel LoadModel(const Checkpoint& checkpoint, Binding binding) {
  if (binding == Binding::kBF16) CheckAllowsBF16(checkpoint.config);
  const TensorSource& tensors = checkpoint.Tensors();  // refused before memory is taken
  LanguageModel model(checkpoint.config);
  if (binding == Binding::kMasters) {
    ReadMasters(checkpoint, tensors, model);
    return model;
  }
  Binder binder(tensors, binding, model);
  ForEachPair(checkpoint, model, [&](const ForeignTensor& from, Weight& w) { binder.Count(from, w); });
  ForEachPair(checkpoint, model, [&](const ForeignTensor& from, Weight& w) { binder.Bind(from, w); });
  if (binding == Binding::kBF16 || binding == Binding::kStored) model.SetDType(binder.dtype());
  return model;
}

LanguageModel LoadModel(const std::string& path, Binding binding) { return LoadModel(OpenCheckpoint(path), binding); }

std::vector<SafetensorsItem> ModelItems(LanguageModel& model) {
  std::vector<SafetensorsItem> items;
  model.RequireF32("saving a model");
  model.params().ForEach([&](Weight& w) {
    items.push_back({w.spec.name, DType::kF32, w.spec.stored_shape(), std::as_const(w.f32).data()});
  });
  return items;
}

std::map<std::string, std::string> ModelMetadata() { return {{"format", "pt"}}; }

void SaveModel(LanguageModel& model, const std::string& directory) {
  WriteSafetensors(directory + "/model.safetensors", ModelItems(model), ModelMetadata());
  WriteFileAtomically(directory + "/config.json", ToJson(model.config()));
}

}  // namespace taipan
