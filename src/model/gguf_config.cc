#include "model/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/error.h"
#include "kernels/rope.h"
#include "model/config_validate.h"
#include "model/hf_fields.h"
#include "model/rope_scaling.h"

namespace taipan {
namespace {

constexpr int64_t kMostBlocks = 1 << 16;
constexpr int64_t kAnyContext = int64_t{1} << 20;  // where the config does not say; what llama.cpp's converter writes

// Floats of a file are 32 bits wide: the decimal that was meant, 1e-05 instead of 9.99999974e-06.
double Decimal(double value) {
  const float narrow = static_cast<float>(value);
  return static_cast<double>(narrow) == value ? std::strtod(fmt::format("{}", narrow).c_str(), nullptr) : value;
}

class Reader {
 public:
  explicit Reader(const GgufFile& file) : file_(file), arch_(file.GetString("general.architecture")) {}

  ModelConfig Read() {
    const Architecture& architecture = Find();
    c_.hidden_size = Size("embedding_length");
    c_.vocab_size = VocabSize();
    // One of the two stored is both.
    c_.tie_word_embeddings = !file_.Has("output.weight") || !file_.Has("token_embd.weight");
    std::string epsilon = Key("attention.layer_norm_rms_epsilon");
    if (arch_ == "nemotron_h" && !file_.HasKey(epsilon)) epsilon = Key("attention.layer_norm_epsilon");
    c_.rms_norm_eps = Decimal(file_.GetFloat(epsilon));
    if (file_.HasKey(Key("context_length"))) c_.max_position_embeddings = Size("context_length");
    c_.bos_token_id = TokenId("tokenizer.ggml.bos_token_id");
    c_.eos_token_id = TokenId("tokenizer.ggml.eos_token_id");
    CheckRange(file_.path(), Key("block_count"), Size("block_count"), Between(1, kMostBlocks));
    c_.layer_pattern.assign(static_cast<size_t>(Size("block_count")), architecture.kind);
    (this->*architecture.read)();
    ValidateModelConfig(c_, file_.path());
    if (c_.rope_theta) ReadDivisors();
    return c_;
  }

 private:
  struct Architecture {
    const char* name;
    LayerKind kind;  // of every layer, or of those that its reader leaves so
    void (Reader::*read)();
  };
  const Architecture& Find() const {
    static constexpr Architecture kKnown[] = {{"llama", LayerKind::kAttention, &Reader::ReadLlama},
                                              {"mamba2", LayerKind::kMamba2, &Reader::ReadMamba2},
                                              {"granite", LayerKind::kAttention, &Reader::ReadGranite},
                                              {"granitehybrid", LayerKind::kMamba2Mlp, &Reader::ReadGraniteHybrid},
                                              {"nemotron_h", LayerKind::kMamba2, &Reader::ReadNemotronH},
                                              {"falcon-h1", LayerKind::kMamba2Attention, &Reader::ReadFalconH1}};
    std::string names;
    for (const Architecture& known : kKnown) {
      if (arch_ == known.name) return known;
      names += std::string(names.empty() ? "" : ", ") + known.name;
    }
    throw UserError({file_.path(), "this architecture is not supported", names, Quoted(arch_)});
  }

  std::string Key(const std::string& name) const { return arch_ + "." + name; }
  static std::string Quoted(const std::string& text) { return DescribeJson(Json(text)); }

  int64_t Checked(const std::string& name, int64_t value) const {
    CheckRange(file_.path(), Key(name), value, Between(1, 2147483647));
    return value;
  }
  int64_t Size(const std::string& name) const { return Checked(name, file_.GetInt(Key(name))); }
  int64_t Size(const std::string& name, int64_t otherwise) const {
    return Checked(name, file_.GetInt(Key(name), otherwise));
  }

  int64_t VocabSize() const {
    const bool head_alone = !file_.Has("token_embd.weight") && file_.Has("output.weight");
    const std::vector<int64_t> shape = file_.At(head_alone ? "output.weight" : "token_embd.weight").shape;
    return shape.size() == 2 ? shape[0] : Size("vocab_size");
  }

  std::optional<int64_t> TokenId(const char* key) const {
    if (!file_.HasKey(key)) return std::nullopt;
    const int64_t id = file_.GetInt(key);
    return id == -1 || id == 0xFFFFFFFF ? std::nullopt : std::optional(id);  // how some say "none"
  }

  void Refuse(bool wrong, const std::string& name, const std::string& expected, const std::string& found) const {
    if (wrong) throw UserError({file_.path(), Key(name) + " is not supported", expected, found});
  }

  // A number of each layer; one number stands for all.
  std::vector<int64_t> OfLayers(const std::string& name) const {
    const auto value = file_.metadata().find(Key(name));
    if (value == file_.metadata().end() || !std::holds_alternative<GgufArray>(value->second)) {
      return std::vector<int64_t>(c_.layer_pattern.size(), file_.GetInt(Key(name)));
    }
    const std::vector<int64_t> numbers = file_.GetInts(Key(name));
    if (numbers.size() == c_.layer_pattern.size()) return numbers;
    throw UserError({file_.path(), Key(name) + " has another length than block_count",
                     std::to_string(c_.layer_pattern.size()), std::to_string(numbers.size())});
  }
  // The one number of those layers that have it (others say 0); 1 where none has.
  int64_t OneOfLayers(const std::string& name) const {
    int64_t one = 0;
    for (const int64_t number : OfLayers(name)) {
      if (number == 0 || number == one) continue;
      Refuse(one != 0, name, std::to_string(one) + " in every layer", std::to_string(number));
      one = number;
    }
    return Checked(name, std::max<int64_t>(one, 1));
  }

  void ReadLlama() {
    c_.intermediate_size = Size("feed_forward_length");
    ReadAttention();
    ReadRope();
  }

  void ReadAttention() {
    const int64_t experts = file_.GetInt(Key("expert_count"), 0);
    Refuse(experts != 0, "expert_count", "0: no mixture of experts", std::to_string(experts));
    c_.num_attention_heads = Size("attention.head_count");
    const bool grouped = file_.HasKey(Key("attention.head_count_kv"));
    c_.num_key_value_heads = grouped ? OneOfLayers("attention.head_count_kv") : c_.num_attention_heads;
    const int64_t head = Size("attention.key_length", std::max<int64_t>(c_.hidden_size / c_.num_attention_heads, 1));
    const int64_t value = Size("attention.value_length", head);
    Refuse(value != head, "attention.value_length", std::to_string(head), std::to_string(value));
    c_.attention_head_dim = head;
  }

  void ReadRope() {
    const int64_t head = c_.attention_head_dim, rotary = Size("rope.dimension_count", head);
    Refuse(rotary != head, "rope.dimension_count", std::to_string(head), std::to_string(rotary));
    c_.rope_theta = Decimal(file_.GetFloat(Key("rope.freq_base"), 10000.0));
    const std::string scaling = file_.GetString(Key("rope.scaling.type"), "none");
    const double factor =
        Decimal(file_.GetFloat(Key("rope.scaling.factor"), file_.GetFloat(Key("rope.scale_linear"), 1.0)));
    Refuse(scaling != "none" && scaling != "linear", "rope.scaling.type", "none or linear", Quoted(scaling));
    const bool linear = scaling == "linear" || !file_.HasKey(Key("rope.scaling.type"));
    if (linear && factor != 1) c_.rope_scaling = RopeScaling{.factor = factor};
  }

  void ReadMamba2() {
    const int64_t inner = Size("ssm.inner_size"), heads = Size("ssm.time_step_rank");
    if (inner % c_.hidden_size != 0 || inner % heads != 0) {
      throw UserError({file_.path(), Key("ssm.inner_size") + " does not fit the other sizes",
                       fmt::format("a multiple of {} and {}", c_.hidden_size, heads), std::to_string(inner)});
    }
    ReadHeads();
  }

  // SSM heads whose width need not be a multiple of the stream's.
  void ReadHeads() {
    const int64_t inner = Size("ssm.inner_size"), heads = Size("ssm.time_step_rank");
    if (inner % heads != 0) {
      throw UserError({file_.path(), Key("ssm.inner_size") + " does not fit the other sizes",
                       fmt::format("a multiple of {}", heads), std::to_string(inner)});
    }
    SetInner(heads, inner / heads, c_);
    c_.state_size = Size("ssm.state_size");
    c_.n_groups = Size("ssm.group_count");
    c_.conv_kernel = Size("ssm.conv_kernel");
    c_.chunk_size = 256;
  }

  double Multiplier(const std::string& name) const {
    const double value = Decimal(file_.GetFloat(Key(name), 0.0));
    return value == 0 ? 1 : value;  // as llama.cpp takes it
  }

  void ReadScales() {
    c_.embedding_multiplier = Multiplier("embedding_scale");
    c_.logits_scaling = Multiplier("logit_scale");
    c_.ssm_out_multiplier = c_.attention_out_multiplier = c_.mlp_out_multiplier = Multiplier("residual_scale");
    const double scores = Decimal(file_.GetFloat(Key("attention.scale"), 0.0));
    if (scores != 0) c_.attention_multiplier = scores;
    if (file_.GetBool(Key("rope.scaling.finetuned"), true)) ReadRope();  // how llama.cpp says that there is one
  }

  void ReadGranite() {
    c_.intermediate_size = Size("feed_forward_length");
    ReadAttention();
    ReadScales();
  }

  // Layers without key heads are Mamba-2.
  void ReadGraniteHybrid() {
    ReadHeads();
    ReadGranite();
    const std::vector<int64_t> heads = OfLayers("attention.head_count_kv");
    for (size_t i = 0; i < heads.size(); ++i) {
      if (heads[i] != 0) c_.layer_pattern[i] = LayerKind::kAttention;
    }
  }

  // Layers with key heads are attention, others with a feed-forward length MLPs, the rest Mamba-2.
  void ReadNemotronH() {
    ReadHeads();
    ReadAttention();
    const std::vector<int64_t> heads = OfLayers("attention.head_count_kv"), widths = OfLayers("feed_forward_length");
    c_.intermediate_size = OneOfLayers("feed_forward_length");
    for (size_t i = 0; i < heads.size(); ++i) {
      c_.layer_pattern[i] = widths[i] != 0  ? LayerKind::kRelu2Mlp
                            : heads[i] != 0 ? LayerKind::kAttentionOnly
                                            : LayerKind::kMamba2;
    }
  }

  // Its multipliers are in the weights.
  void ReadFalconH1() {
    ReadHeads();
    ReadLlama();
    c_.gated_norm = file_.Has("blk.0.ssm_norm.weight") ? GatedNorm::kGateFirst : GatedNorm::kNone;
  }

  // llama.cpp keeps what llama3 scaling does, not its parameters.
  void ReadDivisors() {
    if (!file_.Has(kRopeDivisorsName)) return;
    const Tensor read = file_.ReadF32(kRopeDivisorsName, {c_.rotary_dim() / 2});
    const std::vector<float> found(read.F32(), read.F32() + read.size());
    const float factor = *std::max_element(found.begin(), found.end());
    if (factor == 1) return;
    if (factor > 1 && !c_.rope_scaling) {
      for (const RopeScaling& guess : Guesses(found, Decimal(static_cast<double>(factor)))) {
        ModelConfig tried = c_;
        tried.rope_scaling = guess;
        if (!Fits(RopeFrequencyDivisors(tried), found)) continue;
        c_ = tried;
        return ValidateModelConfig(c_, file_.path());
      }
    }
    throw UserError({file_.path(), std::string("tensor \"") + kRopeDivisorsName + "\" is not supported",
                     "frequency divisors of llama3 scaling", "others"});
  }

  static bool Fits(const std::vector<double>& divisors, const std::vector<float>& found) {
    for (size_t j = 0; j < found.size(); ++j) {
      if (!(std::abs(divisors[j] - static_cast<double>(found[j])) <= 1e-4 * divisors[j])) return false;
    }
    return true;
  }

  // The published parameters, and those that two divisors between 1 and the factor determine: low_freq_factor may be
  // taken as 1, because the other two scale with it.
  std::vector<RopeScaling> Guesses(const std::vector<float>& found, double factor) const {
    std::vector<RopeScaling> guesses;
    const RopeScaling published{RopeScaling::Type::kLlama3, factor, 1, 4, 8192};
    for (const int64_t original : {file_.GetInt(Key("rope.scaling.original_context_length"), 8192), int64_t{8192}}) {
      guesses.push_back(published);
      guesses.back().original_max_position_embeddings = std::clamp<int64_t>(original, 1, 2147483647);
    }
    const std::vector<double> frequencies = RopeInverseFrequencies(*c_.rope_theta, c_.rotary_dim());
    std::vector<std::pair<double, double>> points;  // waves a token, share of the unscaled frequency
    for (size_t j = 0; j < found.size(); ++j) {
      const double share = (1 / static_cast<double>(found[j]) - 1 / factor) / (1 - 1 / factor);
      if (share > 1e-3 && share < 1 - 1e-3) points.emplace_back(frequencies[j] / (2 * std::numbers::pi), share);
    }
    if (points.size() < 2) return guesses;
    const auto [x0, t0] = points.front();
    const auto [x1, t1] = points.back();
    const double slope = (t1 - t0) / (x1 - x0), below = slope * x0 - t0;  // original / (high - low), low / (high - low)
    if (slope > 0 && below > 0 && slope / below < 2147483647) {
      guesses.push_back(
          {RopeScaling::Type::kLlama3, factor, 1, 1 + 1 / below, std::max<int64_t>(1, std::llround(slope / below))});
    }
    return guesses;
  }

  const GgufFile& file_;
  const std::string arch_;
  ModelConfig c_;
};

[[noreturn]] void GgufCannotSay(const std::string& where, const std::string& what, const std::string& expected,
                                const std::string& found) {
  throw UserError({where, "GGUF cannot hold this model: " + what, expected, found});
}

void AddLlama(const ModelConfig& c, const std::function<void(const std::string&, GgufValue)>& set,
              const std::string& where) {
  if (!c.rope_theta) GgufCannotSay(where, "llama.cpp's llama always rotates", "rope_theta", "null");
  if (c.partial_rotary_factor != 1) {
    GgufCannotSay(where, "llama.cpp's llama rotates whole heads", "partial_rotary_factor 1",
                  ShortestDouble(c.partial_rotary_factor));
  }
  const auto count = [](int64_t n) { return GgufValue(static_cast<uint32_t>(n)); };
  set("context_length", count(c.max_position_embeddings.value_or(kAnyContext)));
  set("feed_forward_length", count(c.intermediate_size));
  set("attention.head_count", count(c.num_attention_heads));
  set("attention.head_count_kv", count(c.num_key_value_heads));
  set("attention.key_length", count(c.attention_head_dim));
  set("attention.value_length", count(c.attention_head_dim));
  set("rope.dimension_count", count(c.attention_head_dim));
  set("rope.freq_base", static_cast<float>(*c.rope_theta));
  if (!c.rope_scaling) return;
  if (c.rope_scaling->type == RopeScaling::Type::kLinear) {
    set("rope.scaling.type", std::string("linear"));
    set("rope.scaling.factor", static_cast<float>(c.rope_scaling->factor));
  } else {
    set("rope.scaling.original_context_length", count(c.rope_scaling->original_max_position_embeddings));
  }
}

void AddMamba2(const ModelConfig& c, const std::function<void(const std::string&, GgufValue)>& set,
               const std::string& where) {
  if (c.time_step_limit != std::array{0.0, std::numeric_limits<double>::infinity()}) {
    GgufCannotSay(where, "llama.cpp does not limit time steps", "time_step_limit [0, null]",
                  fmt::format("[{}, {}]", ShortestDouble(c.time_step_limit[0]), c.time_step_limit[1]));
  }
  const auto count = [](int64_t n) { return GgufValue(static_cast<uint32_t>(n)); };
  set("context_length", count(c.max_position_embeddings.value_or(kAnyContext)));
  set("feed_forward_length", count(0));  // llama.cpp asks for both
  set("attention.head_count", count(0));
  set("ssm.conv_kernel", count(c.conv_kernel));
  set("ssm.inner_size", count(c.d_inner()));
  set("ssm.state_size", count(c.state_size));
  set("ssm.time_step_rank", count(c.ssm_heads()));
  set("ssm.group_count", count(c.n_groups));
}

}  // namespace

ModelConfig GgufModelConfig(const GgufFile& file) { return Reader(file).Read(); }

GgufMetadata ModelMetadata(const ModelConfig& c, const std::string& where) {
  const bool llama = CountBlocks(c, LayerKind::kAttention) == c.num_layers();
  if (!llama && CountBlocks(c, LayerKind::kMamba2) != c.num_layers()) {
    GgufCannotSay(where, "llama.cpp has no such architecture", "only attention blocks or only mamba2 blocks",
                  "another layer_pattern");
  }
  const std::string arch = llama ? "llama" : "mamba2";
  GgufMetadata metadata = {{"general.architecture", arch}};
  const auto set = [&](const std::string& key, GgufValue value) { metadata[arch + "." + key] = std::move(value); };
  set("vocab_size", static_cast<uint32_t>(c.vocab_size));
  set("embedding_length", static_cast<uint32_t>(c.hidden_size));
  set("block_count", static_cast<uint32_t>(c.num_layers()));
  set("attention.layer_norm_rms_epsilon", static_cast<float>(c.rms_norm_eps));
  llama ? AddLlama(c, set, where) : AddMamba2(c, set, where);
  return metadata;
}

}  // namespace taipan
