#include "model/model_files.h"

#include <utility>

#include "base/files.h"
#include "formats/safetensors.h"
#include "model/config_validate.h"

namespace taipan {
namespace {

// Binds what is only read. Products share one block of memory: large blocks have huge pages, which a mapped file has
// not (reading it takes 1 to 2 % more time), and one has no end of a page to waste for each weight.
class Binder {
 public:
  Binder(const TensorSource& tensors, Binding binding, LanguageModel& model)
      : tensors_(tensors),
        binding_(binding),
        dtype_(binding == Binding::kBF16 ? DType::kBF16 : DType::kF32),
        model_(model) {}

  void Count(const ForeignTensor& from, const Weight& w) {
    if (IsInBlock(from, w)) bytes_ += Rounded(static_cast<int64_t>(w.spec.count()) * SizeOf(dtype_));
  }

  void Bind(const ForeignTensor& from, Weight& w) {
    if (block_.empty()) block_ = Tensor::Unset({bytes_}, DType::kU8);
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

  Tensor View(const ForeignTensor& from) const {
    if (binding_ != Binding::kView || from.layout != Layout::kSame) return {};
    return tensors_.View(from.name, from.shape, from.part(), dtype_);
  }
  // An embedding that is stored as something else than what products read is looked up in the file.
  bool HasRows(const ForeignTensor& from, const Weight& w) const {
    return dtype_ == DType::kBF16 && &w == &model_.params().embedding &&
           tensors_.Stored(from.name).dtype != DType::kBF16;
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
  if (binding == Binding::kBF16) model.SetDType(DType::kBF16);
  return model;
}

LanguageModel LoadModel(const std::string& path, Binding binding) { return LoadModel(OpenCheckpoint(path), binding); }

void SaveModel(LanguageModel& model, const std::string& directory) {
  std::vector<SafetensorsItem> items;
  model.RequireF32("saving a model");
  model.params().ForEach([&](Weight& w) {
    items.push_back({w.spec.name, DType::kF32, w.spec.stored_shape(), std::as_const(w.f32).data()});
  });
  WriteSafetensors(directory + "/model.safetensors", items, {{"format", "pt"}});
  WriteFileAtomically(directory + "/config.json", ToJson(model.config()));
}

}  // namespace taipan
