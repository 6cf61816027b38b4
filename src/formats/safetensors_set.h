#pragma once
// The safetensors files of a model folder: model.safetensors, or shards that model.safetensors.index.json lists.

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "formats/safetensors.h"

namespace taipan {

class SafetensorsSet : public TensorSource {
 public:
  // UserError where neither form is there (with the command that converts a pytorch_model.bin), a shard is missing, the
  // index names a file outside the folder, a tensor is not in the shard that the index names or,
  // not being in the index, in two, or a shard itself is damaged.
  explicit SafetensorsSet(const std::string& folder);

  const std::vector<SafetensorsFile>& files() const { return files_; }
  const SafetensorsFile& FileOf(const std::string& name) const;  // UserError where no file has the tensor
  const SafetensorsEntry& At(const std::string& name) const { return FileOf(name).At(name); }

  const std::string& path() const override { return path_; }
  std::vector<std::string> Names() const override;
  bool Has(const std::string& name) const override { return file_of_.count(name) != 0; }
  StoredTensor Stored(const std::string& name) const override { return FileOf(name).Stored(name); }

 private:
  void OpenShards(const std::string& index_path);
  void AddTensors(size_t file, const std::function<bool(const std::string&)>& known = {});  // all but those known

  std::string path_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t> file_of_;  // tensor name -> index into files_
};

// model.safetensors where all tensors fit into `most_bytes`, else model-00001-of-0000N.safetensors (tensors in the
// order given, a larger tensor alone in its shard) and, last, the index, as transformers names and reads them.
void WriteSafetensorsSet(const std::string& folder, const std::vector<SafetensorsItem>& items, int64_t most_bytes,
                         const std::map<std::string, std::string>& metadata = {});

}  // namespace taipan
