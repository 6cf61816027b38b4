#include "model/memory_plan.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/parameter_groups.h"

namespace taipan {
namespace {

constexpr int kFloatBytes = 4;

// Absurd sizes stop at 2^62 instead of wrapping round; exact below 2^53.
int64_t Bytes(double floats) { return static_cast<int64_t>(std::min(floats * kFloatBytes, 0x1p62)); }

// The sizes as doubles: averages a token need not be whole.
struct Sizes {
  explicit Sizes(const ModelConfig& c)
      : d(static_cast<double>(c.hidden_size)),
        d_inner(static_cast<double>(c.expand) * d),
        heads(d_inner / static_cast<double>(c.head_dim)),
        state(static_cast<double>(c.state_size)),
        groups(static_cast<double>(c.n_groups)),
        chunk(static_cast<double>(c.chunk_size)),
        q(static_cast<double>(c.num_attention_heads) * static_cast<double>(c.attention_head_dim)),
        kv(static_cast<double>(c.num_key_value_heads) * static_cast<double>(c.attention_head_dim)),
        ff(static_cast<double>(c.intermediate_size)) {}

  double conv_channels() const { return d_inner + 2 * groups * state; }
  double in_proj_rows() const { return d_inner + conv_channels() + heads; }  // z | x | B | C | dt

  double d, d_inner, heads, state, groups, chunk, q, kv, ff;  // d, E*d, H, N, G, Q, Ha*dh, Hkv*dh, ff
};

// Keys that a query sees, mean over the positions of a sequence; window 0: all before it and itself.
double MeanKeys(int64_t context, int64_t window) {
  const auto n = static_cast<double>(context);
  const auto w = static_cast<double>(window == 0 ? context : std::min(context, window));
  return (w * (w + 1) / 2 + (n - w) * w) / n;
}

// Two for each multiplication with addition in matrix products, convolution, SSD and attention; norms, activations and
// softmax are left out (below 1 %).
double ForwardFlops(const ModelConfig& c, const Sizes& s, LayerKind kind, int64_t context) {
  const double mlp = HasMlp(kind) ? 2 * 3 * s.d * s.ff : 0;
  if (IsMamba2(kind)) {
    const double projections = s.in_proj_rows() * s.d + s.d_inner * s.d;
    const double convolution = s.conv_channels() * static_cast<double>(c.conv_kernel);
    const double earlier = (s.chunk + 1) / 2;  // tokens of its chunk that a token sees, mean, itself included
    const double within = earlier * (s.groups * s.state + s.d_inner);  // C B^T, then times x
    const double across = 2 * s.d_inner * s.state;  // into the chunk's state, and out of the last one
    return mlp + 2 * (projections + convolution + within + across);
  }
  const bool selective = kind == LayerKind::kSelectiveAttention;
  const double share = selective ? c.attention_budget : 1.0;
  const double keys = MeanKeys(context, kind == LayerKind::kAttention ? 0 : c.sliding_window);
  return mlp + 2 * (2 * s.kv * s.d            // k, v of every token
                    + share * 2 * s.q * s.d   // q, o of the selected
                    + share * 2 * s.q * keys  // q k^T and its product with v
                    + (selective ? 2 * s.d : 0));
}

RunCost CostToRun(const ModelConfig& c, const Sizes& s, int64_t context, int64_t weight_bytes) {
  double flops = 2 * static_cast<double>(c.vocab_size) * s.d;  // the head; the embedding is a copy
  double fixed = 0, window = 0, full = 0;                      // floats
  for (LayerKind kind : c.layer_pattern) {
    flops += ForwardFlops(c, s, kind, context);
    if (IsMamba2(kind)) {
      fixed += s.d_inner * s.state + static_cast<double>(c.conv_kernel - 1) * s.conv_channels();  // [H, P, N], [W-1, C]
    } else if (kind == LayerKind::kAttention) {
      full += 2 * s.kv * static_cast<double>(context);
    } else {
      window += 2 * s.kv * static_cast<double>(std::min(context, c.sliding_window));
    }
  }
  return {.context = context,
          .weight_bytes = weight_bytes,
          .fixed_state_bytes = Bytes(fixed),
          .window_bytes = Bytes(window),
          .full_bytes = Bytes(full),
          .flops_per_token = flops};
}

}  // namespace

std::vector<int64_t> StandardContexts() { return {int64_t{4} << 10, int64_t{128} << 10, int64_t{1} << 20}; }

MemoryPlan PlanMemory(const ModelConfig& config, const std::vector<int64_t>& contexts) {
  const Sizes sizes(config);
  MemoryPlan plan;
  for (const ParameterGroup& group : ParameterGroups(config)) {
    plan.parameters.push_back({group.name, static_cast<int64_t>(group.count)});
  }
  plan.parameter_count = CountParameters(config);
  const int64_t weight_bytes = plan.parameter_count * kFloatBytes;
  for (int64_t context : contexts) {
    CHECK(context >= 1 && context <= int64_t{1} << 30);
    plan.run.push_back(CostToRun(config, sizes, context, weight_bytes));
  }
  return plan;
}

}  // namespace taipan
