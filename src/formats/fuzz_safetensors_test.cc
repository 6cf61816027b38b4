// Random mutations of valid safetensors files: each must parse, with every byte of every tensor readable, or be refused
// by a UserError of one line.

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <set>

#include "base/files.h"
#include "base/test_folder.h"
#include "base/test_fuzz.h"
#include "formats/safetensors.h"

namespace taipan {
namespace {

struct Parts {
  std::string header, data;
};

std::string Join(const Parts& parts) {
  const uint64_t length = parts.header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + parts.header + parts.data;
}

Parts Split(const std::string& file) {
  uint64_t length;
  std::memcpy(&length, file.data(), sizeof length);
  return {file.substr(8, length), file.substr(8 + length)};
}

std::vector<Parts> ValidSeeds() {
  std::vector<Parts> seeds = {{"{}", ""}, {R"({"__metadata__":{"format":"pt"}})", ""}};
  const std::vector<char> bytes(4096, 'x');
  const auto written = [&](const std::vector<SafetensorsItem>& items) {
    TestFolder folder;
    WriteSafetensors(folder / "f", items, {{"format", "pt"}, {"by", "a test"}});
    seeds.push_back(Split(ReadFile(folder / "f")));
  };
  written({{"w", DType::kF32, {3, 5}, bytes.data()}});
  written({{"a.weight", DType::kF32, {4, 2}, bytes.data()},
           {"a.bias", DType::kF64, {4}, bytes.data()},
           {"b", DType::kBF16, {2, 1, 3}, bytes.data()},
           {"empty", DType::kI64, {0, 7}, bytes.data()},
           {"scalar", DType::kF16, {}, bytes.data()},
           {"u", DType::kU8, {9}, bytes.data()}});
  std::vector<SafetensorsItem> all;
  for (int t = 0; t <= static_cast<int>(DType::kBool); ++t) {
    all.push_back({"model.layers." + std::to_string(t) + ".x", static_cast<DType>(t), {2, t + 1}, bytes.data()});
  }
  written(all);
  return seeds;
}

// A run of digits becomes another number: lengths, offsets and sizes that are near, huge, negative or not integers.
void ChangeNumber(std::string& header, Draws& draw) {
  std::vector<std::pair<size_t, size_t>> runs;
  for (size_t i = 0; i < header.size(); ++i) {
    size_t end = i;
    while (end < header.size() && std::isdigit(static_cast<unsigned char>(header[end]))) ++end;
    if (end > i) runs.emplace_back(i, end - i);
    i = std::max(i, end);
  }
  if (runs.empty()) return;
  const auto [at, length] = draw.OneOf(runs);
  const long long now = std::atoll(header.substr(at, std::min<size_t>(length, 18)).c_str());
  static const std::vector<std::string> kOdd = {"-1",
                                                "1.5",
                                                "1e3",
                                                "1e400",
                                                "-0",
                                                "00",
                                                "null",
                                                "true",
                                                "\"4\"",
                                                "[]",
                                                "{}",
                                                "2147483648",
                                                "4294967295",
                                                "4294967296",
                                                "4611686018427387904",
                                                "9223372036854775807",
                                                "9223372036854775808",
                                                "18446744073709551615",
                                                "18446744073709551616",
                                                "340282366920938463463374607431768211456"};
  std::string other;
  switch (draw.Below(4)) {
    case 0:
      other = draw.OneOf(kOdd);
      break;
    case 1:
      other = std::to_string(now + static_cast<long long>(draw.Below(17)) - 8);
      break;
    case 2:
      other = std::to_string(now * static_cast<long long>(draw.Below(5)));
      break;
    default: {
      const auto [from, size] = draw.OneOf(runs);  // a number from elsewhere
      other = header.substr(from, size);
    }
  }
  header.replace(at, length, other);
}

// A string or another token of the header becomes another one.
void ChangeToken(std::string& header, Draws& draw) {
  static const std::vector<std::string> kTokens = {"\"F32\"",
                                                   "\"F64\"",
                                                   "\"BF16\"",
                                                   "\"F16\"",
                                                   "\"I64\"",
                                                   "\"I32\"",
                                                   "\"U32\"",
                                                   "\"U8\"",
                                                   "\"BOOL\"",
                                                   "\"F8_E4M3\"",
                                                   "\"\"",
                                                   "\"dtype\"",
                                                   "\"shape\"",
                                                   "\"data_offsets\"",
                                                   "\"__metadata__\"",
                                                   "\"w\"",
                                                   "\"a.bias\"",
                                                   "\"\\ud800\"",
                                                   "\"\\u0000\"",
                                                   "[",
                                                   "]",
                                                   "{",
                                                   "}",
                                                   ",",
                                                   ":",
                                                   "[1]",
                                                   "[0]",
                                                   "[]",
                                                   "{}",
                                                   "1",
                                                   "null",
                                                   std::string(1, '\0'),
                                                   "\xff",
                                                   "\"\xc3\x28\""};
  std::vector<std::pair<size_t, size_t>> tokens;
  for (size_t i = 0; i < header.size(); ++i) {
    if (std::strchr("[]{},:", header[i]) != nullptr && header[i] != 0) tokens.emplace_back(i, 1);
    if (header[i] != '"') continue;
    const size_t end = header.find('"', i + 1);
    if (end == header.npos) break;
    tokens.emplace_back(i, end + 1 - i);
    i = end;
  }
  if (tokens.empty()) return;
  const auto [at, length] = draw.OneOf(tokens);
  if (draw.Below(2) == 0) {
    header.replace(at, length, draw.OneOf(kTokens));
  } else {
    const auto [from, size] = draw.OneOf(tokens);
    header.replace(at, length, header.substr(from, size));
  }
}

// A shape gains, or any array or object repeats, an element; or one is nested many times.
void ChangeStructure(std::string& header, Draws& draw) {
  const size_t at = header.find_first_of("[{", draw.Below(header.size() + 1));
  if (at == header.npos) return;
  switch (draw.Below(4)) {
    case 0:
      header.insert(at + 1, draw.OneOf<std::string>({"1,", "0,", "2,", "4294967296,", "\"x\":1,", "-1,"}));
      break;
    case 1:
      header.insert(at, std::string(1 + draw.Below(3000), header[at]));
      break;
    case 2: {
      const size_t end = header.find('}', at);  // NAME: {...} a second time, mostly a duplicate name
      if (end != header.npos) header.insert(end + 1, "," + header.substr(1, end));
      break;
    }
    default:
      header.append(draw.Below(64), draw.Below(4) == 0 ? '\0' : ' ');
  }
}

std::string MutatedInput(const std::vector<Parts>& seeds, Draws& draw) {
  Parts parts = draw.OneOf(seeds);
  if (draw.Below(16) == 0) parts.data = draw.OneOf(seeds).data;
  const size_t changes = draw.Below(4);
  for (size_t c = 0; c < changes; ++c) {
    switch (draw.Below(6)) {
      case 0:
      case 1:
        ChangeNumber(parts.header, draw);
        break;
      case 2:
        ChangeToken(parts.header, draw);
        break;
      case 3:
        ChangeStructure(parts.header, draw);
        break;
      case 4:
        ChangeBytes(parts.header, draw);
        break;
      default:
        ChangeBytes(parts.data, draw);
    }
  }
  std::string file = Join(parts);
  if (draw.Below(4) == 0) ChangeBytes(file, draw);
  if (draw.Below(16) == 0) file[draw.Below(8)] = static_cast<char>(draw.Below(256));
  return file;
}

uint64_t TouchEverything(const SafetensorsFile& file) {
  uint64_t sum = 0;
  for (const auto& [name, entry] : file.entries()) {
    const auto* bytes = static_cast<const uint8_t*>(entry.data);
    for (int64_t i = 0; i < entry.bytes; ++i) sum += bytes[i];
    EXPECT_EQ(file.Read(name).bytes(), entry.bytes);
    const std::set<DType> floats = {DType::kF32, DType::kF64, DType::kBF16, DType::kF16};
    if (floats.count(entry.dtype) != 0) sum += static_cast<uint64_t>(file.ReadF32(name, entry.shape).size());
  }
  return sum;
}

TEST(FuzzSafetensors, MutationsParseOrAreRefused) {
  const std::vector<Parts> seeds = ValidSeeds();
  volatile uint64_t sum = 0;
  const FuzzCounts counts = Fuzz("input", [&](Draws& draw) {
    const std::string text = MutatedInput(seeds, draw);
    const std::vector<char> exact(text.begin(), text.end());  // a heap block that ends where the file does
    const SafetensorsFile file(exact.data(), static_cast<int64_t>(exact.size()), "input");
    sum = sum + TouchEverything(file);
  });
  // The mutations are neither all harmless nor all fatal at the first byte.
  if (counts.inputs >= 1000) {
    EXPECT_GT(counts.parsed, counts.inputs / 10);
    EXPECT_LT(counts.parsed, counts.inputs * 9 / 10);
    EXPECT_GT(counts.problems.size(), 100u);
  }
}

}  // namespace
}  // namespace taipan
