#pragma once
// The Mamba-2 mixer between a norm and the residual stream, alone in its branch or beside attention:
// h += out_multiplier * out_proj(Gated(SSD(silu(conv([x|B|C])), dt), z)) with [z|x|B|C|dt] = in_proj(u), each of the
// five times its multiplier.

#include <array>

#include "kernels/causal_conv1d.h"
#include "kernels/rms_norm.h"
#include "kernels/ssd/ssd.h"
#include "layers/branch.h"
#include "layers/gated_norm.h"

namespace taipan {

struct Mamba2Dims {
  int64_t d_model = 0;
  SsdShape ssd;  // heads, head_dim, d_state, groups, chunk
  int64_t conv_width = 4;
  float dt_min = 0, dt_max = 0;  // time_step_limit
  float eps = 1e-5f;
  GatedNorm gated_norm = GatedNorm::kGateFirst;
  std::array<float, 5> multipliers = {1, 1, 1, 1, 1};  // of z, x, B, C, dt
  float out_multiplier = 1;

  int64_t d_inner() const { return ssd.heads * ssd.head_dim; }
  int64_t group_state() const { return ssd.groups * ssd.d_state; }  // of B, and of C
  int64_t conv_channels() const { return d_inner() + 2 * group_state(); }
  int64_t in_proj_outputs() const { return d_inner() + conv_channels() + ssd.heads; }
};

struct Mamba2Weights {
  Weight in_proj;                 // [2 d_inner + 2GN + H, d], rows z | x | B | C | dt
  Weight conv_weight, conv_bias;  // [d_inner + 2GN, W], [d_inner + 2GN]
  Weight dt_bias, A_log, D;       // [H]
  Weight gated_norm;              // [d_inner]; not declared with kNone
  Weight out_proj;                // [d, d_inner]

  explicit Mamba2Weights(const Mamba2Dims& dims);
  void ForEach(const WeightVisitor& visit);
};

// What convolution, scan and gated norm give; the way back needs it too.
struct Mamba2Mixed {
  MatrixView xbc;     // [T, conv channels] after conv and SiLU
  MatrixView dt;      // [T, H] f32
  MatrixView y;       // [T, d_inner] of the SSD
  float* inv_rms;     // kGateFirst [T, G], kNormFirst [G, T]
  MatrixView normed;  // kNormFirst: [T, d_inner] before the gate
  MatrixView gated;   // [T, d_inner] what out_proj reads
  void* entering;     // states that enter the chunks; null: not kept
};

// What the time steps of one forward were like.
struct TimeStepReport : BranchReport {
  float least = 0, most = 0;
  double mean = 0;
  int64_t count = 0;  // 0: there are none
};

struct Mamba2Segments {
  std::span<ConvSegment> conv;
  std::span<SsdSegment> ssd;
};

struct Mamba2Saved {
  ConstMatrixView u;           // [T, d] what in_proj reads; lives as long as what is saved
  MatrixView zxbcdt;           // [T, in_proj outputs]
  bool has_mixed;              // else backward makes it again
  Mamba2Mixed mixed;           // where has_mixed
  float* conv_states;          // [segments, W-1, conv channels]: incoming convolution windows
  float* ssm_states;           // [segments, H, P, N]: incoming SSM states, without has_mixed
  std::vector<uint8_t> fresh;  // a segment each: it started from zero states
};

struct Mamba2Gradients {
  ConstMatrixView dh;  // [T, d] f32
  MatrixView du;       // [T, d] in f32 or the call's type (f32 alone with kAdd)
  Accumulate acc = Accumulate::kWrite;
};

// A call's report may be a TimeStepReport.
class Mamba2Mixer {
 public:
  explicit Mamba2Mixer(const Mamba2Dims& dims) : dims_(dims) {}

  const Mamba2Dims& dims() const { return dims_; }
  std::vector<StateSpec> State() const;
  void Cost(CostSink& sink) const;
  TrainingBytes Bytes(double element_bytes, Keep keep) const;

  // h [T, d] += the mixer of u [T, d], which is in the call's type.
  void Forward(const Mamba2Weights& p, const ForwardCall& call, ConstMatrixView u, MatrixView h,
               Mamba2Saved& saved) const;
  void Advance(const Mamba2Weights& p, const Mamba2Saved& saved, int64_t begin, int64_t count, LayerState& state,
               Arena& scratch) const;
  void Backward(const Mamba2Weights& p, const BackwardCall& call, const Mamba2Saved& saved, const Mamba2Gradients& out,
                Mamba2Weights& grads) const;

 private:
  // Of zxbcdt, of xbc after the convolution, and of y.
  struct MixedGradients {
    MatrixView dzxbcdt, dxbc, dy;
  };

  MatrixView Z(MatrixView zxbcdt) const { return zxbcdt.Cols(0, dims_.d_inner()); }
  MatrixView Xbc(MatrixView zxbcdt) const { return zxbcdt.Cols(dims_.d_inner(), dims_.conv_channels()); }
  MatrixView Dt(MatrixView zxbcdt) const {
    return zxbcdt.Cols(dims_.d_inner() + dims_.conv_channels(), dims_.ssd.heads);
  }
  // Each of the five parts of zxbcdt, or of its gradient, times its multiplier.
  void MultiplyParts(MatrixView zxbcdt) const;
  SsdInputs Inputs(const Mamba2Weights& p, MatrixView xbc, MatrixView dt, const float* a) const {
    const int64_t di = dims_.d_inner(), gn = dims_.group_state();
    return {xbc.Cols(0, di), dt, xbc.Cols(di, gn), xbc.Cols(di + gn, gn), a, p.D.F32()};
  }
  ConvInputs Convolution(const Mamba2Weights& p, MatrixView zxbcdt, std::span<const ConvSegment> segments) const {
    return {Xbc(zxbcdt), p.conv_weight.F32(), p.conv_bias.F32(), dims_.conv_width, segments};
  }
  TimeStepInputs TimeStep(const Mamba2Weights& p, MatrixView zxbcdt) const {
    return {Dt(zxbcdt), p.dt_bias.F32(), dims_.dt_min, dims_.dt_max};
  }
  GatedNormInputs GateFirst(const Mamba2Weights& p, MatrixView z, const Mamba2Mixed& m) const {
    return {m.y, z, p.gated_norm.F32(), dims_.ssd.groups, dims_.eps};
  }
  // As the kernels want them; states as the call has them. steps: token by token.
  Mamba2Segments Segments(std::span<const LayerSegment> segments, bool steps, Arena& arena) const;
  void KeepStates(const ForwardCall& call, Mamba2Saved& s) const;
  Mamba2Mixed Mix(const Mamba2Weights& p, MatrixView zxbcdt, const Mamba2Segments& segments, bool keep, Arena& arena,
                  Arena& scratch) const;
  Mamba2Mixed MixAgain(const Mamba2Weights& p, const BackwardCall& call, const Mamba2Saved& s) const;
  void Gate(const Mamba2Weights& p, MatrixView z, Arena& arena, Mamba2Mixed& m) const;
  void GateBackward(const Mamba2Weights& p, const Mamba2Mixed& m, MatrixView z, const GatedNormGradients& out,
                    Arena& scratch) const;
  void ScanBackward(const Mamba2Weights& p, const BackwardCall& call, const Mamba2Saved& s, const Mamba2Mixed& mixed,
                    const MixedGradients& d, Mamba2Weights& g) const;
  void ConvolveBackward(const Mamba2Weights& p, const BackwardCall& call, const Mamba2Saved& s, const MixedGradients& d,
                        Mamba2Weights& g) const;
  Mamba2Dims dims_;
};

}  // namespace taipan
