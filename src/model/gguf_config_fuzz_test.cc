// Mutated GGUF models: each is read and checked, or refused with one line.

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <random>

#include "base/test_folder.h"
#include "model/checkpoint.h"
#include "model/export.h"
#include "model/gguf_config.h"
#include "model/hf_config_test_text.h"

namespace taipan {
namespace {

// The header of a small model's file with zero weights.
std::string FileOf(const char* text) {
  const TestFolder folder;
  Model model(ParseModelConfig(text, "a"));
  model.Initialise(1, 0);
  ExportGguf(model, GgmlType::kF16, {}, folder / "x.gguf", "a");
  return ReadFile(folder / "x.gguf");
}

// Overwrites numbers of the header: lengths, types, counts, sizes and values all lie there.
std::string Mutated(std::string bytes, size_t header, std::mt19937& random) {
  constexpr uint64_t kNumbers[] = {0, 1, 2, 3, 4, 8, 64, 255, 65536, 0x7fffffff, 0xffffffff, uint64_t{1} << 62, ~0ull};
  for (size_t edits = 1 + random() % 3; edits > 0; --edits) {
    const size_t at = random() % header, width = size_t{1} << random() % 4;
    const uint64_t number = kNumbers[random() % std::size(kNumbers)];
    switch (random() % 4) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
        break;
      case 1:
        bytes[at] = static_cast<char>(random());
        break;
      default:
        std::memcpy(bytes.data() + at, &number, std::min(width, bytes.size() - at));
    }
  }
  if (random() % 50 == 0) bytes.resize(random() % bytes.size());
  return bytes;
}

TEST(GgufModelFuzz, ReadsOrRefuses) {
  const char* wanted = std::getenv("TAIPAN_FUZZ_INPUTS");
  const int64_t inputs = wanted ? std::atoll(wanted) : 1000;
  std::mt19937 random(7);
  const std::string seeds[] = {FileOf(kMambaSsmText), FileOf(kHfLlamaText)};
  int64_t read = 0, refused = 0;
  for (int64_t i = 0; i < inputs; ++i) {
    const std::string& seed = seeds[random() % 2];
    const std::string bytes = Mutated(seed, std::min<size_t>(seed.size(), 4096), random);
    try {
      const GgufFile file(bytes.data(), static_cast<int64_t>(bytes.size()), "x.gguf");
      const ModelConfig config = GgufModelConfig(file);
      CheckTensors(config, Naming::kGguf, file);
      for (const ForeignTensor& t : ForeignTensors(config, Naming::kGguf)) ReadParameter(file, t);
      ++read;
    } catch (const UserError& e) {
      ++refused;
      const std::string what = e.what();
      ASSERT_EQ(what.rfind("x.gguf: ", 0), 0u) << what;
      ASSERT_EQ(what.find('\n'), std::string::npos) << what;
    }
  }
  EXPECT_GT(read, inputs / 50);
  EXPECT_GT(refused, inputs / 20);
}

}  // namespace
}  // namespace taipan
