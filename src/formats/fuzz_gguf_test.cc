// Random mutations of valid GGUF files: each must parse, with every value and every tensor readable, or be refused by a
// UserError of one line.

#include <gtest/gtest.h>

#include <cstring>

#include "base/files.h"
#include "base/test_folder.h"
#include "base/test_fuzz.h"
#include "formats/gguf.h"

namespace taipan {
namespace {

std::string Written(const GgufMetadata& metadata, const std::vector<GgufItem>& items) {
  TestFolder folder;
  WriteGguf(folder / "f", metadata, items);
  return ReadFile(folder / "f");
}

GgufItem Item(const std::string& name, GgmlType type, const std::vector<int64_t>& shape) {
  return {name, type, shape, [shape] { return Tensor(shape); }};
}

// Our writer makes few types; the reader's others get into the table by number.
std::string WithType(std::string file, const std::string& name, GgmlType type) {
  const size_t at = file.find(name) + name.size() + 4 + 8;  // one dimension
  const auto number = static_cast<uint32_t>(type);
  std::memcpy(file.data() + at, &number, sizeof number);
  return file;
}

std::vector<std::string> ValidSeeds() {
  std::vector<std::string> seeds = {Written({}, {}), Written({}, {Item("w", GgmlType::kF32, {3, 5})})};
  seeds.push_back(Written({{"general.architecture", std::string("llama")},
                           {"u8", uint8_t{1}},
                           {"f", 1.5f},
                           {"b", true},
                           {"i64", int64_t{-1}},
                           {"d", 0.1},
                           {"tokens", GgufArray{std::vector<std::string>{"a", "b", "", "\u2581the"}}},
                           {"types", GgufArray{std::vector<int32_t>{1, 1, 3, 1}}},
                           {"flags", GgufArray{std::vector<bool>{true, false}}},
                           {"scores", GgufArray{std::vector<float>{0, -1, -2, -3}}}},
                          {Item("token_embd.weight", GgmlType::kQ8_0, {4, 32}), Item("scalar", GgmlType::kF32, {}),
                           Item("half", GgmlType::kF16, {7}), Item("cube", GgmlType::kBF16, {2, 3, 4}),
                           Item("empty", GgmlType::kF32, {0, 2})}));
  for (const GgmlType type : {GgmlType::kQ4_0, GgmlType::kQ4_1, GgmlType::kQ5_0, GgmlType::kQ5_1, GgmlType::kQ2_K,
                              GgmlType::kQ3_K, GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K}) {
    seeds.push_back(WithType(Written({{"k", uint32_t{2}}}, {Item("blk.0", GgmlType::kF32, {256})}), "blk.0", type));
  }
  return seeds;
}

// Eight or four bytes anywhere become a number that is near, huge, or a plausible type or length.
void ChangeNumber(std::string& file, Draws& draw) {
  const size_t width = draw.Below(2) == 0 ? 4 : 8;
  if (file.size() < width) return;
  // Mostly in the counts, keys and table at the front, half of the time at multiples of four.
  size_t at = draw.Below(std::min<size_t>(file.size(), draw.Below(4) == 0 ? file.size() : 160) - width + 1);
  if (draw.Below(2) == 0) at -= at % 4;
  uint64_t now = 0;
  std::memcpy(&now, file.data() + at, width);
  static const std::vector<uint64_t> kOdd = {0,          1,          2,          3,          4,          8,
                                             9,          12,         13,         31,         32,         255,
                                             1u << 16,   0x7fffffff, 0x80000000, 0xffffffff, 1ull << 32, 1ull << 40,
                                             1ull << 61, 1ull << 62, ~0ull >> 1, 1ull << 63, ~0ull,      ~0ull - 31};
  switch (draw.Below(3)) {
    case 0:
      now = draw.OneOf(kOdd);
      break;
    case 1:
      now += draw.Below(17) - 8;
      break;
    default:
      now *= draw.Below(5);
  }
  std::memcpy(file.data() + at, &now, width);
}

// A stretch of the file stands a second time, or moves: keys and entries twice, tables that are too short.
void RepeatStretch(std::string& file, Draws& draw) {
  const size_t from = draw.Below(file.size() + 1), length = draw.Below(96);
  file.insert(draw.Below(file.size() + 1), file.substr(from, length));
}

std::string MutatedInput(const std::vector<std::string>& seeds, Draws& draw) {
  std::string file = draw.OneOf(seeds);
  const size_t changes = draw.Below(4);
  for (size_t c = 0; c < changes; ++c) {
    switch (draw.Below(5)) {
      case 0:
        ChangeBytes(file, draw);
        break;
      case 1:
        RepeatStretch(file, draw);
        break;
      default:
        ChangeNumber(file, draw);
    }
  }
  return file;
}

template <class F>
void OrRefused(F&& f) {
  try {
    f();
  } catch (const UserError&) {
  }
}

uint64_t TouchEverything(const GgufFile& file) {
  uint64_t sum = 0;
  for (const auto& [key, value] : file.metadata()) {
    sum += DescribeGgufValue(value).size();
    OrRefused([&] { sum += static_cast<uint64_t>(file.GetInt(key)); });
    OrRefused([&] { sum += file.GetFloat(key) > 0 ? 1 : 0; });
    OrRefused([&] { sum += file.GetBool(key) ? 1 : 0; });
    OrRefused([&] { sum += file.GetString(key).size(); });
    OrRefused([&] { sum += file.GetStrings(key).size(); });
    OrRefused([&] { sum += file.GetInts(key).size(); });
    OrRefused([&] { sum += file.GetFloats(key).size(); });
  }
  for (const auto& [name, tensor] : file.tensors()) {
    const auto* bytes = static_cast<const uint8_t*>(tensor.data);
    for (int64_t i = 0; i < tensor.bytes; ++i) sum += bytes[i];
    sum += static_cast<uint64_t>(file.ReadF32(name, tensor.shape).size());
  }
  return sum;
}

TEST(FuzzGguf, MutationsParseOrAreRefused) {
  const std::vector<std::string> seeds = ValidSeeds();
  volatile uint64_t sum = 0;
  const FuzzCounts counts = Fuzz("input", [&](Draws& draw) {
    const std::string text = MutatedInput(seeds, draw);
    const std::vector<char> exact(text.begin(), text.end());  // a heap block that ends where the file does
    const GgufFile file(exact.data(), static_cast<int64_t>(exact.size()), "input");
    sum = sum + TouchEverything(file);
  });
  if (counts.inputs >= 1000) {
    EXPECT_GT(counts.parsed, counts.inputs / 10);
    EXPECT_LT(counts.parsed, counts.inputs * 9 / 10);
    EXPECT_GT(counts.problems.size(), 100u);
  }
}

}  // namespace
}  // namespace taipan
