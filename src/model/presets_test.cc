#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "model/config.h"
#include "model/config_validate.h"
#include "model/hf_config.h"
#include "model/parameters.h"
#include "model/presets.h"

namespace taipan {
namespace {

constexpr LayerKind kM = LayerKind::kMamba2, kS = LayerKind::kSelectiveAttention, kA = LayerKind::kAttention,
                    kW = LayerKind::kSlidingAttention;

struct Expected {
  const char* name;
  int64_t parameters;
};

// Counted from the tensor shapes by a separate program.
constexpr Expected kExpected[] = {
    {"taipan-1m", 932068},
    {"mamba2-1m", 918760},
    {"transformer-1m", 935040},
    {"jamba-1m", 931552},
    {"samba-1m", 931552},
    {"taipan-8m", 7931444},
    {"mamba2-8m", 8042920},
    {"transformer-8m", 7888960},
    {"jamba-8m", 7930160},
    {"samba-8m", 7930160},
    {"taipan-30m", 30412870},
    {"mamba2-30m", 31093600},
    {"transformer-30m", 30369280},
    {"jamba-30m", 30409792},
    {"samba-30m", 30409792},
    {"taipan-190m", 187520022},
    {"mamba2-190m", 188869056},
    {"transformer-190m", 190533888},
    {"jamba-190m", 187515408},
    {"samba-190m", 187515408},
    {"taipan-450m", 444888460},
    {"mamba2-450m", 448185856},
    {"transformer-450m", 447597568},
    {"jamba-450m", 444876160},
    {"samba-450m", 444876160},
    {"taipan-1.3b", 1291158666},
    {"mamba2-1.3b", 1296641536},
    {"transformer-1.3b", 1274628096},
    {"jamba-1.3b", 1291138176},
    {"samba-1.3b", 1291138176},
};

TEST(Presets, HaveTheStatedParameterCounts) {
  ASSERT_EQ(Presets().size(), std::size(kExpected));
  for (size_t i = 0; i < Presets().size(); ++i) {
    EXPECT_EQ(Presets()[i].name, kExpected[i].name);
    EXPECT_EQ(CountParameters(Presets()[i].config), kExpected[i].parameters) << kExpected[i].name;
  }
}

TEST(Presets, BaselinesAreWithinThreePercentOfTaipan) {
  for (const Preset& preset : Presets()) {
    const std::string size = preset.name.substr(preset.name.find('-'));
    const auto taipan = static_cast<double>(CountParameters(FindPreset("taipan" + size).config));
    const auto count = static_cast<double>(CountParameters(preset.config));
    EXPECT_LE(std::abs(count / taipan - 1), 0.03) << preset.name;
  }
}

TEST(Presets, AreValidAndSurviveTheirOwnText) {
  for (const Preset& preset : Presets()) {
    EXPECT_NO_THROW(ValidateModelConfig(preset.config, preset.name));
    EXPECT_EQ(ParseModelConfig(ToJson(preset.config), preset.name), preset.config) << preset.name;
    EXPECT_NE(preset.summary, "");
  }
}

TEST(Presets, HybridsShareTaipansShape) {
  for (const char* size : {"-1m", "-8m", "-30m", "-190m", "-450m", "-1.3b"}) {
    const ModelConfig& taipan = FindPreset(std::string("taipan") + size).config;
    EXPECT_GE(taipan.num_sals(), 2);
    EXPECT_EQ(taipan.refinement, Refinement::kResidual);
    EXPECT_EQ(taipan.selection, Selection::kThreshold);
    for (const char* name : {"jamba", "samba"}) {
      ModelConfig other = FindPreset(name + std::string(size)).config;
      EXPECT_EQ(other.rope_theta.has_value(), name == std::string("jamba"));
      for (LayerKind& kind : other.layer_pattern) kind = kind == kM ? kM : kS;
      other.rope_theta.reset();
      other.refinement = taipan.refinement;
      other.selection = taipan.selection;
      EXPECT_EQ(other, taipan) << name << size;
    }
    EXPECT_EQ(FindPreset(std::string("transformer") + size).config.rope_theta, 10000.0);
    EXPECT_FALSE(taipan.rope_theta);
  }
}

TEST(Presets, PaperSizesFollowTheTable) {
  struct Row {
    const char* name;
    int64_t d, mamba, sals, heads, ff;
  };
  for (const Row& row : {Row{"taipan-190m", 768, 18, 3, 12, 2048}, Row{"taipan-450m", 1024, 36, 6, 16, 2752},
                         Row{"taipan-1.3b", 2048, 30, 5, 32, 5504}}) {
    const ModelConfig& c = FindPreset(row.name).config;
    EXPECT_EQ(c.hidden_size, row.d);
    EXPECT_EQ(c.num_layers(), row.mamba + row.sals);
    EXPECT_EQ(c.num_sals(), row.sals);
    EXPECT_EQ(c.num_attention_heads, row.heads);
    EXPECT_EQ(c.intermediate_size, row.ff);
    EXPECT_EQ(c.vocab_size, 128256);
    EXPECT_EQ(c.layer_pattern[6], kS);  // K = 6
    EXPECT_EQ(c.layer_pattern[13], kS);
  }
}

TEST(Presets, UnknownNameSuggestsTheNearest) {
  try {
    FindPreset("taipan-130m");
    FAIL();
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr("preset taipan-130m: there is no such preset (did you mean \"taipan-"));
  }
}

TEST(MakePattern, PutsAttentionAfterEveryKBlocks) {
  EXPECT_EQ(MakePattern("taipan", 4, 2), (std::vector<LayerKind>{kM, kM, kS, kM, kM, kS}));
  EXPECT_EQ(MakePattern("jamba", 1, 1), (std::vector<LayerKind>{kM, kA}));
  EXPECT_EQ(MakePattern("samba", 2, 2), (std::vector<LayerKind>{kM, kW, kM, kW}));
  EXPECT_EQ(MakePattern("mamba2", 2, 0), (std::vector<LayerKind>{kM, kM}));
  EXPECT_EQ(MakePattern("transformer", 0, 3), (std::vector<LayerKind>{kA, kA, kA}));
}

TEST(MakePattern, RefusesImpossibleCounts) {
  EXPECT_THROW(MakePattern("taipan", 5, 2), UserError);
  EXPECT_THROW(MakePattern("taipan", 0, 2), UserError);
  EXPECT_THROW(MakePattern("taipan", 6, 0), UserError);
  EXPECT_THROW(MakePattern("mamba2", 6, 1), UserError);
  EXPECT_THROW(MakePattern("mamba2", -1, 0), UserError);
  EXPECT_THROW(MakePattern("transformer", 1, 2), UserError);
  try {
    MakePattern("tiapan", 6, 1);
    FAIL();
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr("did you mean \"taipan\"?"));
  }
}

}  // namespace
}  // namespace taipan
