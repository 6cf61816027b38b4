#pragma once
// What a checkpoint holds of training, so that it can be written while training goes on.

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "formats/safetensors.h"

namespace taipan {

struct TrainingSnapshot {
  struct TensorFile {
    std::string name;  // in the checkpoint's folder
    std::vector<SafetensorsItem> items;
    std::map<std::string, std::string> metadata = {};
    std::vector<Tensor> own = {};  // what its items point to, where nobody else needs it
  };
  std::vector<TensorFile> tensors;
  // Write other files into the folder, of which they hold the content.
  std::vector<std::function<void(const std::string& directory)>> others;
  std::vector<std::pair<std::string, std::string>> texts;  // name and content, written behind the tensors

  // Replaces what the items point to by copies, but for what is the snapshot's own.
  void Copy();
  // Into an existing folder.
  void Write(const std::string& directory) const;

 private:
  std::vector<Tensor> copies_;
};

}  // namespace taipan
