// Damaged configs: each is read or refused with a UserError of one line, and what is read can be used and written.

#include <gtest/gtest.h>

#include <algorithm>

#include "base/test_fuzz.h"
#include "model/config.h"
#include "model/config_test_text.h"
#include "model/hf_config.h"
#include "model/hf_config_test_text.h"
#include "model/memory_plan.h"
#include "model/parameters.h"
#include "model/presets.h"
#include "model/rope_scaling.h"

namespace taipan {
namespace {

// Text that a JSON reader may stumble over.
const std::vector<std::string> kPieces = {
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

// Replaces the number at or after a place: the edit that most often leaves valid JSON.
void ReplaceValue(std::string& text, Draws& draw) {
  const size_t begin = text.find_first_of("0123456789", draw.Below(text.size() + 1));
  if (begin == std::string::npos) return;
  const size_t end = std::min(text.find_first_not_of("0123456789.e-+", begin), text.size());
  text.replace(begin, end - begin, draw.Below(2) == 0 ? draw.OneOf(kPieces) : std::to_string(draw.Below(130)));
}

std::string Mutated(std::string text, Draws& draw) {
  for (size_t edits = 1 + draw.Below(3); edits > 0; --edits) {
    switch (draw.Below(8)) {
      case 0:
      case 1:
        ChangeBytes(text, draw);
        break;
      case 2:
        text.insert(draw.Below(text.size() + 1), draw.OneOf(kPieces));
        break;
      default:
        ReplaceValue(text, draw);
    }
  }
  return text;
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
  const FuzzCounts counts = Fuzz("config.json: ", [&](Draws& draw) {
    const std::string text = Mutated(draw.OneOf(seeds), draw);
    SCOPED_TRACE(text);
    const ModelConfig c = ParseModelConfig(text, "config.json");
    ASSERT_EQ(ParseModelConfig(ToJson(c), "config.json"), c);
    ASSERT_GT(CountParameters(c), 0);
    if (CountBlocks(c, LayerKind::kMamba2) < c.num_layers() && c.attention_head_dim < 1000000) {
      ASSERT_EQ(RopeFrequencies(c).empty(), !c.rope_theta.has_value());
    }
    ASSERT_GT(PlanMemory(c).run.back().total_bytes(), 0);
  });
  // Both ways out are exercised.
  EXPECT_GT(counts.parsed, counts.inputs / 20);
  EXPECT_LT(counts.parsed, counts.inputs * 19 / 20);
}

}  // namespace
}  // namespace taipan
