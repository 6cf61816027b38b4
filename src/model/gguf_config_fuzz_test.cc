// Mutated GGUF models: each is read and checked, or refused with one line.

#include <gtest/gtest.h>

#include <cstring>

#include "base/test_folder.h"
#include "base/test_fuzz.h"
#include "model/checkpoint.h"
#include "model/export.h"
#include "model/gguf_config.h"
#include "model/hf_config.h"
#include "model/hf_config_test_text.h"

namespace taipan {
namespace {

// The header of a small model's file with zero weights.
std::string FileOf(const char* text) {
  const TestFolder folder;
  LanguageModel model(ParseModelConfig(text, "a"));
  model.Initialise(1, 0);
  ExportGguf(model, GgmlType::kF16, {}, folder / "x.gguf", "a");
  return ReadFile(folder / "x.gguf");
}

// Overwrites numbers of the header: lengths, types, counts, sizes and values all lie there.
std::string Mutated(std::string bytes, size_t header, Draws& draw) {
  constexpr uint64_t kNumbers[] = {0, 1, 2, 3, 4, 8, 64, 255, 65536, 0x7fffffff, 0xffffffff, uint64_t{1} << 62, ~0ull};
  for (size_t edits = 1 + draw.Below(3); edits > 0; --edits) {
    const size_t at = draw.Below(header), width = size_t{1} << draw.Below(4);
    const uint64_t number = kNumbers[draw.Below(std::size(kNumbers))];
    switch (draw.Below(4)) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << draw.Below(8)));
        break;
      case 1:
        bytes[at] = static_cast<char>(draw.Below(256));
        break;
      default:
        std::memcpy(bytes.data() + at, &number, std::min(width, bytes.size() - at));
    }
  }
  if (draw.Below(50) == 0) bytes.resize(draw.Below(bytes.size()));
  return bytes;
}

TEST(GgufModelFuzz, ReadsOrRefuses) {
  const std::vector<std::string> seeds = {FileOf(kMambaSsmText), FileOf(kHfLlamaText)};
  const FuzzCounts counts = Fuzz(
      "x.gguf: ",
      [&](Draws& draw) {
        const std::string& seed = draw.OneOf(seeds);
        const std::string bytes = Mutated(seed, std::min<size_t>(seed.size(), 4096), draw);
        auto file = std::make_unique<GgufFile>(bytes.data(), static_cast<int64_t>(bytes.size()), "x.gguf");
        const ModelConfig config = GgufModelConfig(*file);
        const auto tensors = CheckedTensors(config, Naming::kGguf, std::move(file), {});
        for (const ForeignTensor& t : ForeignTensors(config, Naming::kGguf)) ReadParameter(*tensors, t);
      },
      1000);
  EXPECT_GT(counts.parsed, counts.inputs / 50);
  EXPECT_LT(counts.parsed, counts.inputs * 19 / 20);
}

}  // namespace
}  // namespace taipan
