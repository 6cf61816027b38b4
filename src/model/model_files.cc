#include "model/model_files.h"

#include "base/files.h"
#include "formats/safetensors.h"
#include "model/checkpoint.h"

namespace taipan {
namespace {

void CopyWeights(const TensorSource& tensors, Naming naming, Model& model) {
  const std::vector<ForeignTensor> names = ForeignTensors(model.config(), naming);
  size_t next = 0;
  model.params().ForEach([&](const ParamInfo& info, Tensor& t) {
    const ForeignTensor& from = names.at(next++);
    CHECK(from.parameter == info.name);
    const Tensor read = ReadParameter(tensors, from);
    CHECK_EQ(read.size(), t.size());
    std::copy(read.F32(), read.F32() + read.size(), t.F32());
  });
}

}  // namespace

void LoadWeights(Model& model, const std::string& path, const LoadOptions& options) {
  const std::string found = ModelPathOf(path);
  const Naming naming = ReadCheckpointConfig(found).naming;
  CopyWeights(*CheckedTensors(model.config(), naming, OpenTensors(found), options), naming, model);
}

Model LoadModel(const std::string& path, const LoadOptions& options) {
  const Checkpoint checkpoint = OpenCheckpoint(path, options);
  Model model(checkpoint.config);
  CopyWeights(*checkpoint.tensors, checkpoint.naming, model);
  return model;
}

void SaveModel(Model& model, const std::string& directory) {
  std::vector<SafetensorsItem> items;
  model.params().ForEach([&](const ParamInfo& info, Tensor& t) {
    items.push_back({info.name, DType::kF32, info.file_shape.empty() ? t.shape() : info.file_shape, t.data()});
  });
  WriteSafetensors(directory + "/model.safetensors", items, {{"format", "pt"}});
  WriteFileAtomically(directory + "/config.json", ToJson(model.config()));
}

}  // namespace taipan
