#include "model/model_files.h"

#include "base/files.h"
#include "formats/safetensors.h"
#include "model/checkpoint.h"

namespace taipan {
namespace {

// The same values, their dimensions read otherwise.
Tensor InShape(Tensor values, const Shape& shape) {
  values.Reshape(shape);
  return values;
}

void CopyWeights(const TensorSource& tensors, Naming naming, LanguageModel& model) {
  const std::vector<ForeignTensor> names = ForeignTensors(model.config(), naming);
  size_t next = 0;
  model.params().ForEach([&](Weight& w) {
    const ForeignTensor& from = names.at(next++);
    CHECK(from.parameter == w.spec.name);
    w.f32 = InShape(ReadParameter(tensors, from), w.spec.shape);
  });
}

}  // namespace

void LoadWeights(LanguageModel& model, const std::string& path, const LoadOptions& options) {
  const std::string found = ModelPathOf(path);
  const Naming naming = ReadCheckpointConfig(found).naming;
  CopyWeights(*CheckedTensors(model.config(), naming, OpenTensors(found), options), naming, model);
}

LanguageModel LoadModel(const std::string& path, const LoadOptions& options) {
  const Checkpoint checkpoint = OpenCheckpoint(path, options);
  LanguageModel model(checkpoint.config);
  CopyWeights(*checkpoint.tensors, checkpoint.naming, model);
  return model;
}

void SaveModel(LanguageModel& model, const std::string& directory) {
  std::vector<SafetensorsItem> items;
  model.RequireMasters("saving a model");
  model.params().ForEach([&](Weight& w) {
    items.push_back({w.spec.name, DType::kF32, w.spec.stored_shape(), w.f32.data()});
  });
  WriteSafetensors(directory + "/model.safetensors", items, {{"format", "pt"}});
  WriteFileAtomically(directory + "/config.json", ToJson(model.config()));
}

}  // namespace taipan
