#include "model/training_memory.h"

#include <algorithm>

#include "base/progress.h"
#include "kernels/cross_entropy.h"
#include "kernels/gemm.h"
#include "model/block_table.h"
#include "model/parameter_groups.h"

namespace taipan {
namespace {

// Absurd sizes stop at 2^60, so that their sum does not wrap round.
int64_t Bytes(double bytes) { return static_cast<int64_t>(std::min(bytes, 0x1p60)); }

// Sizes as doubles: unchecked products of a large config must not wrap round.
struct Sizes {
  Sizes(const ModelConfig& c, const TrainingShape& s)
      : e(s.dtype == DType::kBF16 ? 2 : 4),
        d(static_cast<double>(c.hidden_size)),
        inner(static_cast<double>(c.d_inner())),
        heads(static_cast<double>(c.ssm_heads())),
        n(static_cast<double>(c.state_size)),
        gn(static_cast<double>(c.n_groups) * n),
        chunk(static_cast<double>(SsdChunk(c.chunk_size))),
        q(static_cast<double>(c.num_attention_heads * c.attention_head_dim)),
        kv(static_cast<double>(c.num_key_value_heads * c.attention_head_dim)),
        ff(static_cast<double>(c.intermediate_size)) {}
  double conv() const { return inner + 2 * gn; }
  double projected() const { return inner + conv() + heads; }

  double e;  // bytes of an activation
  double d, inner, heads, n, gn, chunk, q, kv, ff;
};

// Bytes a token that a block keeps.
double Mamba2Kept(const Sizes& s, bool mixer) {
  const double always = 4 * s.d + 4 + s.e * (s.d + s.projected());
  const double mixed = s.e * (s.conv() + 2 * s.inner + s.inner * s.n / s.chunk) + 4 * (s.heads + 1);
  return always + (mixer ? mixed : 0);
}
double AttentionKept(const Sizes& s, const ModelConfig& c, double share, bool selective) {
  const double gathered = selective ? share * s.e * s.d + share * 4 * s.d + 21 : 0;  // u, o; scores, rows
  return 4 * s.d + 4 + s.e * (s.d + 2 * s.kv) + gathered +
         share * (s.e * 2 * s.q + 8 + 4 * static_cast<double>(c.num_attention_heads));  // q, context, lse
}
double MlpKept(const Sizes& s) { return s.e * s.d + 4 * s.d + 4 + s.e * 2 * s.ff; }

// Bytes a token of scratch in the backward pass, the larger of the two passes.
double Mamba2Scratch(const Sizes& s, bool mixer) {
  const double blocks = std::max(1.0, s.heads / 4);
  const double ssd = s.e * 2 * s.gn + 4 * s.chunk + blocks * 4 * (2 * s.n + s.chunk) + 4 * s.heads;
  const double again = mixer ? 0 : Mamba2Kept(s, true) - Mamba2Kept(s, false);
  return again + s.e * (3 * s.inner + s.projected() + s.conv() + 2 * s.d) + ssd;
}
double AttentionScratch(const Sizes& s, double share) {
  return s.e * s.d + 4 * s.d + share * (8 * s.q + 4 * s.d + s.e * s.q) + 8 * s.kv + s.e * 2 * s.kv;
}
double MlpScratch(const Sizes& s) { return s.e * 3 * s.ff + 4 * s.d + s.e * s.d; }

}  // namespace

TrainingMemory PlanTraining(const ModelConfig& c, const TrainingShape& shape) {
  const Sizes s(c, shape);
  const double tokens = static_cast<double>(shape.tokens());
  const bool mixer = shape.recompute != Recompute::kMixer, again = shape.recompute == Recompute::kBlock;
  double kept = 0, most_kept = 0, most_scratch = 0;  // bytes a token
  for (const LayerKind kind : c.layer_pattern) {
    const bool selective = kind == LayerKind::kSelectiveAttention;
    // A gate may begin wide open: every token counts.
    double block = IsMamba2(kind) ? Mamba2Kept(s, mixer) : AttentionKept(s, c, 1, selective);
    double scratch = IsMamba2(kind) ? Mamba2Scratch(s, mixer) : AttentionScratch(s, 1);
    if (HasMlp(kind)) {
      block += MlpKept(s);
      scratch = std::max(scratch, MlpScratch(s));
    }
    kept += again ? 4 * s.d : block;
    most_kept = std::max(most_kept, block);
    most_scratch = std::max(most_scratch, scratch);
  }
  if (again) kept += most_kept + 4 * s.d;
  const double vocab = static_cast<double>(c.vocab_size);
  const double chunk_rows = std::min(tokens, static_cast<double>(HeadChunkRows(c.vocab_size)));
  const double head = tokens * (3 * 4 + s.e) * s.d + chunk_rows * vocab * 4;
  const double parameters = SumParameterGroups(ParameterGroups(c));
  TrainingMemory memory;
  memory.weights = memory.gradients = Bytes(4 * parameters);
  memory.moments = Bytes(8 * parameters);
  memory.copies = shape.dtype == DType::kBF16 ? Bytes(2 * parameters) : 0;
  memory.kept = Bytes(tokens * (kept + 4 * s.d));
  memory.scratch = Bytes(tokens * 4 * s.d + std::max(tokens * most_scratch, head));
  return memory;
}

std::string Describe(const TrainingMemory& m) {
  std::string text = fmt::format("{}: weights {}", FormatBytes(m.total()), FormatBytes(m.weights));
  if (m.copies > 0) text += fmt::format(", bf16 copies {}", FormatBytes(m.copies));
  return text + fmt::format(", gradients {}, moments {}, activations {}, scratch {}", FormatBytes(m.gradients),
                            FormatBytes(m.moments), FormatBytes(m.kept), FormatBytes(m.scratch));
}

}  // namespace taipan
