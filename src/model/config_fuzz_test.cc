// Damaged configs: each is read or refused with a UserError of one line, and what is read can be used and written.
// TAIPAN_FUZZ_INPUTS sets how many (default 5000).

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "base/error.h"
#include "model/config.h"
#include "model/config_test_text.h"
#include "model/hf_config_test_text.h"
#include "model/memory_plan.h"

namespace taipan {
namespace {

// Text that a JSON reader may stumble over.
const char* const kPieces[] = {
    "0",
    "-1",
    "1",
    "3",
    "97",
    "256.0",
    "1e5",
    "1e999",
    "-0.0",
    "5e-324",
    "2147483647",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "99999999999999999999",
    "NaN",
    "Infinity",
    "null",
    "true",
    "false",
    "\"\"",
    "\"mamba2\"",
    "\"selective_attention\"",
    "\"attention\"",
    "\"sliding_attention\"",
    "\"all\"",
    "[]",
    "[0.0, null]",
    "{}",
    "{\"__float__\": \"Infinity\"}",
    "[[[[",
    "{\"a\":",
    "]",
    "}",
    ",",
    ":",
    "\"",
    "\\u0000",
    "\\ud800",
    "\xff",
    "\xef\xbb\xbf",
    "\"hidden_size\": 1,",
    "\"n_groups\": 1,",
    "\"selection_threshold\": [0.5, 1],",
};

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  std::string Mutate(std::string text) {
    for (size_t edits = 1 + Below(3); edits > 0; --edits) Edit(text);
    return text;
  }
  size_t Below(size_t n) { return random_() % n; }

 private:
  void Edit(std::string& text) {
    const size_t at = Below(text.size() + 1);
    const size_t length = std::min<size_t>(text.size() - at, Below(30));
    switch (Below(10)) {
      case 0:
        text.insert(at, 1, static_cast<char>(Below(256)));
        break;
      case 1:
        text.erase(at, 1 + Below(3));
        break;
      case 2:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << Below(8)));
        break;
      case 3:
        text.erase(at, length);
        break;
      case 4:
        text.insert(at, text.substr(Below(text.size() + 1), length));
        break;
      case 5:
        text.insert(at, Piece());
        break;
      case 6:
        if (Below(8) == 0) text.resize(at);
        break;
      default:
        ReplaceValue(text, at);
    }
  }

  // Replaces the number or word at or after `at`: the edit that most often leaves valid JSON.
  void ReplaceValue(std::string& text, size_t at) {
    const size_t begin = text.find_first_of("0123456789", at);
    if (begin == std::string::npos) return;
    const size_t end = std::min(text.find_first_not_of("0123456789.e-+", begin), text.size());
    text.replace(begin, end - begin, Below(2) ? Piece() : std::to_string(Below(130)));
  }

  std::string Piece() { return kPieces[Below(std::size(kPieces))]; }

  std::mt19937 random_;
};

int64_t InputsWanted() {
  const char* wanted = std::getenv("TAIPAN_FUZZ_INPUTS");
  return wanted ? std::atoll(wanted) : 5000;
}

TEST(ConfigFuzz, ReadsOrRefuses) {
  std::vector<std::string> seeds = {kTaipanText, kMamba2Text};
  for (const char* text : {kHfMamba2Text, kHfLlamaText, kHfBambaText, kMambaSsmText}) seeds.push_back(text);
  ModelConfig scaled = FindPreset("jamba-1m").config;
  scaled.rope_scaling = RopeScaling{RopeScaling::Type::kLlama3, 8, 1, 4, 512};
  scaled.partial_rotary_factor = 0.5;
  seeds.push_back(ToJson(scaled));
  for (const char* name : {"taipan-1m", "transformer-1m", "jamba-8m", "samba-1m"}) {
    seeds.push_back(ToJson(FindPreset(name).config));
  }
  Mutator mutator(12345);
  int64_t read = 0, refused = 0;
  for (int64_t i = 0; i < InputsWanted(); ++i) {
    const std::string text = mutator.Mutate(seeds[mutator.Below(seeds.size())]);
    SCOPED_TRACE(text);
    try {
      const ModelConfig c = ParseModelConfig(text, "config.json");
      ++read;
      ASSERT_EQ(ParseModelConfig(ToJson(c), "config.json"), c);
      ASSERT_GT(CountParameters(c), 0);
      if (CountAttentionBlocks(c) > 0 && c.attention_head_dim < 1000000) {
        ASSERT_EQ(RopeFrequencies(c).empty(), !c.rope_theta.has_value());
      }
      ASSERT_GT(PlanMemory(c).run.back().total_bytes(), 0);
    } catch (const UserError& e) {
      ++refused;
      const std::string what = e.what();
      ASSERT_EQ(what.rfind("config.json: ", 0), 0u) << what;
      ASSERT_EQ(what.find('\n'), std::string::npos) << what;
      ASSERT_LT(what.size(), 1000u) << what;
    }
  }
  // Both ways out are exercised.
  EXPECT_GT(read, InputsWanted() / 20);
  EXPECT_GT(refused, InputsWanted() / 20);
}

}  // namespace
}  // namespace taipan
