#include "layers/mamba2_block.h"

#include <cmath>
#include <cstring>

#include "kernels/causal_conv1d.h"
#include "kernels/rms_norm.h"

namespace taipan {
namespace {

struct Mamba2Saved : BlockSaved {
  MatrixView h;                // [T, d] the residual stream on entry
  float* inv_rms;              // [T]
  MatrixView u;                // [T, d] normalised
  MatrixView zxbcdt;           // [T, in_proj outputs]
  MatrixView xbc;              // [T, conv channels] after conv and SiLU
  MatrixView dt;               // [T, H]
  MatrixView y;                // [T, d_inner] of the SSD
  float* gated_inv_rms;        // [T, G]
  MatrixView gated;            // [T, d_inner] what out_proj reads
  float* entering;             // [chunks, H, P, N]
  float* conv_states;          // [segments, W-1, conv channels]: incoming convolution windows
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

  BlockCost Cost(int64_t) const override {
    const int64_t di = dims_.d_inner(), n = dims_.ssd.d_state, d = dims_.d_model;
    BlockCost cost;
    cost.flops_per_token =
        2 * d * dims_.in_proj_outputs() + 2 * d * di + 4 * di * n + 2 * dims_.conv_width * dims_.conv_channels();
    cost.saved_floats_per_token = 2 * d + 1 + dims_.in_proj_outputs() + dims_.conv_channels() + dims_.ssd.heads +
                                  2 * di + dims_.ssd.groups + di * n / dims_.ssd.chunk;
    cost.state_bytes = 4 * (di * n + (dims_.conv_width - 1) * dims_.conv_channels());
    return cost;
  }

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
  void Convolve(const Mamba2Params& p, const ForwardCall& call, Mamba2Saved& s) const;
  void Scan(const Mamba2Params& p, const ForwardCall& call, Mamba2Saved& s) const;
  void ScanBackward(const Mamba2Params& p, const BackwardCall& call, const Mamba2Saved& s, MatrixView dy,
                    MatrixView dxbc, MatrixView ddt, Mamba2Params& g) const;
  void ConvolveBackward(const Mamba2Params& p, const BackwardCall& call, const Mamba2Saved& s, MatrixView dxbc,
                        MatrixView draw, Mamba2Params& g) const;

  Mamba2Dims dims_;
};

void Mamba2Block::Forward(const BlockParams& params, const ForwardCall& call, MatrixView h, BlockSaved* saved) const {
  const auto& p = static_cast<const Mamba2Params&>(params);
  Arena::Scope scope(*call.scratch);
  Arena& arena = call.keep ? *call.results : *call.scratch;
  Mamba2Saved local;
  Mamba2Saved& s = call.keep ? static_cast<Mamba2Saved&>(*saved) : local;
  const int64_t t = h.rows;
  s.u = arena.Matrix(t, dims_.d_model);
  s.inv_rms = arena.Floats(t);
  RmsNorm(h, p.norm.F32(), dims_.eps, s.u, s.inv_rms);
  s.zxbcdt = arena.Matrix(t, dims_.in_proj_outputs());
  Linear(s.u, p.in_proj, s.zxbcdt);
  s.xbc = arena.Matrix(t, dims_.conv_channels());
  s.dt = arena.Matrix(t, dims_.ssd.heads);
  s.y = arena.Matrix(t, dims_.d_inner());
  if (call.keep) {
    s.h = arena.Matrix(t, dims_.d_model);
    CopyMatrix(h, s.h);
  }
  Convolve(p, call, s);
  Scan(p, call, s);
  s.gated = arena.Matrix(t, dims_.d_inner());
  s.gated_inv_rms = arena.Floats(t * dims_.ssd.groups);
  GatedRmsNorm(s.y, Z(s.zxbcdt), p.gated_norm.F32(), dims_.eps, dims_.ssd.groups, s.gated, s.gated_inv_rms);
  Linear(s.gated, p.out_proj, h, Accumulate::kAdd);
}

void Mamba2Block::Convolve(const Mamba2Params& p, const ForwardCall& call, Mamba2Saved& s) const {
  const int64_t n = static_cast<int64_t>(call.segments.size()), window = (dims_.conv_width - 1) * dims_.conv_channels();
  ConvSegment* segments = call.scratch->Array<ConvSegment>(n);
  if (call.keep) {
    s.conv_states = call.results->Floats(n * window);
    s.fresh.assign(static_cast<size_t>(n), 1);
  }
  for (int64_t i = 0; i < n; ++i) {
    const LayerSegment& seg = call.segments[static_cast<size_t>(i)];
    segments[i] = {seg.begin,
                   seg.length,
                   seg.state_in ? seg.state_in->conv.F32() : nullptr,
                   seg.state_out ? seg.state_out->conv.F32() : nullptr,
                   nullptr,
                   nullptr};
    if (call.keep && seg.state_in != nullptr) {
      s.fresh[static_cast<size_t>(i)] = 0;
      std::memcpy(s.conv_states + i * window, seg.state_in->conv.F32(), static_cast<size_t>(window) * 4);
    }
  }
  CausalConv1dSilu(Xbc(s.zxbcdt), p.conv_weight.F32(), p.conv_bias.F32(), dims_.conv_width,
                   {segments, static_cast<size_t>(n)}, s.xbc);
}

void Mamba2Block::Scan(const Mamba2Params& p, const ForwardCall& call, Mamba2Saved& s) const {
  const size_t n = call.segments.size();
  SsdSegment* segments = call.scratch->Array<SsdSegment>(static_cast<int64_t>(n));
  for (size_t i = 0; i < n; ++i) {
    const LayerSegment& seg = call.segments[i];
    segments[i] = {seg.begin,
                   seg.length,
                   seg.position,
                   seg.state_in ? seg.state_in->ssm.F32() : nullptr,
                   seg.state_out ? seg.state_out->ssm.F32() : nullptr,
                   nullptr,
                   nullptr};
  }
  SsdTimeStep(Dt(s.zxbcdt), p.dt_bias.F32(), dims_.dt_min, dims_.dt_max, s.dt);
  s.entering = call.keep ? call.results->Floats(SsdChunks(dims_.ssd, {segments, n}) * dims_.ssd.state_size()) : nullptr;
  SsdForward(dims_.ssd, Inputs(p, s.xbc, s.dt, DecayRates(p.A_log, *call.scratch)), {segments, n}, s.y, s.entering,
             *call.scratch);
}

void Mamba2Block::Backward(const BlockParams& params, const BackwardCall& call, const BlockSaved& saved, MatrixView dh,
                           BlockParams& grads) const {
  const auto& p = static_cast<const Mamba2Params&>(params);
  const auto& s = static_cast<const Mamba2Saved&>(saved);
  auto& g = static_cast<Mamba2Params&>(grads);
  Arena::Scope scope(*call.scratch);
  const int64_t t = dh.rows;
  MatrixView dgated = call.scratch->Matrix(t, dims_.d_inner());
  LinearBackwardInput(dh, p.out_proj, dgated);
  LinearBackwardWeight(dh, s.gated, g.out_proj.master.Matrix());
  MatrixView dzxbcdt = call.scratch->Matrix(t, dims_.in_proj_outputs());
  MatrixView dy = call.scratch->Matrix(t, dims_.d_inner());
  GatedRmsNormBackward(s.y, Z(s.zxbcdt), p.gated_norm.F32(), s.gated_inv_rms, dims_.ssd.groups, dgated, dy, Z(dzxbcdt),
                       g.gated_norm.F32());
  MatrixView dxbc = call.scratch->Matrix(t, dims_.conv_channels());
  ScanBackward(p, call, s, dy, dxbc, Dt(dzxbcdt), g);
  ConvolveBackward(p, call, s, dxbc, Xbc(dzxbcdt), g);
  MatrixView du = call.scratch->Matrix(t, dims_.d_model);
  LinearBackwardInput(dzxbcdt, p.in_proj, du);
  LinearBackwardWeight(dzxbcdt, s.u, g.in_proj.master.Matrix());
  RmsNormBackward(s.h, p.norm.F32(), s.inv_rms, du, dh, Accumulate::kAdd, g.norm.F32());
}

void Mamba2Block::ScanBackward(const Mamba2Params& p, const BackwardCall& call, const Mamba2Saved& s, MatrixView dy,
                               MatrixView dxbc, MatrixView draw, Mamba2Params& g) const {
  const size_t n = call.segments.size();
  const int64_t heads = dims_.ssd.heads, di = dims_.d_inner(), gn = dims_.ssd.groups * dims_.ssd.d_state;
  SsdSegment* segments = call.scratch->Array<SsdSegment>(static_cast<int64_t>(n));
  for (size_t i = 0; i < n; ++i) {
    const LayerSegment& seg = call.segments[i];
    segments[i] = {seg.begin, seg.length, seg.position, nullptr, nullptr, nullptr, nullptr};
    if (!s.fresh[i]) segments[i].state_in = s.entering;  // only whether there was one matters: values are in `entering`
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
  SsdBackward(dims_.ssd, Inputs(p, s.xbc, s.dt, a), {segments, n}, s.entering, dy,
              {dxbc.Cols(0, di), ddt, dxbc.Cols(di, gn), dxbc.Cols(di + gn, gn), da, g.D.F32()}, *call.scratch);
  for (int64_t h = 0; h < heads; ++h) g.A_log.F32()[h] += da[h] * a[h];  // dA / dA_log = A
  SsdTimeStepBackward(Dt(s.zxbcdt), p.dt_bias.F32(), dims_.dt_min, dims_.dt_max, ddt, draw, g.dt_bias.F32());
}

void Mamba2Block::ConvolveBackward(const Mamba2Params& p, const BackwardCall& call, const Mamba2Saved& s,
                                   MatrixView dxbc, MatrixView draw, Mamba2Params& g) const {
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
  visit({"mixer.in_proj.weight", true, Init::kNormal, {}}, in_proj.master);
  visit({"mixer.conv1d.weight", true, Init::kConv, {conv_weight.shape()[0], 1, conv_weight.shape()[1]}}, conv_weight);
  visit({"mixer.conv1d.bias", false, Init::kZeros, {}}, conv_bias);
  visit({"mixer.dt_bias", false, Init::kDtBias, {}}, dt_bias);
  visit({"mixer.A_log", false, Init::kALog, {}}, A_log);
  visit({"mixer.D", false, Init::kOnes, {}}, D);
  visit({"mixer.norm.weight", false, Init::kOnes, {}}, gated_norm);
  visit({"mixer.out_proj.weight", true, Init::kNormalResidual, {}}, out_proj.master);
}

std::unique_ptr<Block> MakeMamba2Block(const Mamba2Dims& dims) { return std::make_unique<Mamba2Block>(dims); }

}  // namespace taipan
