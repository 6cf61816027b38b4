#include "layers/mamba2_block.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/op_timer.h"
#include "kernels/causal_conv1d.h"
#include "kernels/convert.h"
#include "kernels/rms_norm.h"

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

struct Mamba2Saved : BlockSaved {
  MatrixView h;                // [T, d] the residual stream on entry
  float* inv_rms;              // [T]
  MatrixView u;                // [T, d] normalised
  MatrixView zxbcdt;           // [T, in_proj outputs]
  bool has_mixed;              // else backward makes it again
  Mixed mixed;                 // where has_mixed
  float* conv_states;          // [segments, W-1, conv channels]: incoming convolution windows
  float* ssm_states;           // [segments, H, P, N]: incoming SSM states, without has_mixed
  std::vector<uint8_t> fresh;  // a segment each: it started from zero states
};

// -exp(A_log) [H].
float* DecayRates(const Tensor& a_log, Arena& arena) {
  float* a = arena.Floats(a_log.size());
  for (int64_t h = 0; h < a_log.size(); ++h) a[h] = -std::exp(a_log.F32()[h]);
  return a;
}

class Mamba2Block : public Block {
 public:
  explicit Mamba2Block(const Mamba2Dims& dims) : dims_(dims) {}

  std::unique_ptr<BlockParams> NewParams() const override {
    auto p = std::make_unique<Mamba2Params>();
    const int64_t heads = dims_.ssd.heads, channels = dims_.conv_channels();
    p->norm = Tensor({dims_.d_model});
    p->in_proj.master = Tensor({dims_.in_proj_outputs(), dims_.d_model});
    p->conv_weight = Tensor({channels, dims_.conv_width});
    p->conv_bias = Tensor({channels});
    p->dt_bias = Tensor({heads});
    p->A_log = Tensor({heads});
    p->D = Tensor({heads});
    p->gated_norm = Tensor({dims_.d_inner()});
    p->out_proj.master = Tensor({dims_.d_model, dims_.d_inner()});
    return p;
  }
  std::unique_ptr<BlockSaved> NewSaved() const override { return std::make_unique<Mamba2Saved>(); }

  LayerState NewState() const override {
    LayerState s;
    s.ssm = Tensor({dims_.ssd.heads, dims_.ssd.head_dim, dims_.ssd.d_state});
    s.conv = Tensor({dims_.conv_width - 1, dims_.conv_channels()});
    return s;
  }
  int residual_branches() const override { return 1; }

  void Forward(const BlockParams& params, const ForwardCall& call, MatrixView h, BlockSaved* saved) const override;
  void Backward(const BlockParams& params, const BackwardCall& call, const BlockSaved& saved, MatrixView dh,
                BlockParams& grads) const override;

 private:
  MatrixView Z(MatrixView zxbcdt) const { return zxbcdt.Cols(0, dims_.d_inner()); }
  MatrixView Xbc(MatrixView zxbcdt) const { return zxbcdt.Cols(dims_.d_inner(), dims_.conv_channels()); }
  MatrixView Dt(MatrixView zxbcdt) const {
    return zxbcdt.Cols(dims_.d_inner() + dims_.conv_channels(), dims_.ssd.heads);
  }
  SsdInputs Inputs(const Mamba2Params& p, MatrixView xbc, MatrixView dt, const float* a) const {
    const int64_t di = dims_.d_inner(), gn = dims_.ssd.groups * dims_.ssd.d_state;
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
  double ScanFlops(int64_t rows) const {  // of the recurrence
    return 4.0 * static_cast<double>(rows) * static_cast<double>(dims_.ssd.state_size());
  }
  double ConvFlops(int64_t rows) const {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(dims_.conv_width * dims_.conv_channels());
  }

  Mamba2Dims dims_;
};

void Mamba2Block::Forward(const BlockParams& params, const ForwardCall& call, MatrixView h, BlockSaved* saved) const {
  const auto& p = static_cast<const Mamba2Params&>(params);
  Arena::Scope scope(*call.scratch);
  Arena& arena = call.keep ? *call.results : *call.scratch;
  Mamba2Saved local;
  Mamba2Saved& s = call.keep ? static_cast<Mamba2Saved&>(*saved) : local;
  const int64_t t = h.rows;
  s.u = arena.Matrix(t, dims_.d_model, call.dtype);
  s.inv_rms = arena.Floats(t);
  {
    const OpTimer timer("norm");
    RmsNorm(h, p.norm.F32(), dims_.eps, s.u, s.inv_rms);
    if (call.keep) {
      s.h = arena.Matrix(t, dims_.d_model);
      Convert(h, s.h);
    }
  }
  s.zxbcdt = arena.Matrix(t, dims_.in_proj_outputs(), call.dtype);
  {
    const OpTimer timer("in_proj", LinearFlops(t, p.in_proj));
    Linear(s.u, p.in_proj, s.zxbcdt);
  }
  if (call.keep) KeepStates(call, s);
  s.has_mixed = call.keep && call.keep_mixer;
  const Mixed mixed =
      Mix(p, s.zxbcdt, ConvSegments(call.segments, *call.scratch), SsdSegments(call.segments, *call.scratch),
          s.has_mixed, s.has_mixed ? *call.results : *call.scratch, *call.scratch);
  if (s.has_mixed) s.mixed = mixed;
  const OpTimer timer("out_proj", LinearFlops(t, p.out_proj));
  Linear(mixed.gated, p.out_proj, h, Accumulate::kAdd);
}

std::span<ConvSegment> Mamba2Block::ConvSegments(std::span<const LayerSegment> segments, Arena& arena) const {
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

std::span<SsdSegment> Mamba2Block::SsdSegments(std::span<const LayerSegment> segments, Arena& arena) const {
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

void Mamba2Block::KeepStates(const ForwardCall& call, Mamba2Saved& s) const {
  const int64_t n = static_cast<int64_t>(call.segments.size()), window = (dims_.conv_width - 1) * dims_.conv_channels();
  const int64_t state = dims_.ssd.state_size();
  s.fresh.clear();
  for (const LayerSegment& seg : call.segments) s.fresh.push_back(seg.state_in == nullptr);
  const bool all_fresh = std::all_of(s.fresh.begin(), s.fresh.end(), [](uint8_t f) { return f != 0; });
  s.conv_states = all_fresh ? nullptr : call.results->Floats(n * window);
  s.ssm_states = all_fresh || call.keep_mixer ? nullptr : call.results->Floats(n * state);
  for (int64_t i = 0; i < n; ++i) {
    const LayerState* in = call.segments[static_cast<size_t>(i)].state_in;
    if (in == nullptr) continue;
    std::memcpy(s.conv_states + i * window, in->conv.F32(), static_cast<size_t>(window) * 4);
    if (s.ssm_states) std::memcpy(s.ssm_states + i * state, in->ssm.F32(), static_cast<size_t>(state) * 4);
  }
}

Mixed Mamba2Block::Mix(const Mamba2Params& p, MatrixView zxbcdt, std::span<const ConvSegment> conv,
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
    const OpTimer timer("conv", ConvFlops(t));
    CausalConv1dSilu(Xbc(zxbcdt), p.conv_weight.F32(), p.conv_bias.F32(), dims_.conv_width, conv, m.xbc);
  }
  {
    const OpTimer timer("ssd", ScanFlops(t));
    SsdTimeStep(Dt(zxbcdt), p.dt_bias.F32(), dims_.dt_min, dims_.dt_max, m.dt);
    SsdForward(dims_.ssd, Inputs(p, m.xbc, m.dt, DecayRates(p.A_log, scratch)), ssd, m.y, m.entering, scratch);
  }
  const OpTimer timer("gated norm");
  GatedRmsNorm(m.y, Z(zxbcdt), p.gated_norm.F32(), dims_.eps, dims_.ssd.groups, m.gated, m.gated_inv_rms);
  return m;
}

// From zxbcdt and the states that came in.
Mixed Mamba2Block::MixAgain(const Mamba2Params& p, const BackwardCall& call, const Mamba2Saved& s) const {
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

void Mamba2Block::Backward(const BlockParams& params, const BackwardCall& call, const BlockSaved& saved, MatrixView dh,
                           BlockParams& grads) const {
  const auto& p = static_cast<const Mamba2Params&>(params);
  const auto& s = static_cast<const Mamba2Saved&>(saved);
  auto& g = static_cast<Mamba2Params&>(grads);
  Arena& scratch = *call.scratch;
  Arena::Scope scope(scratch);
  const int64_t t = dh.rows;
  const Mixed mixed = s.has_mixed ? s.mixed : MixAgain(p, call, s);
  MatrixView dgated = scratch.Matrix(t, dims_.d_inner(), call.dtype);
  {
    const OpTimer timer("out_proj backward", 2 * LinearFlops(t, p.out_proj));
    const ConstMatrixView dout = InDType(dh, call.dtype, scratch);
    LinearBackwardInput(dout, p.out_proj, dgated);
    LinearBackwardWeight(dout, mixed.gated, g.out_proj.master.Matrix());
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
    const OpTimer timer("in_proj backward", 2 * LinearFlops(t, p.in_proj));
    LinearBackwardInput(dzxbcdt, p.in_proj, du);
    LinearBackwardWeight(dzxbcdt, s.u, g.in_proj.master.Matrix());
  }
  const OpTimer timer("norm backward");
  RmsNormBackward(s.h, p.norm.F32(), s.inv_rms, du, dh, Accumulate::kAdd, g.norm.F32());
}

void Mamba2Block::ScanBackward(const Mamba2Params& p, const BackwardCall& call, const Mamba2Saved& s,
                               const Mixed& mixed, MatrixView dy, MatrixView dxbc, MatrixView draw,
                               Mamba2Params& g) const {
  const OpTimer timer("ssd backward", 2 * ScanFlops(dy.rows));
  const size_t n = call.segments.size();
  const int64_t heads = dims_.ssd.heads, di = dims_.d_inner(), gn = dims_.ssd.groups * dims_.ssd.d_state;
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
  const float* a = DecayRates(p.A_log, *call.scratch);
  float* da = call.scratch->Floats(heads);
  std::memset(da, 0, static_cast<size_t>(heads) * 4);
  MatrixView ddt = call.scratch->Matrix(dy.rows, heads);
  SsdBackward(dims_.ssd, Inputs(p, mixed.xbc, mixed.dt, a), {segments, n}, mixed.entering, dy,
              {dxbc.Cols(0, di), ddt, dxbc.Cols(di, gn), dxbc.Cols(di + gn, gn), da, g.D.F32()}, *call.scratch);
  for (int64_t h = 0; h < heads; ++h) g.A_log.F32()[h] += da[h] * a[h];  // dA / dA_log = A
  SsdTimeStepBackward(Dt(s.zxbcdt), p.dt_bias.F32(), dims_.dt_min, dims_.dt_max, ddt, draw, g.dt_bias.F32());
}

void Mamba2Block::ConvolveBackward(const Mamba2Params& p, const BackwardCall& call, const Mamba2Saved& s,
                                   MatrixView dxbc, MatrixView draw, Mamba2Params& g) const {
  const OpTimer timer("conv backward", 2 * ConvFlops(dxbc.rows));
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

void Mamba2Params::ForEach(const ParamVisitor& visit) {
  visit({"norm.weight", false, Init::kOnes, {}}, norm);
  visit({"mixer.in_proj.weight", true, Init::kNormal, {}, &in_proj.bf16}, in_proj.master);
  visit({"mixer.conv1d.weight", true, Init::kConv, {conv_weight.shape()[0], 1, conv_weight.shape()[1]}}, conv_weight);
  visit({"mixer.conv1d.bias", false, Init::kZeros, {}}, conv_bias);
  visit({"mixer.dt_bias", false, Init::kDtBias, {}}, dt_bias);
  visit({"mixer.A_log", false, Init::kALog, {}}, A_log);
  visit({"mixer.D", false, Init::kOnes, {}}, D);
  visit({"mixer.norm.weight", false, Init::kOnes, {}}, gated_norm);
  visit({"mixer.out_proj.weight", true, Init::kNormalResidual, {}, &out_proj.bf16}, out_proj.master);
}

std::unique_ptr<Block> MakeMamba2Block(const Mamba2Dims& dims) { return std::make_unique<Mamba2Block>(dims); }

}  // namespace taipan
