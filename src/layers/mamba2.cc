#include "layers/mamba2.h"

#include <algorithm>
#include <cstring>

#include "base/op_timer.h"
#include "kernels/causal_conv1d.h"
#include "kernels/convert.h"
#include "kernels/rms_norm.h"
#include "layers/pre_norm.h"

namespace taipan {
namespace {

// What convolution, scan and gated norm give; the way back needs it too.
struct Mixed {
  MatrixView xbc;        // [T, conv channels] after conv and SiLU
  MatrixView dt;         // [T, H] f32
  MatrixView y;          // [T, d_inner] of the SSD
  float* gated_inv_rms;  // [T, G]
  MatrixView gated;      // [T, d_inner] what out_proj reads
  void* entering;        // states that enter the chunks; null: not kept
};

struct Mamba2Params : BranchParams {
  Weight norm;                    // [d]
  Weight in_proj;                 // [2 d_inner + 2GN + H, d], rows z | x | B | C | dt
  Weight conv_weight, conv_bias;  // [d_inner + 2GN, W], [d_inner + 2GN]
  Weight dt_bias, A_log, D;       // [H]
  Weight gated_norm;              // [d_inner]
  Weight out_proj;                // [d, d_inner]
  void ForEach(const WeightVisitor& visit) override {
    VisitWeights(visit, norm, in_proj, conv_weight, conv_bias, dt_bias, A_log, D, gated_norm, out_proj);
  }
};

struct Mamba2Saved : BranchSaved {
  PreNormSaved norm;
  MatrixView zxbcdt;           // [T, in_proj outputs]
  bool has_mixed;              // else backward makes it again
  Mixed mixed;                 // where has_mixed
  float* conv_states;          // [segments, W-1, conv channels]: incoming convolution windows
  float* ssm_states;           // [segments, H, P, N]: incoming SSM states, without has_mixed
  std::vector<uint8_t> fresh;  // a segment each: it started from zero states
};

// -exp(A_log) [H].
const float* Rates(const Mamba2Params& p, Arena& arena) {
  const int64_t heads = p.A_log.f32.size();
  float* a = arena.Floats(heads);
  DecayRates(p.A_log.F32(), heads, a);
  return a;
}

class Mamba2 : public Branch {
 public:
  explicit Mamba2(const Mamba2Dims& dims) : dims_(dims) {}

  std::unique_ptr<BranchParams> Declare() const override;
  std::vector<StateSpec> State() const override {
    return {{"ssm_state", {dims_.ssd.heads, dims_.ssd.head_dim, dims_.ssd.d_state}},
            {"conv_state", {dims_.conv_width - 1, dims_.conv_channels()}}};
  }
  void Cost(CostSink& sink) const override;
  TrainingBytes Bytes(double element_bytes, Keep keep) const override;
  std::unique_ptr<BranchSaved> NewSaved() const override { return std::make_unique<Mamba2Saved>(); }

  void Forward(const BranchParams& params, const ForwardCall& call, MatrixView h, BranchSaved* saved) const override;
  void Backward(const BranchParams& params, const BackwardCall& call, const BranchSaved& saved, MatrixView dh,
                BranchParams& grads) const override;

 private:
  MatrixView Z(MatrixView zxbcdt) const { return zxbcdt.Cols(0, dims_.d_inner()); }
  MatrixView Xbc(MatrixView zxbcdt) const { return zxbcdt.Cols(dims_.d_inner(), dims_.conv_channels()); }
  MatrixView Dt(MatrixView zxbcdt) const {
    return zxbcdt.Cols(dims_.d_inner() + dims_.conv_channels(), dims_.ssd.heads);
  }
  SsdInputs Inputs(const Mamba2Params& p, MatrixView xbc, MatrixView dt, const float* a) const {
    const int64_t di = dims_.d_inner(), gn = dims_.group_state();
    return {xbc.Cols(0, di), dt, xbc.Cols(di, gn), xbc.Cols(di + gn, gn), a, p.D.F32()};
  }
  // Segments of the convolution and of the scan as the kernels want them; states as the call has them.
  std::span<ConvSegment> ConvSegments(std::span<const LayerSegment> segments, Arena& arena) const;
  std::span<SsdSegment> SsdSegments(std::span<const LayerSegment> segments, Arena& arena) const;
  void KeepStates(const ForwardCall& call, Mamba2Saved& s) const;
  Mixed Mix(const Mamba2Params& p, MatrixView zxbcdt, std::span<const ConvSegment> conv,
            std::span<const SsdSegment> ssd, bool keep, Arena& arena, Arena& scratch) const;
  Mixed MixAgain(const Mamba2Params& p, const BackwardCall& call, const Mamba2Saved& s) const;
  void ScanBackward(const Mamba2Params& p, const BackwardCall& call, const Mamba2Saved& s, const Mixed& mixed,
                    MatrixView dy, MatrixView dxbc, MatrixView ddt, Mamba2Params& g) const;
  void ConvolveBackward(const Mamba2Params& p, const BackwardCall& call, const Mamba2Saved& s, MatrixView dxbc,
                        MatrixView draw, Mamba2Params& g) const;
  Mamba2Dims dims_;
};

std::unique_ptr<BranchParams> Mamba2::Declare() const {
  const int64_t d = dims_.d_model, inner = dims_.d_inner(), channels = dims_.conv_channels(), heads = dims_.ssd.heads;
  const auto scalars = [&](const char* name, Init init) {
    return Weight({.name = name, .group = "mamba2 ssm scalars", .shape = {heads}, .init = init});
  };
  auto p = std::make_unique<Mamba2Params>();
  p->norm = Weight(PreNormSpec("norm.weight", "mamba2 norms", d));
  p->in_proj = Weight({"mixer.in_proj.weight",
                       "mamba2 in_proj",
                       {dims_.in_proj_outputs(), d},
                       Role::kLinear,
                       Init::kNormal,
                       /*decay=*/true});
  p->conv_weight = Weight({"mixer.conv1d.weight",
                           "mamba2 conv",
                           {channels, dims_.conv_width},
                           Role::kVector,
                           Init::kConv,
                           /*decay=*/true,
                           {channels, 1, dims_.conv_width}});
  p->conv_bias =
      Weight({.name = "mixer.conv1d.bias", .group = "mamba2 conv", .shape = {channels}, .init = Init::kZeros});
  p->dt_bias = scalars("mixer.dt_bias", Init::kDtBias);
  p->A_log = scalars("mixer.A_log", Init::kALog);
  p->D = scalars("mixer.D", Init::kOnes);
  p->gated_norm = Weight({.name = "mixer.norm.weight", .group = "mamba2 norms", .shape = {inner}});
  p->out_proj = Weight({"mixer.out_proj.weight",
                        "mamba2 out_proj",
                        {d, inner},
                        Role::kLinear,
                        Init::kNormalResidual,
                        /*decay=*/true});
  return p;
}

void Mamba2::Cost(CostSink& sink) const {
  const double e = sink.element_bytes(), f = CostSink::kF32, t = sink.tokens();
  const double inner = static_cast<double>(dims_.d_inner()), channels = static_cast<double>(dims_.conv_channels());
  const double state_size = static_cast<double>(dims_.ssd.state_size());
  sink.Norm(dims_.d_model);
  sink.Product("in_proj", dims_.in_proj_outputs(), dims_.d_model, e);
  sink.Mixer("conv", t, 2 * static_cast<double>(dims_.conv_width) * channels, e * channels, e * channels);
  // The scan counts as the recurrence. Decoding reads and writes the state for each token; longer runs keep it in the
  // cache.
  const double state = sink.decoding() ? 2 * f * state_size : 0;
  sink.Mixer("ssd", t, 4 * state_size, e * channels + f * static_cast<double>(dims_.ssd.heads) + state, e * inner);
  sink.Pointwise("gated norm", 2 * e * inner, e * inner);
  sink.Product("out_proj", dims_.d_model, dims_.d_inner(), 2 * f);  // added to the stream
}

TrainingBytes Mamba2::Bytes(double e, Keep keep) const {
  const double d = static_cast<double>(dims_.d_model), inner = static_cast<double>(dims_.d_inner());
  const double conv = static_cast<double>(dims_.conv_channels()), heads = static_cast<double>(dims_.ssd.heads);
  const double n = static_cast<double>(dims_.ssd.d_state), chunk = static_cast<double>(dims_.ssd.chunk);
  const double projected = inner + conv + heads, gn = static_cast<double>(dims_.group_state());
  const double always = 4 * d + 4 + e * (d + projected);
  const double mixed = e * (conv + 2 * inner + inner * n / chunk) + 4 * (heads + 1);
  const double ssd = e * 2 * gn + 4 * chunk + std::max(1.0, heads / 4) * 4 * (2 * n + chunk) + 4 * heads;
  const bool all = keep == Keep::kAll;
  return {always + (all ? mixed : 0), (all ? 0 : mixed) + e * (3 * inner + projected + conv + 2 * d) + ssd};
}

void Mamba2::Forward(const BranchParams& params, const ForwardCall& call, MatrixView h, BranchSaved* saved) const {
  const auto& p = static_cast<const Mamba2Params&>(params);
  Arena::Scope scope(*call.scratch);
  Mamba2Saved local;
  Mamba2Saved& s = call.kept() ? static_cast<Mamba2Saved&>(*saved) : local;
  const int64_t t = h.rows;
  PreNorm(p.norm, dims_.eps, call, h, s.norm);
  s.zxbcdt = call.arena().Matrix(t, dims_.in_proj_outputs(), call.dtype);
  {
    const OpTimer timer("in_proj");
    Linear(s.norm.u, p.in_proj, s.zxbcdt);
  }
  if (call.kept()) KeepStates(call, s);
  s.has_mixed = call.keep == Keep::kAll;
  const Mixed mixed =
      Mix(p, s.zxbcdt, ConvSegments(call.segments, *call.scratch), SsdSegments(call.segments, *call.scratch),
          s.has_mixed, s.has_mixed ? *call.results : *call.scratch, *call.scratch);
  if (s.has_mixed) s.mixed = mixed;
  const OpTimer timer("out_proj");
  Linear(mixed.gated, p.out_proj, h, Accumulate::kAdd);
}

std::span<ConvSegment> Mamba2::ConvSegments(std::span<const LayerSegment> segments, Arena& arena) const {
  const size_t n = segments.size();
  ConvSegment* out = arena.Array<ConvSegment>(static_cast<int64_t>(n));
  for (size_t i = 0; i < n; ++i) {
    const LayerSegment& seg = segments[i];
    out[i] = {seg.begin,
              seg.length,
              seg.state_in ? seg.state_in->conv.F32() : nullptr,
              seg.state_out ? seg.state_out->conv.F32() : nullptr,
              nullptr,
              nullptr};
  }
  return {out, n};
}

std::span<SsdSegment> Mamba2::SsdSegments(std::span<const LayerSegment> segments, Arena& arena) const {
  const size_t n = segments.size();
  SsdSegment* out = arena.Array<SsdSegment>(static_cast<int64_t>(n));
  for (size_t i = 0; i < n; ++i) {
    const LayerSegment& seg = segments[i];
    out[i] = {seg.begin,
              seg.length,
              seg.position,
              seg.state_in ? seg.state_in->ssm.F32() : nullptr,
              seg.state_out ? seg.state_out->ssm.F32() : nullptr,
              nullptr,
              nullptr};
  }
  return {out, n};
}

void Mamba2::KeepStates(const ForwardCall& call, Mamba2Saved& s) const {
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

Mixed Mamba2::Mix(const Mamba2Params& p, MatrixView zxbcdt, std::span<const ConvSegment> conv,
                  std::span<const SsdSegment> ssd, bool keep, Arena& arena, Arena& scratch) const {
  const int64_t t = zxbcdt.rows;
  Mixed m;
  m.xbc = arena.Matrix(t, dims_.conv_channels(), zxbcdt.dtype);
  m.dt = arena.Matrix(t, dims_.ssd.heads);
  m.y = arena.Matrix(t, dims_.d_inner(), zxbcdt.dtype);
  m.gated = arena.Matrix(t, dims_.d_inner(), zxbcdt.dtype);
  m.gated_inv_rms = arena.Floats(t * dims_.ssd.groups);
  m.entering = keep ? arena.Bytes(SsdEnteringBytes(dims_.ssd, ssd, zxbcdt.dtype)) : nullptr;
  {
    const OpTimer timer("conv");
    CausalConv1dSilu(Xbc(zxbcdt), p.conv_weight.F32(), p.conv_bias.F32(), dims_.conv_width, conv, m.xbc);
  }
  {
    const OpTimer timer("ssd");
    SsdTimeStep(Dt(zxbcdt), p.dt_bias.F32(), dims_.dt_min, dims_.dt_max, m.dt);
    SsdForward(dims_.ssd, Inputs(p, m.xbc, m.dt, Rates(p, scratch)), ssd, m.y, m.entering, scratch);
  }
  const OpTimer timer("gated norm");
  GatedRmsNorm(m.y, Z(zxbcdt), p.gated_norm.F32(), dims_.eps, dims_.ssd.groups, m.gated, m.gated_inv_rms);
  return m;
}

// From zxbcdt and the states that came in.
Mixed Mamba2::MixAgain(const Mamba2Params& p, const BackwardCall& call, const Mamba2Saved& s) const {
  const std::span<ConvSegment> conv = ConvSegments(call.segments, *call.scratch);
  const std::span<SsdSegment> ssd = SsdSegments(call.segments, *call.scratch);
  const int64_t window = (dims_.conv_width - 1) * dims_.conv_channels();
  for (size_t i = 0; i < conv.size(); ++i) {
    const bool fresh = s.fresh[i] != 0;
    conv[i].state_in = fresh ? nullptr : s.conv_states + static_cast<int64_t>(i) * window;
    ssd[i].state_in = fresh ? nullptr : s.ssm_states + static_cast<int64_t>(i) * dims_.ssd.state_size();
    conv[i].state_out = ssd[i].state_out = nullptr;
  }
  return Mix(p, s.zxbcdt, conv, ssd, /*keep=*/true, *call.scratch, *call.scratch);
}

void Mamba2::Backward(const BranchParams& params, const BackwardCall& call, const BranchSaved& saved, MatrixView dh,
                      BranchParams& grads) const {
  const auto& p = static_cast<const Mamba2Params&>(params);
  const auto& s = static_cast<const Mamba2Saved&>(saved);
  auto& g = static_cast<Mamba2Params&>(grads);
  Arena& scratch = *call.scratch;
  Arena::Scope scope(scratch);
  const int64_t t = dh.rows;
  const Mixed mixed = s.has_mixed ? s.mixed : MixAgain(p, call, s);
  MatrixView dgated = scratch.Matrix(t, dims_.d_inner(), call.dtype);
  {
    const OpTimer timer("out_proj backward");
    const ConstMatrixView dout = InDType(dh, call.dtype, scratch);
    LinearBackwardInput(dout, p.out_proj, dgated);
    LinearBackwardWeight(dout, mixed.gated, g.out_proj.f32.Matrix());
  }
  MatrixView dzxbcdt = scratch.Matrix(t, dims_.in_proj_outputs(), call.dtype);
  MatrixView dy = scratch.Matrix(t, dims_.d_inner(), call.dtype);
  {
    const OpTimer timer("gated norm backward");
    GatedRmsNormBackward(mixed.y, Z(s.zxbcdt), p.gated_norm.F32(), mixed.gated_inv_rms, dims_.ssd.groups, dgated, dy,
                         Z(dzxbcdt), g.gated_norm.F32());
  }
  MatrixView dxbc = scratch.Matrix(t, dims_.conv_channels(), call.dtype);
  ScanBackward(p, call, s, mixed, dy, dxbc, Dt(dzxbcdt), g);
  ConvolveBackward(p, call, s, dxbc, Xbc(dzxbcdt), g);
  MatrixView du = scratch.Matrix(t, dims_.d_model, call.dtype);
  {
    const OpTimer timer("in_proj backward");
    LinearBackwardInput(dzxbcdt, p.in_proj, du);
    LinearBackwardWeight(dzxbcdt, s.norm.u, g.in_proj.f32.Matrix());
  }
  PreNormBackward(p.norm, s.norm, du, dh, g.norm);
}

void Mamba2::ScanBackward(const Mamba2Params& p, const BackwardCall& call, const Mamba2Saved& s, const Mixed& mixed,
                          MatrixView dy, MatrixView dxbc, MatrixView draw, Mamba2Params& g) const {
  const OpTimer timer("ssd backward");
  const size_t n = call.segments.size();
  const int64_t heads = dims_.ssd.heads, di = dims_.d_inner(), gn = dims_.group_state();
  SsdSegment* segments = call.scratch->Array<SsdSegment>(static_cast<int64_t>(n));
  for (size_t i = 0; i < n; ++i) {
    const LayerSegment& seg = call.segments[i];
    segments[i] = {seg.begin, seg.length, seg.position, nullptr, nullptr, nullptr, nullptr};
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
  MatrixView ddt = call.scratch->Matrix(dy.rows, heads);
  SsdBackward(dims_.ssd, Inputs(p, mixed.xbc, mixed.dt, a), {segments, n}, mixed.entering, dy,
              {dxbc.Cols(0, di), ddt, dxbc.Cols(di, gn), dxbc.Cols(di + gn, gn), da, g.D.F32()}, *call.scratch);
  DecayRatesBackward(a, da, heads, g.A_log.F32());
  SsdTimeStepBackward(Dt(s.zxbcdt), p.dt_bias.F32(), dims_.dt_min, dims_.dt_max, ddt, draw, g.dt_bias.F32());
}

void Mamba2::ConvolveBackward(const Mamba2Params& p, const BackwardCall& call, const Mamba2Saved& s, MatrixView dxbc,
                              MatrixView draw, Mamba2Params& g) const {
  const OpTimer timer("conv backward");
  const size_t n = call.segments.size();
  const int64_t width = dims_.conv_width, window = (width - 1) * dims_.conv_channels();
  ConvSegment* segments = call.scratch->Array<ConvSegment>(static_cast<int64_t>(n));
  for (size_t i = 0; i < n; ++i) {
    segments[i] = {call.segments[i].begin, call.segments[i].length, nullptr, nullptr, nullptr, nullptr};
    if (!s.fresh[i]) segments[i].state_in = s.conv_states + static_cast<int64_t>(i) * window;
    if (!call.dstate_out.empty() && call.dstate_out[i] && !call.dstate_out[i]->conv.empty()) {
      segments[i].dstate_out = call.dstate_out[i]->conv.F32();
    }
    if (!call.dstate_in.empty() && call.dstate_in[i]) {
      call.dstate_in[i]->conv = Tensor({width - 1, dims_.conv_channels()});
      segments[i].dstate_in = call.dstate_in[i]->conv.F32();
    }
  }
  CausalConv1dSiluBackward(Xbc(s.zxbcdt), p.conv_weight.F32(), p.conv_bias.F32(), width, {segments, n}, dxbc, draw,
                           g.conv_weight.F32(), g.conv_bias.F32());
}

}  // namespace

std::unique_ptr<Branch> MakeMamba2(const Mamba2Dims& dims) { return std::make_unique<Mamba2>(dims); }

}  // namespace taipan
