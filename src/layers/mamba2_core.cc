#include "layers/mamba2_core.h"

#include <algorithm>
#include <cstring>

#include "base/op_timer.h"
#include "kernels/swiglu.h"
#include "layers/multiplier.h"

namespace taipan {
namespace {

// -exp(A_log) [H].
const float* Rates(const Mamba2Weights& p, Arena& arena) {
  const int64_t heads = p.A_log.f32.size();
  float* a = arena.Floats(heads);
  DecayRates(p.A_log.F32(), heads, a);
  return a;
}

}  // namespace

Mamba2Weights::Mamba2Weights(const Mamba2Dims& dims) {
  const int64_t d = dims.d_model, inner = dims.d_inner(), channels = dims.conv_channels(), heads = dims.ssd.heads,
                group_state = dims.group_state();
  const auto scalars = [&](const char* name, Init init) {
    return Weight({.name = name, .group = "mamba2 ssm scalars", .shape = {heads}, .init = init});
  };
  in_proj = Weight({"mixer.in_proj.weight",
                    "mamba2 in_proj",
                    {dims.in_proj_outputs(), d},
                    Role::kLinear,
                    Init::kNormal,
                    /*decay=*/true,
                    /*file_shape=*/{},
                    /*parts=*/{{inner}, {inner}, {group_state, false}, {group_state, false}, {heads}}});
  conv_weight = Weight({"mixer.conv1d.weight",
                        "mamba2 conv",
                        {channels, dims.conv_width},
                        Role::kVector,
                        Init::kConv,
                        /*decay=*/true,
                        {channels, 1, dims.conv_width}});
  conv_bias = Weight({.name = "mixer.conv1d.bias", .group = "mamba2 conv", .shape = {channels}, .init = Init::kZeros});
  dt_bias = scalars("mixer.dt_bias", Init::kDtBias);
  A_log = scalars("mixer.A_log", Init::kALog);
  D = scalars("mixer.D", Init::kOnes);
  if (dims.gated_norm != GatedNorm::kNone) {
    gated_norm = Weight({.name = "mixer.norm.weight", .group = "mamba2 norms", .shape = {inner}});
  }
  out_proj = Weight({"mixer.out_proj.weight",
                     "mamba2 out_proj",
                     {d, inner},
                     Role::kLinear,
                     Init::kNormalResidual,
                     /*decay=*/true});
}

void Mamba2Weights::ForEach(const WeightVisitor& visit) {
  VisitWeights(visit, in_proj, conv_weight, conv_bias, dt_bias, A_log, D);
  if (!gated_norm.spec.shape.empty()) visit(gated_norm);
  visit(out_proj);
}

std::vector<StateSpec> Mamba2Mixer::State() const {
  return {{"ssm_state", {dims_.ssd.heads, dims_.ssd.head_dim, dims_.ssd.d_state}},
          {"conv_state", {dims_.conv_width - 1, dims_.conv_channels()}}};
}

void Mamba2Mixer::Cost(CostSink& sink) const {
  const double e = sink.element_bytes(), f = CostSink::kF32, t = sink.tokens();
  const double inner = static_cast<double>(dims_.d_inner()), channels = static_cast<double>(dims_.conv_channels());
  const double state_size = static_cast<double>(dims_.ssd.state_size());
  sink.Product("in_proj", dims_.in_proj_outputs(), dims_.d_model, e);
  sink.Mixer("conv", t, 2 * static_cast<double>(dims_.conv_width) * channels, e * channels, e * channels);
  // The scan counts as the recurrence. Decoding reads and writes the state for each token; longer runs keep it in the
  // cache.
  const double state = sink.decoding() ? 2 * f * state_size : 0;
  sink.Mixer("ssd", t, 4 * state_size, e * channels + f * static_cast<double>(dims_.ssd.heads) + state, e * inner);
  sink.Pointwise("gated norm", 2 * e * inner, e * inner);
  sink.Product("out_proj", dims_.d_model, dims_.d_inner(), 2 * f);  // added to the stream
}

TrainingBytes Mamba2Mixer::Bytes(double e, Keep keep) const {
  const double d = static_cast<double>(dims_.d_model), inner = static_cast<double>(dims_.d_inner());
  const double conv = static_cast<double>(dims_.conv_channels()), heads = static_cast<double>(dims_.ssd.heads);
  const double n = static_cast<double>(dims_.ssd.d_state), chunk = static_cast<double>(dims_.ssd.chunk);
  const double projected = inner + conv + heads, gn = static_cast<double>(dims_.group_state());
  const double normed = dims_.gated_norm == GatedNorm::kNormFirst ? e * inner : 0;
  const double mixed = e * (conv + 2 * inner + inner * n / chunk) + 4 * (heads + 1) + normed;
  const double ssd = e * 2 * gn + 4 * chunk + std::max(1.0, heads / 4) * 4 * (2 * n + chunk) + 4 * heads;
  const bool all = keep == Keep::kAll;
  return {e * projected + (all ? mixed : 0), (all ? 0 : mixed) + e * (3 * inner + projected + conv + d) + normed + ssd};
}

namespace {

TimeStepReport Summary(ConstMatrixView dt) {
  TimeStepReport report;
  for (int64_t t = 0; t < dt.rows; ++t) {
    const float* const row = dt.F32(t);
    const auto [least, most] = std::minmax_element(row, row + dt.cols);
    report.least = report.count == 0 ? *least : std::min(report.least, *least);
    report.most = report.count == 0 ? *most : std::max(report.most, *most);
    for (int64_t i = 0; i < dt.cols; ++i) report.mean += row[i];
    report.count += dt.cols;
  }
  report.mean /= static_cast<double>(std::max<int64_t>(1, report.count));
  return report;
}

}  // namespace

void Mamba2Mixer::Forward(const Mamba2Weights& p, const ForwardCall& call, ConstMatrixView u, MatrixView h,
                          Mamba2Saved& s) const {
  Arena::Scope scope(*call.scratch);
  s.u = u;
  s.zxbcdt = call.rows_arena().Matrix(h.rows, dims_.in_proj_outputs(), call.dtype);
  {
    const OpTimer timer("in_proj");
    Linear(u, p.in_proj, s.zxbcdt);
    MultiplyParts(s.zxbcdt);
  }
  if (call.kept()) KeepStates(call, s);
  s.has_mixed = call.keep == Keep::kAll;
  const Mamba2Segments segments = Segments(call.segments, call.keep == Keep::kRows, *call.scratch);
  const Mamba2Mixed mixed =
      Mix(p, s.zxbcdt, segments, s.has_mixed, s.has_mixed ? *call.results : *call.scratch, *call.scratch);
  if (s.has_mixed) s.mixed = mixed;
  if (auto* const report = dynamic_cast<TimeStepReport*>(call.report)) *report = Summary(mixed.dt);
  const OpTimer timer("out_proj");
  ScaledLinear(mixed.gated, p.out_proj, dims_.out_multiplier, h, Accumulate::kAdd, *call.scratch);
}

void Mamba2Mixer::MultiplyParts(MatrixView zxbcdt) const {
  const int64_t inner = dims_.d_inner(), state = dims_.group_state();
  const int64_t widths[] = {inner, inner, state, state, dims_.ssd.heads};
  int64_t begin = 0;
  for (size_t i = 0; i < dims_.multipliers.size(); begin += widths[i++]) {
    Multiply(zxbcdt.Cols(begin, widths[i]), dims_.multipliers[i]);
  }
}

// Convolution and scan once more, which write the states this time.
void Mamba2Mixer::Advance(const Mamba2Weights& p, const Mamba2Saved& s, int64_t begin, int64_t count, LayerState& state,
                          Arena& scratch) const {
  const Arena::Scope scope(scratch);
  ConvSegment conv{.length = count, .state_in = state.conv.F32(), .state_out = state.conv.F32()};
  SsdSegment ssd{.length = count, .state_in = state.ssm.F32(), .state_out = state.ssm.F32(), .steps = true};
  Mix(p, s.zxbcdt.Rows(begin, count), {{&conv, 1}, {&ssd, 1}}, /*keep=*/false, scratch, scratch);
}

Mamba2Segments Mamba2Mixer::Segments(std::span<const LayerSegment> segments, bool steps, Arena& arena) const {
  const size_t n = segments.size();
  const Mamba2Segments out = {{arena.Array<ConvSegment>(static_cast<int64_t>(n)), n},
                              {arena.Array<SsdSegment>(static_cast<int64_t>(n)), n}};
  for (size_t i = 0; i < n; ++i) {
    const LayerSegment& seg = segments[i];
    out.conv[i] = {.begin = seg.begin, .length = seg.length};
    out.ssd[i] = {.begin = seg.begin, .length = seg.length, .position = seg.position, .steps = steps};
    if (seg.state_in != nullptr) {
      out.conv[i].state_in = seg.state_in->conv.F32();
      out.ssd[i].state_in = seg.state_in->ssm.F32();
    }
    if (seg.state_out != nullptr) {
      out.conv[i].state_out = seg.state_out->conv.F32();
      out.ssd[i].state_out = seg.state_out->ssm.F32();
    }
  }
  return out;
}

void Mamba2Mixer::KeepStates(const ForwardCall& call, Mamba2Saved& s) const {
  const int64_t n = static_cast<int64_t>(call.segments.size()), window = (dims_.conv_width - 1) * dims_.conv_channels();
  const int64_t state = dims_.ssd.state_size();
  s.fresh.clear();
  for (const LayerSegment& seg : call.segments) s.fresh.push_back(seg.state_in == nullptr);
  const bool all_fresh = std::all_of(s.fresh.begin(), s.fresh.end(), [](uint8_t f) { return f != 0; });
  s.conv_states = all_fresh ? nullptr : call.results->Floats(n * window);
  s.ssm_states = all_fresh || call.keep == Keep::kAll ? nullptr : call.results->Floats(n * state);
  for (int64_t i = 0; i < n; ++i) {
    const LayerState* in = call.segments[static_cast<size_t>(i)].state_in;
    if (in == nullptr) continue;
    std::memcpy(s.conv_states + i * window, in->conv.F32(), static_cast<size_t>(window) * 4);
    if (s.ssm_states) std::memcpy(s.ssm_states + i * state, in->ssm.F32(), static_cast<size_t>(state) * 4);
  }
}

Mamba2Mixed Mamba2Mixer::Mix(const Mamba2Weights& p, MatrixView zxbcdt, const Mamba2Segments& segments, bool keep,
                             Arena& arena, Arena& scratch) const {
  const int64_t t = zxbcdt.rows;
  Mamba2Mixed m;
  m.xbc = arena.Matrix(t, dims_.conv_channels(), zxbcdt.dtype);
  m.dt = arena.Matrix(t, dims_.ssd.heads);
  m.y = arena.Matrix(t, dims_.d_inner(), zxbcdt.dtype);
  m.gated = arena.Matrix(t, dims_.d_inner(), zxbcdt.dtype);
  m.inv_rms = arena.Floats(t * dims_.ssd.groups);
  m.entering = keep ? arena.Bytes(SsdEnteringBytes(dims_.ssd, segments.ssd, zxbcdt.dtype)) : nullptr;
  {
    const OpTimer timer("conv");
    CausalConv1dSilu(Convolution(p, zxbcdt, segments.conv), m.xbc);
  }
  {
    const OpTimer timer("ssd");
    SsdTimeStep(TimeStep(p, zxbcdt), m.dt);
    SsdForward(dims_.ssd, Inputs(p, m.xbc, m.dt, Rates(p, scratch)), segments.ssd, m.y, m.entering, scratch);
  }
  Gate(p, Z(zxbcdt), arena, m);
  return m;
}

// From m.y and z to m.gated.
void Mamba2Mixer::Gate(const Mamba2Weights& p, MatrixView z, Arena& arena, Mamba2Mixed& m) const {
  const OpTimer timer("gated norm");
  const int64_t t = z.rows, groups = dims_.ssd.groups, width = dims_.d_inner() / groups;
  switch (dims_.gated_norm) {
    case GatedNorm::kGateFirst:
      return GatedRmsNorm(GateFirst(p, z, m), m.gated, m.inv_rms, arena);
    case GatedNorm::kNormFirst:
      m.normed = arena.Matrix(t, dims_.d_inner(), z.dtype);
      for (int64_t g = 0; g < groups; ++g) {
        RmsNorm(m.y.Cols(g * width, width), p.gated_norm.F32() + g * width, dims_.eps, m.normed.Cols(g * width, width),
                m.inv_rms + g * t);
      }
      return Swiglu(z, m.normed, m.gated);
    case GatedNorm::kNone:
      return Swiglu(z, m.y, m.gated);
  }
}

void Mamba2Mixer::GateBackward(const Mamba2Weights& p, const Mamba2Mixed& m, MatrixView z,
                               const GatedNormGradients& out, Arena& scratch) const {
  const OpTimer timer("gated norm backward");
  const int64_t t = z.rows, groups = dims_.ssd.groups, width = dims_.d_inner() / groups;
  switch (dims_.gated_norm) {
    case GatedNorm::kGateFirst:
      return GatedRmsNormBackward(GateFirst(p, z, m), m.inv_rms, out);
    case GatedNorm::kNormFirst: {
      const MatrixView dnormed = scratch.Matrix(t, dims_.d_inner(), z.dtype);
      SwigluBackward(z, m.normed, out.dout, out.dz, dnormed);
      for (int64_t i = 0; i < groups; ++i) {
        const int64_t begin = i * width;
        RmsNormBackward(
            m.y.Cols(begin, width), p.gated_norm.F32() + begin, m.inv_rms + i * t,
            {.dy = dnormed.Cols(begin, width), .dx = out.dy.Cols(begin, width), .dweight = out.dweight + begin});
      }
      return;
    }
    case GatedNorm::kNone:
      return SwigluBackward(z, m.y, out.dout, out.dz, out.dy);
  }
}

// From zxbcdt and the states that came in.
Mamba2Mixed Mamba2Mixer::MixAgain(const Mamba2Weights& p, const BackwardCall& call, const Mamba2Saved& s) const {
  const Mamba2Segments segments = Segments(call.segments, /*steps=*/false, *call.scratch);
  const int64_t window = (dims_.conv_width - 1) * dims_.conv_channels();
  for (size_t i = 0; i < segments.conv.size(); ++i) {
    ConvSegment& conv = segments.conv[i];
    SsdSegment& ssd = segments.ssd[i];
    const bool fresh = s.fresh[i] != 0;
    conv.state_in = fresh ? nullptr : s.conv_states + static_cast<int64_t>(i) * window;
    ssd.state_in = fresh ? nullptr : s.ssm_states + static_cast<int64_t>(i) * dims_.ssd.state_size();
    conv.state_out = ssd.state_out = nullptr;
  }
  return Mix(p, s.zxbcdt, segments, /*keep=*/true, *call.scratch, *call.scratch);
}

void Mamba2Mixer::Backward(const Mamba2Weights& p, const BackwardCall& call, const Mamba2Saved& s,
                           const Mamba2Gradients& out, Mamba2Weights& g) const {
  Arena& scratch = *call.scratch;
  Arena::Scope scope(scratch);
  const int64_t t = out.dh.rows;
  const Mamba2Mixed mixed = s.has_mixed ? s.mixed : MixAgain(p, call, s);
  MatrixView dgated = scratch.Matrix(t, dims_.d_inner(), call.dtype);
  {
    const OpTimer timer("out_proj backward");
    const ConstMatrixView dout = ScaledGradient(out.dh, dims_.out_multiplier, call.dtype, scratch);
    LinearBackwardInput(dout, p.out_proj, dgated);
    LinearBackwardWeight(dout, mixed.gated, g.out_proj.f32.Matrix());
  }
  const MixedGradients d = {.dzxbcdt = scratch.Matrix(t, dims_.in_proj_outputs(), call.dtype),
                            .dxbc = scratch.Matrix(t, dims_.conv_channels(), call.dtype),
                            .dy = scratch.Matrix(t, dims_.d_inner(), call.dtype)};
  GateBackward(p, mixed, Z(s.zxbcdt), {.dout = dgated, .dy = d.dy, .dz = Z(d.dzxbcdt), .dweight = g.gated_norm.F32()},
               scratch);
  ScanBackward(p, call, s, mixed, d, g);
  ConvolveBackward(p, call, s, d, g);
  const OpTimer timer("in_proj backward");
  MultiplyParts(d.dzxbcdt);
  LinearBackwardInput(d.dzxbcdt, p.in_proj, out.du, out.acc);
  LinearBackwardWeight(d.dzxbcdt, s.u, g.in_proj.f32.Matrix());
}

void Mamba2Mixer::ScanBackward(const Mamba2Weights& p, const BackwardCall& call, const Mamba2Saved& s,
                               const Mamba2Mixed& mixed, const MixedGradients& d, Mamba2Weights& g) const {
  const OpTimer timer("ssd backward");
  const size_t n = call.segments.size();
  const int64_t heads = dims_.ssd.heads, di = dims_.d_inner(), gn = dims_.group_state();
  SsdSegment* segments = call.scratch->Array<SsdSegment>(static_cast<int64_t>(n));
  for (size_t i = 0; i < n; ++i) {
    const LayerSegment& seg = call.segments[i];
    segments[i] = {.begin = seg.begin, .length = seg.length, .position = seg.position};
    // Only whether there was a state matters: its values are in `entering`.
    if (!s.fresh[i]) segments[i].state_in = s.conv_states;
    if (!call.dstate_out.empty() && call.dstate_out[i] && !call.dstate_out[i]->ssm.empty()) {
      segments[i].dstate_out = call.dstate_out[i]->ssm.F32();
    }
    if (!call.dstate_in.empty() && call.dstate_in[i]) {
      call.dstate_in[i]->ssm = Tensor({heads, dims_.ssd.head_dim, dims_.ssd.d_state});
      segments[i].dstate_in = call.dstate_in[i]->ssm.F32();
    }
  }
  const float* a = Rates(p, *call.scratch);
  float* da = call.scratch->Floats(heads);
  std::memset(da, 0, static_cast<size_t>(heads) * 4);
  const MatrixView ddt = call.scratch->Matrix(d.dy.rows, heads);
  SsdBackward(dims_.ssd, Inputs(p, mixed.xbc, mixed.dt, a), {segments, n}, mixed.entering,
              {.dy = d.dy,
               .dx = d.dxbc.Cols(0, di),
               .ddt = ddt,
               .dB = d.dxbc.Cols(di, gn),
               .dC = d.dxbc.Cols(di + gn, gn),
               .dA = da,
               .dD = g.D.F32()},
              *call.scratch);
  DecayRatesBackward(a, da, heads, g.A_log.F32());
  SsdTimeStepBackward(TimeStep(p, s.zxbcdt), {.ddt = ddt, .draw = Dt(d.dzxbcdt), .ddt_bias = g.dt_bias.F32()});
}

void Mamba2Mixer::ConvolveBackward(const Mamba2Weights& p, const BackwardCall& call, const Mamba2Saved& s,
                                   const MixedGradients& d, Mamba2Weights& g) const {
  const OpTimer timer("conv backward");
  const size_t n = call.segments.size();
  const int64_t width = dims_.conv_width, window = (width - 1) * dims_.conv_channels();
  ConvSegment* segments = call.scratch->Array<ConvSegment>(static_cast<int64_t>(n));
  for (size_t i = 0; i < n; ++i) {
    segments[i] = {.begin = call.segments[i].begin, .length = call.segments[i].length};
    if (!s.fresh[i]) segments[i].state_in = s.conv_states + static_cast<int64_t>(i) * window;
    if (!call.dstate_out.empty() && call.dstate_out[i] && !call.dstate_out[i]->conv.empty()) {
      segments[i].dstate_out = call.dstate_out[i]->conv.F32();
    }
    if (!call.dstate_in.empty() && call.dstate_in[i]) {
      call.dstate_in[i]->conv = Tensor({width - 1, dims_.conv_channels()});
      segments[i].dstate_in = call.dstate_in[i]->conv.F32();
    }
  }
  CausalConv1dSiluBackward(
      Convolution(p, s.zxbcdt, {segments, n}),
      {.dy = d.dxbc, .dx = Xbc(d.dzxbcdt), .dweight = g.conv_weight.F32(), .dbias = g.conv_bias.F32()});
}

}  // namespace taipan
