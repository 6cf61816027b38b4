#include "support/reference_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace taipan::test {
namespace {

// y = W x, W [n, x.size()] row-major.
Row Times(const Row& w, const Row& x) {
  Row y(w.size() / x.size(), 0.0);
  for (size_t i = 0; i < y.size(); ++i) {
    for (size_t k = 0; k < x.size(); ++k) y[i] += w[i * x.size() + k] * x[k];
  }
  return y;
}

double Silu(double x) { return x / (1 + std::exp(-x)); }
double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double Softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }
size_t U(int64_t i) { return static_cast<size_t>(i); }

// a + scale * b.
Row Add(const Row& a, const Row& b, double scale = 1) {
  Row y = a;
  for (size_t i = 0; i < y.size(); ++i) y[i] += scale * b[i];
  return y;
}

Row Scaled(Row x, double scale) {
  for (double& value : x) value *= scale;
  return x;
}

}  // namespace

// What the gate of one token needs beyond its hidden row.
struct ReferenceModel::Token {
  int64_t index = 0, position = 0, sal = 0;
  const ReferenceOptions* options = nullptr;
};

ReferenceModel::ReferenceModel(const ModelConfig& config, LanguageModel& weights_from) : config_(config) {
  weights_from.params().ForEach(
      [&](Weight& weight) { weights_[weight.spec.name] = Row(weight.F32(), weight.F32() + weight.f32.size()); });
}

ReferenceState ReferenceModel::NewState() const {
  ReferenceState state;
  for (LayerKind kind : config_.layer_pattern) {
    ReferenceLayerState layer;
    if (kind == LayerKind::kMamba2 || kind == LayerKind::kMamba2Mlp || kind == LayerKind::kMamba2Attention) {
      layer.ssm.assign(U(config_.d_inner() * config_.state_size), 0.0);
      const int64_t channels = config_.d_inner() + 2 * config_.n_groups * config_.state_size;
      layer.conv.assign(U(config_.conv_kernel - 1), Row(U(channels), 0.0));
    }
    state.layers.push_back(layer);
  }
  return state;
}

const Row& ReferenceModel::W(int64_t layer, const char* name) const {
  return weights_.at(fmt::format("model.layers.{}.{}", layer, name));
}

Row ReferenceModel::Norm(const Row& x, const Row& weight) const {
  double sum = 0;
  for (double value : x) sum += value * value;
  const double scale = 1 / std::sqrt(sum / static_cast<double>(x.size()) + config_.rms_norm_eps);
  Row y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * weight[i];
  return y;
}

// in_proj(u), each part times its multiplier.
Row ReferenceModel::Projected(int64_t layer, const Row& u) const {
  Row zxbcdt = Times(W(layer, "mixer.in_proj.weight"), u);
  const int64_t inner = config_.d_inner(), state = config_.n_groups * config_.state_size;
  const int64_t widths[] = {inner, inner, state, state, config_.ssm_heads()};
  size_t at = 0;
  for (size_t part = 0; part < 5; ++part) {
    for (int64_t i = 0; i < widths[part]; ++i) zxbcdt[at++] *= config_.ssm_multipliers[part];
  }
  return zxbcdt;
}

// v [inner] in groups, times the weight.
Row ReferenceModel::GroupNorm(const Row& v, const Row& gain) const {
  const size_t width = v.size() / U(config_.n_groups);
  Row normed;
  for (size_t begin = 0; begin < v.size(); begin += width) {
    const auto at = [&](const Row& r) {
      return Row(r.begin() + static_cast<int64_t>(begin), r.begin() + static_cast<int64_t>(begin + width));
    };
    const Row part = Norm(at(v), at(gain));
    normed.insert(normed.end(), part.begin(), part.end());
  }
  return normed;
}

// What Mamba-2 adds to the stream.
Row ReferenceModel::Mamba2(int64_t layer, const Row& u, ReferenceLayerState& state) const {
  const size_t inner = U(config_.d_inner()), n = U(config_.state_size), groups = U(config_.n_groups);
  const size_t heads = U(config_.ssm_heads()), p = U(config_.head_dim), taps = U(config_.conv_kernel);
  const size_t channels = inner + 2 * groups * n;
  const Row zxbcdt = Projected(layer, u);
  state.conv.emplace_back(zxbcdt.begin() + static_cast<int64_t>(inner),
                          zxbcdt.begin() + static_cast<int64_t>(inner + channels));
  const Row &conv = W(layer, "mixer.conv1d.weight"), &conv_bias = W(layer, "mixer.conv1d.bias");
  Row xbc(channels);
  for (size_t c = 0; c < channels; ++c) {
    double sum = conv_bias[c];
    for (size_t k = 0; k < taps; ++k) sum += conv[c * taps + k] * state.conv[k][c];
    xbc[c] = Silu(sum);
  }
  state.conv.erase(state.conv.begin());
  const Row &a_log = W(layer, "mixer.A_log"), &skip = W(layer, "mixer.D"), &dt_bias = W(layer, "mixer.dt_bias");
  Row v(inner);
  for (size_t head = 0; head < heads; ++head) {
    const double raw = Softplus(zxbcdt[inner + channels + head] + dt_bias[head]);
    const double dt = std::min(std::max(raw, config_.time_step_limit[0]), config_.time_step_limit[1]);
    const double decay = std::exp(-dt * std::exp(a_log[head]));
    const size_t group = head / (heads / groups);
    const double *b = &xbc[inner + group * n], *c = &xbc[inner + groups * n + group * n];
    for (size_t i = 0; i < p; ++i) {
      const double x = xbc[head * p + i];
      double y = skip[head] * x;
      for (size_t j = 0; j < n; ++j) {
        double& s = state.ssm[(head * p + i) * n + j];
        s = decay * s + dt * x * b[j];
        y += s * c[j];
      }
      v[head * p + i] = y;
    }
  }
  const auto gate = [&](Row r) {
    for (size_t i = 0; i < inner; ++i) r[i] *= Silu(zxbcdt[i]);
    return r;
  };
  const auto norm = [&](const Row& r) { return GroupNorm(r, W(layer, "mixer.norm.weight")); };
  const Row gated = config_.gated_norm == GatedNorm::kNone        ? gate(v)
                    : config_.gated_norm == GatedNorm::kNormFirst ? gate(norm(v))
                                                                  : norm(gate(v));
  return Scaled(Times(W(layer, "mixer.out_proj.weight"), gated), config_.ssm_out_multiplier);
}

double ReferenceModel::Stretched(double frequency) const {
  if (!config_.rope_scaling) return frequency;
  const RopeScaling& s = *config_.rope_scaling;
  if (s.type == RopeScaling::Type::kLinear) return frequency / s.factor;
  const double wavelength = 2 * std::acos(-1.0) / frequency,
               original = static_cast<double>(s.original_max_position_embeddings);
  if (wavelength < original / s.high_freq_factor) return frequency;
  if (wavelength > original / s.low_freq_factor) return frequency / s.factor;
  const double smooth = (original / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return (1 - smooth) * frequency / s.factor + smooth * frequency;
}

void ReferenceModel::Rope(Row& x, int64_t position) const {
  const size_t dim = U(config_.attention_head_dim);
  const size_t half = static_cast<size_t>(static_cast<double>(dim) * config_.partial_rotary_factor) / 2;
  for (size_t head = 0; head < x.size() / dim; ++head) {
    for (size_t j = 0; j < half; ++j) {
      const double exponent = -static_cast<double>(j) / static_cast<double>(half);
      const double angle = static_cast<double>(position) * Stretched(std::pow(*config_.rope_theta, exponent));
      double &a = x[head * dim + j], &b = x[head * dim + half + j];
      const double first = a * std::cos(angle) - b * std::sin(angle);
      b = b * std::cos(angle) + a * std::sin(angle);
      a = first;
    }
  }
}

Row ReferenceModel::Attend(int64_t layer, const Row& u, int64_t window, int64_t position,
                           ReferenceLayerState& state) const {
  Row q = Times(W(layer, "attention.q_proj.weight"), u), k = Times(W(layer, "attention.k_proj.weight"), u);
  if (config_.rope_theta) {
    Rope(q, position);
    Rope(k, position);
  }
  state.keys.push_back(k);
  state.values.push_back(Times(W(layer, "attention.v_proj.weight"), u));
  const size_t dim = U(config_.attention_head_dim), heads = U(config_.num_attention_heads);
  const size_t share = heads / U(config_.num_key_value_heads);
  const double scale = config_.attention_multiplier.value_or(1 / std::sqrt(static_cast<double>(dim)));
  const size_t end = state.keys.size(), begin = window > 0 && end > U(window) ? end - U(window) : 0;
  Row out(heads * dim, 0.0);
  for (size_t head = 0; head < heads; ++head) {
    const size_t at = head / share * dim;
    Row score;
    for (size_t t = begin; t < end; ++t) {
      double dot = 0;
      for (size_t i = 0; i < dim; ++i) dot += q[head * dim + i] * state.keys[t][at + i];
      score.push_back(dot * scale);
    }
    const double largest = *std::max_element(score.begin(), score.end());
    double sum = 0;
    for (double& s : score) sum += s = std::exp(s - largest);
    for (size_t t = begin; t < end; ++t) {
      for (size_t i = 0; i < dim; ++i) out[head * dim + i] += score[t - begin] / sum * state.values[t][at + i];
    }
  }
  return Scaled(Times(W(layer, "attention.o_proj.weight"), out), config_.attention_out_multiplier);
}

Row ReferenceModel::Mlp(int64_t layer, const Row& h) const {
  const Row n = Norm(h, W(layer, "mlp_norm.weight"));
  Row gate = Scaled(Times(W(layer, "mlp.gate_proj.weight"), n), config_.mlp_gate_multiplier);
  const Row up = Times(W(layer, "mlp.up_proj.weight"), n);
  for (size_t i = 0; i < gate.size(); ++i) gate[i] = Silu(gate[i]) * up[i];
  return Add(h, Times(W(layer, "mlp.down_proj.weight"), gate), config_.mlp_out_multiplier);
}

Row ReferenceModel::Relu2Mlp(int64_t layer, const Row& h) const {
  Row up = Times(W(layer, "mlp.up_proj.weight"), Norm(h, W(layer, "mlp_norm.weight")));
  for (double& value : up) value = value > 0 ? value * value : 0;
  return Add(h, Times(W(layer, "mlp.down_proj.weight"), up), config_.mlp_out_multiplier);
}

// A layer of any kind but the selective one.
Row ReferenceModel::Plain(int64_t layer, const Row& h, int64_t position, ReferenceLayerState& state) const {
  const auto u = [&] { return Norm(h, W(layer, "norm.weight")); };
  switch (config_.layer_pattern[U(layer)]) {
    case LayerKind::kMamba2:
      return Add(h, Mamba2(layer, u(), state));
    case LayerKind::kMamba2Mlp:
      return Mlp(layer, Add(h, Mamba2(layer, u(), state)));
    case LayerKind::kAttention:
      return Mlp(layer, Add(h, Attend(layer, u(), 0, position, state)));
    case LayerKind::kSlidingAttention:
      return Mlp(layer, Add(h, Attend(layer, u(), config_.sliding_window, position, state)));
    case LayerKind::kAttentionOnly:
      return Add(h, Attend(layer, u(), 0, position, state));
    case LayerKind::kRelu2Mlp:
      return Relu2Mlp(layer, h);
    case LayerKind::kMamba2Attention:
      return Mlp(layer, Add(Add(h, Mamba2(layer, u(), state)), Attend(layer, u(), 0, position, state)));
    case LayerKind::kSelectiveAttention:
      break;
  }
  return {};
}

Row ReferenceModel::Selective(int64_t layer, const Row& h, const Token& token, ReferenceLayerState& state,
                              ReferenceGate& gate) const {
  const ReferenceOptions& options = *token.options;
  const Row u = Norm(h, W(layer, "norm.weight"));
  const Row s = Add(Times(W(layer, "gate.weight"), u), W(layer, "gate.bias"));
  const double margin = s[1] - s[0];
  double noisy = margin;
  if (!options.noise.empty()) {
    const float* g = options.noise[U(token.sal)] + 2 * token.index;
    noisy += static_cast<double>(g[1]) - static_cast<double>(g[0]);
  }
  const double delta = options.delta.empty() ? 0.0 : options.delta[U(token.sal)];
  const double alpha = Sigmoid(margin), soft = Sigmoid((noisy - delta) / options.tau);
  double hard = noisy > delta ? 1 : 0, through = 0;
  if (options.frozen != nullptr) {
    const ReferenceGate& frozen = (*options.frozen)[U(token.sal)];
    hard = frozen.hard[U(token.index)];
    if (options.straight_through_all || hard == 1) through = soft - frozen.soft[U(token.index)];
  }
  const double m = hard + through;
  const Row o = Attend(layer, u, config_.sliding_window, token.position, state);
  Row r(h.size());
  const double kept = config_.refinement == Refinement::kMix ? 1 - alpha : 1;
  for (size_t i = 0; i < h.size(); ++i) r[i] = m * (kept * h[i] + alpha * o[i]) + (1 - m) * h[i];
  gate.margin.push_back(margin);
  gate.alpha.push_back(alpha);
  gate.hard.push_back(hard);
  gate.soft.push_back(soft);
  return Mlp(layer, r);
}

ReferenceOutput ReferenceModel::Run(const std::vector<int32_t>& tokens, ReferenceState& state,
                                    const ReferenceOptions& options) const {
  const Row& embedding = weights_.at("model.embeddings.weight");
  const Row& head = config_.tie_word_embeddings ? embedding : weights_.at("lm_head.weight");
  ReferenceOutput output;
  output.gates.resize(U(config_.num_sals()));
  for (size_t t = 0; t < tokens.size(); ++t, ++state.position) {
    const int64_t d = config_.hidden_size;
    Row h(embedding.begin() + tokens[t] * d, embedding.begin() + (tokens[t] + 1) * d);
    h = Scaled(h, config_.embedding_multiplier);
    Token token{static_cast<int64_t>(t), state.position, 0, &options};
    for (int64_t layer = 0; layer < config_.num_layers(); ++layer) {
      ReferenceLayerState& own = state.layers[U(layer)];
      if (config_.layer_pattern[U(layer)] == LayerKind::kSelectiveAttention) {
        h = Selective(layer, h, token, own, output.gates[U(token.sal)]);
        ++token.sal;
      } else {
        h = Plain(layer, h, state.position, own);
      }
    }
    output.logits.push_back(Scaled(Times(head, Norm(h, weights_.at("model.norm.weight"))), 1 / config_.logits_scaling));
  }
  return output;
}

namespace {

ReferenceOptions OptionsOf(const StepSpec& spec, int64_t flat) {
  ReferenceOptions options;
  options.straight_through_all = spec.gate.attend_all;
  options.tau = static_cast<double>(spec.gate.tau);
  for (const auto& noise : spec.noise) options.noise.push_back(noise.data() + 2 * flat);
  return options;
}

std::vector<int32_t> Slice(const std::vector<int32_t>& x, int64_t begin, int64_t length) {
  return {x.begin() + begin, x.begin() + begin + length};
}

double NegativeLogProbability(const Row& logits, int32_t target) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum) - logits[U(target)];
}

}  // namespace

FrozenStep Freeze(const ReferenceModel& model, const StepSpec& spec, int64_t piece) {
  FrozenStep frozen;
  int64_t flat = 0;
  for (const auto& row : spec.rows) {
    frozen.documents.emplace_back();
    for (const Document& document : row) {
      frozen.documents.back().emplace_back();
      ReferenceState state = model.NewState();
      const int64_t n = static_cast<int64_t>(document.tokens.size()), most = piece > 0 ? piece : n;
      for (int64_t begin = 0; begin < n; begin += most) {
        FrozenPiece part{begin, std::min(most, n - begin), state, {}};
        part.gates = model.Run(Slice(document.tokens, begin, part.length), state, OptionsOf(spec, flat + begin)).gates;
        frozen.documents.back().back().push_back(part);
      }
      flat += n;
    }
  }
  return frozen;
}

double ReferenceLoss(const ReferenceModel& model, const StepSpec& spec, const FrozenStep& frozen) {
  const StepTotals totals = spec.totals();
  double nll = 0, budget = 0;
  int64_t flat = 0;
  for (size_t r = 0; r < spec.rows.size(); ++r) {
    Row sums(model.NewState().layers.size(), 0.0);  // by SAL
    for (size_t d = 0; d < spec.rows[r].size(); ++d) {
      const Document& document = spec.rows[r][d];
      for (const FrozenPiece& piece : frozen.documents[r][d]) {
        ReferenceState state = piece.start;
        ReferenceOptions options = OptionsOf(spec, flat + piece.begin);
        options.frozen = &piece.gates;
        const ReferenceOutput out = model.Run(Slice(document.tokens, piece.begin, piece.length), state, options);
        for (int64_t i = 0; i < piece.length; ++i) {
          const int32_t target = document.targets[U(piece.begin + i)];
          const double weight = spec.weights.empty() ? 1.0 : spec.weights[U(flat + piece.begin + i)];
          if (target >= 0) nll += weight * NegativeLogProbability(out.logits[U(i)], target);
          for (size_t g = 0; g < out.gates.size(); ++g) {
            sums[g] += out.gates[g].hard[U(i)] + out.gates[g].soft[U(i)] - piece.gates[g].soft[U(i)];
          }
        }
      }
      flat += static_cast<int64_t>(document.tokens.size());
    }
    for (size_t g = 0; g < spec.noise.size(); ++g) {
      const double off = spec.loss.budget - sums[g] / static_cast<double>(totals.row_lengths[r]);
      budget += off * off / static_cast<double>(spec.rows.size());
    }
  }
  return nll / totals.targets + spec.loss.budget_weight * budget;
}

}  // namespace taipan::test
