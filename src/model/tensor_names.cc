#include "model/tensor_names.h"

#include <cmath>
#include <cstring>
#include <span>
#include <string_view>

#include "base/error.h"
#include "model/parameters.h"

namespace taipan {
namespace {

// The beginning of our name and what stands for it; the first row that fits is taken.
struct Renaming {
  std::string_view ours, theirs;
};

struct NamingRow {
  Naming naming;
  std::string_view block;                     // the prefix of block {}
  std::span<const Renaming> whole, in_block;  // names outside of blocks; below the prefix of a block
};

constexpr Renaming kMamba2Whole[] = {{"model.embeddings.weight", "backbone.embeddings.weight"},
                                     {"model.norm.weight", "backbone.norm_f.weight"}};
constexpr Renaming kMambaSsmWhole[] = {{"model.embeddings.weight", "backbone.embedding.weight"},
                                       {"model.norm.weight", "backbone.norm_f.weight"}};
constexpr Renaming kLlamaWhole[] = {{"model.embeddings.weight", "model.embed_tokens.weight"}};
constexpr Renaming kLlamaInBlock[] = {{"norm.weight", "input_layernorm.weight"},
                                      {"attention.", "self_attn."},
                                      {"mlp_norm.weight", "post_attention_layernorm.weight"}};
constexpr Renaming kBambaWhole[] = {{"model.embeddings.weight", "model.embed_tokens.weight"},
                                    {"model.norm.weight", "model.final_layernorm.weight"}};
constexpr Renaming kBambaInBlock[] = {{"norm.weight", "input_layernorm.weight"},
                                      {"mixer.", "mamba."},
                                      {"attention.", "self_attn."},
                                      {"mlp_norm.weight", "pre_ff_layernorm.weight"},
                                      {"mlp.", "feed_forward."}};
constexpr Renaming kGraniteHybridWhole[] = {{"model.embeddings.weight", "model.embed_tokens.weight"}};
constexpr Renaming kGraniteHybridInBlock[] = {{"norm.weight", "input_layernorm.weight"},
                                              {"mixer.", "mamba."},
                                              {"attention.", "self_attn."},
                                              {"mlp_norm.weight", "post_attention_layernorm.weight"},
                                              {"mlp.gate_proj.", "shared_mlp.input_linear."},
                                              {"mlp.up_proj.", "shared_mlp.input_linear."},
                                              {"mlp.down_proj.", "shared_mlp.output_linear."}};
constexpr Renaming kNemotronHInBlock[] = {
    {"attention.", "mixer."}, {"mlp_norm.weight", "norm.weight"}, {"mlp.", "mixer."}};
constexpr Renaming kGgufWhole[] = {{"model.embeddings.weight", "token_embd.weight"},
                                   {"model.norm.weight", "output_norm.weight"},
                                   {"lm_head.weight", "output.weight"}};
constexpr Renaming kGgufInBlock[] = {{"norm.weight", "attn_norm.weight"},
                                     {"attention.q_proj.", "attn_q."},
                                     {"attention.k_proj.", "attn_k."},
                                     {"attention.v_proj.", "attn_v."},
                                     {"attention.o_proj.", "attn_output."},
                                     {"mlp_norm.weight", "ffn_norm.weight"},
                                     {"mlp.gate_proj.", "ffn_gate."},
                                     {"mlp.up_proj.", "ffn_up."},
                                     {"mlp.down_proj.", "ffn_down."},
                                     {"mixer.in_proj.", "ssm_in."},
                                     {"mixer.conv1d.", "ssm_conv1d."},
                                     {"mixer.dt_bias", "ssm_dt.bias"},
                                     {"mixer.A_log", "ssm_a"},
                                     {"mixer.D", "ssm_d"},
                                     {"mixer.norm.", "ssm_norm."},
                                     {"mixer.out_proj.", "ssm_out."}};
constexpr NamingRow kNamings[] = {
    {Naming::kTaipan, "model.layers.", {}, {}},
    {Naming::kMamba2, "backbone.layers.", kMamba2Whole, {}},
    {Naming::kMambaSsm, "backbone.layers.", kMambaSsmWhole, {}},
    {Naming::kLlama, "model.layers.", kLlamaWhole, kLlamaInBlock},
    {Naming::kBamba, "model.layers.", kBambaWhole, kBambaInBlock},
    {Naming::kGraniteHybrid, "model.layers.", kGraniteHybridWhole, kGraniteHybridInBlock},
    {Naming::kNemotronH, "backbone.layers.", kMamba2Whole, kNemotronHInBlock},
    {Naming::kGguf, "blk.", kGgufWhole, kGgufInBlock},
};

const NamingRow& RowOf(Naming naming) {
  for (const NamingRow& row : kNamings) {
    if (row.naming == naming) return row;
  }
  CheckFailed(__FILE__, __LINE__, "unknown Naming");
}

std::string WithTheirName(std::string_view name, std::span<const Renaming> table) {
  for (const Renaming& r : table) {
    if (name.starts_with(r.ours)) return std::string(r.theirs) + std::string(name.substr(r.ours.size()));
  }
  return std::string(name);
}

std::string NameIn(const NamingRow& row, const std::string& ours) {
  constexpr std::string_view kBlock = "model.layers.";
  if (!ours.starts_with(kBlock)) return WithTheirName(ours, row.whole);
  const size_t end = ours.find('.', kBlock.size()) + 1;  // "model.layers.12."
  return std::string(row.block) + ours.substr(kBlock.size(), end - kBlock.size()) +
         WithTheirName(std::string_view(ours).substr(end), row.in_block);
}

// Gate and up share a tensor, in this order.
void SetFusedMlp(ForeignTensor& t) {
  const bool gate = t.parameter.ends_with("mlp.gate_proj.weight"), up = t.parameter.ends_with("mlp.up_proj.weight");
  if (!gate && !up) return;
  t.rows = t.shape[0];
  t.row_begin = up ? t.rows : 0;
  t.shape[0] *= 2;
}

// llama.cpp stores scalars of heads as columns, the gated norm by groups and the convolution without its middle one.
// Its Falcon-H1 keeps the rows of rotating pairs where they were; Nemotron-H has one name for every norm.
void SetGgufLayout(const ModelConfig& c, ForeignTensor& t) {
  const auto is = [&](std::string_view end) { return t.parameter.ends_with(end); };
  const bool falcon = CountBlocks(c, LayerKind::kMamba2Attention) > 0;
  if (is("mlp_norm.weight")) {
    if (falcon) t.name.erase(t.name.rfind(".weight"));
    if (CountBlocks(c, LayerKind::kRelu2Mlp) > 0) t.name.replace(t.name.find("ffn_norm"), 8, "attn_norm");
  } else if (!falcon && (is("attention.q_proj.weight") || is("attention.k_proj.weight"))) {
    t.layout = Layout::kRopePairs;
    t.heads = is("q_proj.weight") ? c.num_attention_heads : c.num_key_value_heads;
  } else if (is("mixer.conv1d.weight")) {
    t.shape = {t.shape[0], t.shape[2]};
  } else if (is("mixer.A_log") || is("mixer.D")) {
    t.shape.push_back(1);
    if (is("mixer.A_log")) t.layout = Layout::kDecayRate;
  } else if (is("mixer.norm.weight")) {
    t.shape = {c.n_groups, t.shape[0] / c.n_groups};
  }
}

// to row (head, j, i) = from row (head, i, j) for i < n1, j < n2.
void SwapRows(Tensor& values, int64_t heads, int64_t n1, int64_t n2) {
  const Tensor from = values;
  const int64_t bytes = values.bytes() / values.shape()[0];
  char* const out = static_cast<char*>(values.data());
  const char* const in = static_cast<const char*>(from.data());
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < n1; ++i) {
      for (int64_t j = 0; j < n2; ++j) {
        std::memcpy(out + (h * n1 * n2 + j * n1 + i) * bytes, in + (h * n1 * n2 + i * n2 + j) * bytes,
                    static_cast<size_t>(bytes));
      }
    }
  }
}

}  // namespace

std::vector<ForeignTensor> ForeignTensors(const ModelConfig& config, Naming naming) {
  const NamingRow& row = RowOf(naming);
  std::vector<ForeignTensor> tensors;
  for (const WeightSpec& spec : WeightSpecs(config)) {
    ForeignTensor t{NameIn(row, spec.name), spec.stored_shape(), spec.name};
    if (naming == Naming::kGguf) SetGgufLayout(config, t);
    if (naming == Naming::kGraniteHybrid) SetFusedMlp(t);
    tensors.push_back(std::move(t));
  }
  return tensors;
}

bool NamesTiedHead(Naming naming) { return naming == Naming::kMambaSsm || naming == Naming::kNemotronH; }

int64_t StoredRowOf(const ForeignTensor& t, int64_t row) {
  CHECK(t.layout == Layout::kSame || t.layout == Layout::kRopePairs);
  if (t.layout == Layout::kSame) return t.row_begin + row;
  const int64_t of_head = t.part_shape()[0] / t.heads, pairs = of_head / 2, at = row % of_head;
  return t.row_begin + row - at + at % pairs * 2 + at / pairs;
}

void ToLayout(const ForeignTensor& t, Tensor& values) {
  if (t.layout == Layout::kRopePairs) SwapRows(values, t.heads, 2, values.shape()[0] / t.heads / 2);
  if (t.layout != Layout::kDecayRate) return;
  for (int64_t i = 0; i < values.size(); ++i) values.F32()[i] = -std::exp(values.F32()[i]);
}

void FromLayout(const ForeignTensor& t, Tensor& values) {
  if (t.layout == Layout::kRopePairs) SwapRows(values, t.heads, values.shape()[0] / t.heads / 2, 2);
  if (t.layout != Layout::kDecayRate) return;
  for (int64_t i = 0; i < values.size(); ++i) values.F32()[i] = std::log(-values.F32()[i]);
}

}  // namespace taipan
