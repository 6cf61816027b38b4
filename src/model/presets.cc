// Named configs. One row of kSizes gives taipan and its four baselines: jamba and samba have the same blocks with other
// attention, mamba2 and transformer the depth that comes nearest to taipan's parameters at the same width. Where depth
// alone misses 3 %, mamba2's state or the transformer's SwiGLU width makes up the rest.

#include "model/presets.h"

#include <algorithm>

#include "base/error.h"
#include "model/config_validate.h"
#include "model/parameters.h"

namespace taipan {
namespace {

struct SizeRow {
  const char* name;
  const char* paper;          // the size as the paper states it, nullptr: not in the paper
  int64_t vocab_size, width;  // V, d
  int64_t state_size, head_dim, attention_head_dim, window;
  int64_t mamba_blocks, sals;
  int64_t mamba2_depth, mamba2_state_size;
  int64_t transformer_depth, transformer_intermediate_size;  // 0: the same as taipan's
};

// The paper has a SAL after every K = 6 Mamba-2 blocks. The laptop sizes (bytes, V = 256) are too shallow for that: K =
// 2 or 4 gives each at least two SALs. All sizes are multiples of 32: no vector loop has a tail.
constexpr SizeRow kSizes[] = {
    {"1m", nullptr, 256, 128, 64, 32, 32, 256, 4, 2, 7, 96, 4, 416},
    {"8m", nullptr, 256, 320, 64, 64, 64, 512, 8, 2, 12, 64, 6, 928},
    {"30m", nullptr, 256, 512, 128, 64, 64, 1024, 12, 3, 18, 128, 9, 1504},
    {"190m", "190M", 128256, 768, 128, 64, 64, 2048, 18, 3, 24, 128, 13, 0},
    {"450m", "450M", 128256, 1024, 128, 64, 64, 2048, 36, 6, 48, 128, 25, 0},
    {"1.3b", "1.3B", 128256, 2048, 128, 64, 64, 2048, 30, 5, 40, 128, 20, 0},
};

struct PatternRow {
  const char* name;
  LayerKind attention;  // the kind that takes the SAL's place
  bool has_mamba, has_attention, rope;
};
constexpr PatternRow kPatterns[] = {
    {"taipan", LayerKind::kSelectiveAttention, true, true, false}, {"mamba2", LayerKind::kMamba2, true, false, false},
    {"transformer", LayerKind::kAttention, false, true, true},     {"jamba", LayerKind::kAttention, true, true, true},
    {"samba", LayerKind::kSlidingAttention, true, true, false},
};

// 8d/3 rounded up to a multiple of 64: SwiGLU's three matrices hold what two of width 4d would.
int64_t IntermediateSize(int64_t width) { return (8 * width + 3 * 64 - 1) / (3 * 64) * 64; }

ModelConfig MakeConfig(const SizeRow& size, const PatternRow& pattern) {
  ModelConfig c;
  c.vocab_size = size.vocab_size;
  c.hidden_size = size.width;
  c.head_dim = size.head_dim;
  c.state_size = size.state_size;
  c.attention_head_dim = size.attention_head_dim;
  c.num_attention_heads = c.num_key_value_heads = size.width / size.attention_head_dim;
  c.intermediate_size = IntermediateSize(size.width);
  c.sliding_window = size.window;
  int64_t mamba_blocks = size.mamba_blocks, attention_blocks = size.sals;
  if (!pattern.has_attention) {
    mamba_blocks = size.mamba2_depth;
    attention_blocks = 0;
    c.state_size = size.mamba2_state_size;
    c.intermediate_size = 0;
  } else if (!pattern.has_mamba) {
    mamba_blocks = 0;
    attention_blocks = size.transformer_depth;
    if (size.transformer_intermediate_size > 0) c.intermediate_size = size.transformer_intermediate_size;
  }
  c.layer_pattern = MakePattern(pattern.name, mamba_blocks, attention_blocks);
  if (pattern.rope) c.rope_theta = 10000.0;
  if (c.num_sals() > 0) {  // what works on text (docs/gate.md); the paper's form is kMix with kArgmax
    c.refinement = Refinement::kResidual;
    c.selection = Selection::kThreshold;
  }
  return c;
}

std::string Millions(int64_t count) {
  const double millions = static_cast<double>(count) / 1e6;
  return fmt::format(fmt::runtime(millions < 100 ? "{:.2f}M" : "{:.1f}M"), millions);
}

std::string Summary(const ModelConfig& c, const SizeRow& size, const PatternRow& pattern) {
  std::string blocks;
  if (pattern.has_mamba) blocks = fmt::format("{} Mamba-2", CountBlocks(c, LayerKind::kMamba2));
  if (pattern.has_attention) {
    const char* kind = pattern.attention == LayerKind::kSelectiveAttention ? "selective"
                       : pattern.attention == LayerKind::kAttention        ? "full"
                                                                           : "sliding-window";
    blocks += fmt::format("{}{} {} attention", blocks.empty() ? "" : " + ", CountBlocks(c, pattern.attention), kind);
  }
  std::string text = fmt::format("{} blocks, d {}, {} parameters", blocks, c.hidden_size, Millions(CountParameters(c)));
  if (size.paper) text += fmt::format(" (the paper's {})", size.paper);
  return text;
}

std::vector<Preset> MakePresets() {
  std::vector<Preset> presets;
  for (const SizeRow& size : kSizes) {
    for (const PatternRow& pattern : kPatterns) {
      Preset preset;
      preset.name = std::string(pattern.name) + "-" + size.name;
      preset.config = MakeConfig(size, pattern);
      ValidateModelConfig(preset.config, preset.name);
      preset.summary = Summary(preset.config, size, pattern);
      presets.push_back(std::move(preset));
    }
  }
  return presets;
}

std::string DidYouMean(const std::string& name, const std::vector<std::string>& names) {
  const std::string near = NearestName(name, names);
  return near.empty() ? "" : "did you mean \"" + near + "\"?";
}

const PatternRow& FindPattern(const std::string& name) {
  std::vector<std::string> names;
  for (const PatternRow& row : kPatterns) {
    if (name == row.name) return row;
    names.push_back(row.name);
  }
  throw UserError({.where = "layer pattern",
                   .problem = "unknown name \"" + name + "\"",
                   .expected = "taipan, mamba2, transformer, jamba or samba",
                   .hint = DidYouMean(name, names)});
}

}  // namespace

std::vector<LayerKind> MakePattern(const std::string& name, int64_t mamba_blocks, int64_t attention_blocks) {
  const PatternRow& row = FindPattern(name);
  const std::string where = "layer pattern " + name;
  const std::string found = fmt::format("{} Mamba-2 and {} attention blocks", mamba_blocks, attention_blocks);
  auto wrong = [&](const char* expected) {
    return UserError({where, "impossible numbers of blocks", expected, found});
  };
  if (row.has_mamba ? mamba_blocks < 1 : mamba_blocks != 0) throw wrong(row.has_mamba ? "some Mamba-2" : "no Mamba-2");
  if (row.has_attention ? attention_blocks < 1 : attention_blocks != 0) {
    throw wrong(row.has_attention ? "some attention" : "no attention");
  }
  if (!row.has_attention) return std::vector<LayerKind>(static_cast<size_t>(mamba_blocks), LayerKind::kMamba2);
  if (mamba_blocks % attention_blocks != 0) throw wrong("a multiple of the attention blocks as Mamba-2 blocks");
  std::vector<LayerKind> pattern;
  for (int64_t i = 0; i < attention_blocks; ++i) {
    pattern.insert(pattern.end(), static_cast<size_t>(mamba_blocks / attention_blocks), LayerKind::kMamba2);
    pattern.push_back(row.attention);
  }
  return pattern;
}

const std::vector<Preset>& Presets() {
  static const std::vector<Preset> presets = MakePresets();
  return presets;
}

const Preset& FindPreset(const std::string& name) {
  std::vector<std::string> names;
  for (const Preset& preset : Presets()) {
    if (preset.name == name) return preset;
    names.push_back(preset.name);
  }
  throw UserError({.where = "preset " + name, .problem = "there is no such preset", .hint = DidYouMean(name, names)});
}

}  // namespace taipan
