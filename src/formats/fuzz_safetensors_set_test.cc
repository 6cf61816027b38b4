// Random mutations of the index of a sharded model: each is read, with every tensor found, or refused by a UserError of
// one line that begins with the folder or a file in it.

#include <gtest/gtest.h>

#include <fstream>

#include "base/files.h"
#include "base/test_folder.h"
#include "base/test_fuzz.h"
#include "formats/safetensors_set.h"

namespace taipan {
namespace {

// Something that stands between quotes, or a punctuation mark, becomes another.
void ChangeToken(std::string& text, Draws& draw) {
  static const std::vector<std::string> kTokens = {"\"a\"",
                                                   "\"b\"",
                                                   "\"model-00001-of-00002.safetensors\"",
                                                   "\"model-00003-of-00002.safetensors\"",
                                                   "\"../a\"",
                                                   "\"/etc\"",
                                                   "\"weight_map\"",
                                                   "\"metadata\"",
                                                   "\"\\u0000\"",
                                                   "\".\"",
                                                   "\"\"",
                                                   "\"" + std::string(5000, 'x') + "\"",
                                                   "[[[[",
                                                   "null",
                                                   "1e999",
                                                   "-1",
                                                   "{}",
                                                   "[]",
                                                   ":",
                                                   ",",
                                                   "\"\\ud800\"",
                                                   "\"\xff\"",
                                                   "\"model.safetensors.index.json\"",
                                                   "}"};
  const size_t begin = text.find_first_of("\"{}[]:,", draw.Below(text.size() + 1));
  if (begin == text.npos) return;
  size_t end = begin + 1;
  if (text[begin] == '"') end = std::min(text.find('"', end), text.size() - 1) + 1;
  text.replace(begin, end - begin, draw.OneOf(kTokens));
}

TEST(FuzzSafetensorsSet, MutatedIndexesAreReadOrRefused) {
  TestFolder folder;
  const std::string index_path = folder / "model.safetensors.index.json";
  const float values[4] = {1, 2, 3, 4};
  std::vector<SafetensorsItem> items;
  for (const char* name : {"a", "b", "c"}) items.push_back({name, DType::kF32, {2, 2}, values});
  WriteSafetensorsSet(folder.path(), items, 32);
  const std::string seed = ReadFile(index_path);
  ASSERT_TRUE(PathExists(folder / "model-00002-of-00002.safetensors"));
  const FuzzCounts counts = Fuzz(
      folder.path(),
      [&](Draws& draw) {
        std::string index = seed;
        for (size_t c = draw.Below(4); c > 0; --c) {
          if (draw.Below(3) == 0) {
            ChangeBytes(index, draw);
          } else {
            ChangeToken(index, draw);
          }
        }
        std::ofstream(index_path, std::ios::binary) << index;
        const SafetensorsSet set(folder.path());
        for (const std::string& name : set.Names()) {
          EXPECT_EQ(set.ReadF32(name, set.Stored(name).shape).F32()[3], 4.0f);
        }
      },
      /*usual_inputs=*/1500);
  if (counts.inputs >= 1000) {
    EXPECT_GT(counts.parsed, counts.inputs / 10);
    EXPECT_LT(counts.parsed, counts.inputs * 9 / 10);
    EXPECT_GT(static_cast<int64_t>(counts.problems.size()), counts.inputs / 50);
  }
}

}  // namespace
}  // namespace taipan
