#include "train/snapshot.h"

#include <cstring>

#include "base/files.h"
#include "base/parallel.h"

namespace taipan {

void TrainingSnapshot::Copy() {
  std::vector<SafetensorsItem*> items;
  for (TensorFile& file : tensors) {
    if (!file.own.empty()) continue;
    for (SafetensorsItem& item : file.items) items.push_back(&item);
  }
  copies_.resize(items.size());
  ParallelFor(static_cast<int64_t>(items.size()), [&](int64_t i) {
    SafetensorsItem& item = *items[static_cast<size_t>(i)];
    CHECK(item.data != nullptr);
    Tensor& copy = copies_[static_cast<size_t>(i)];
    copy = Tensor::Unset(item.shape, item.dtype);
    std::memcpy(copy.data(), item.data, static_cast<size_t>(copy.bytes()));
    item.data = std::as_const(copy).data();
  });
}

void TrainingSnapshot::Write(const std::string& directory) const {
  MakeDirectories(directory + "/model");
  for (const TensorFile& file : tensors) WriteSafetensors(directory + "/" + file.name, file.items, file.metadata);
  for (const auto& write : others) write(directory);
  for (const auto& [name, content] : texts) WriteFileAtomically(directory + "/" + name, content);
}

}  // namespace taipan
