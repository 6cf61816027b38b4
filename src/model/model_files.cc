#include "model/model_files.h"

#include <set>

#include "base/files.h"
#include "formats/safetensors.h"

namespace taipan {
namespace {

const std::vector<int64_t>& FileShape(const ParamInfo& info, const Tensor& t) {
  return info.file_shape.empty() ? t.shape() : info.file_shape;
}

}  // namespace

void LoadWeights(Model& model, const std::string& path) {
  const SafetensorsFile file(path);
  std::set<std::string> known;
  model.params().ForEach([&](const ParamInfo& info, Tensor& t) {
    known.insert(info.name);
    if (!file.Has(info.name)) {
      throw UserError(
          {path, "a tensor is missing", info.name + " " + ShapeString(FileShape(info, t)), "none of that name", ""});
    }
  });
  for (const auto& [name, entry] : file.entries()) {
    if (known.count(name) != 0) continue;
    const std::string near = NearestName(name, {known.begin(), known.end()});
    throw UserError({path, "a tensor that the config does not have", "only the model's own tensors", name,
                     near.empty() ? "" : "nearest: " + near});
  }
  model.params().ForEach([&](const ParamInfo& info, Tensor& t) {
    const Tensor read = file.ReadF32(info.name, FileShape(info, t));
    CHECK_EQ(read.size(), t.size());
    const float* from = read.F32();
    std::copy(from, from + read.size(), t.F32());
  });
}

Model LoadModel(const std::string& directory) {
  if (!IsDirectory(directory)) {
    throw UserError({directory, "not a model directory", "a folder with config.json and model.safetensors",
                     PathExists(directory) ? "a file" : "nothing of that name", ""});
  }
  Model model(LoadModelConfig(directory + "/config.json"));
  LoadWeights(model, directory + "/model.safetensors");
  return model;
}

void SaveModel(Model& model, const std::string& directory) {
  std::vector<SafetensorsItem> items;
  model.params().ForEach([&](const ParamInfo& info, Tensor& t) {
    items.push_back({info.name, DType::kF32, FileShape(info, t), t.data()});
  });
  WriteSafetensors(directory + "/model.safetensors", items, {{"format", "pt"}});
  WriteFileAtomically(directory + "/config.json", ToJson(model.config()));
}

}  // namespace taipan
