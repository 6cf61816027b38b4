#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "base/test_folder.h"
#include "formats/safetensors.h"
#include "taipan/taipan.h"

namespace taipan {
namespace {

TEST(LoadOptions, IgnoreExtraLeavesOutWhatTheConfigDoesNotHave) {
  const TestFolder folder;
  const std::string path = folder.path(), weights = folder / "model.safetensors";
  const Model model = Model::FromPreset("taipan-1m", 1);
  model.Save(path);
  {
    const SafetensorsFile file(weights);
    std::vector<Tensor> tensors;
    std::vector<SafetensorsItem> items;
    for (const std::string& name : file.Names()) tensors.push_back(file.Read(name));
    for (size_t i = 0; i < tensors.size(); ++i) {
      items.push_back({file.Names()[i], tensors[i].dtype(), tensors[i].shape(), tensors[i].data()});
    }
    items.push_back({"another.weight", DType::kF32, tensors[0].shape(), tensors[0].data()});
    WriteSafetensors(weights, items);
  }
  EXPECT_THAT([&] { Model::Load(path); },
              testing::ThrowsMessage<std::runtime_error>(testing::HasSubstr("another.weight")));
  const Tokens text = model.Encode("one two three");
  const std::vector<double> read = Model::Load(path, {.ignore_extra = true}).Score(text), own = model.Score(text);
  for (size_t i = 1; i < text.size(); ++i) EXPECT_EQ(read[i], own[i]);
}

}  // namespace
}  // namespace taipan
