#pragma once
// The Mamba-2 block (arXiv 2405.21060; the public Mamba-2's layout):
// h += out_proj(GatedNorm(SSD(silu(conv([x|B|C])), dt), z)) with [z|x|B|C|dt] = in_proj(RMSNorm(h)).

#include "kernels/gemm.h"
#include "kernels/ssd.h"
#include "layers/block.h"

namespace taipan {

struct Mamba2Dims {
  int64_t d_model = 0;
  SsdShape ssd;  // heads, head_dim, d_state, groups, chunk
  int64_t conv_width = 4;
  float dt_min = 0, dt_max = 0;  // time_step_limit
  float eps = 1e-5f;

  int64_t d_inner() const { return ssd.heads * ssd.head_dim; }
  int64_t conv_channels() const { return d_inner() + 2 * ssd.groups * ssd.d_state; }
  int64_t in_proj_outputs() const { return d_inner() + conv_channels() + ssd.heads; }
};

struct Mamba2Params : BlockParams {
  Tensor norm;                    // [d]
  LinearWeight in_proj;           // [2 d_inner + 2GN + H, d], rows z | x | B | C | dt
  Tensor conv_weight, conv_bias;  // [d_inner + 2GN, W], [d_inner + 2GN]
  Tensor dt_bias, A_log, D;       // [H]
  Tensor gated_norm;              // [d_inner]
  LinearWeight out_proj;          // [d, d_inner]
  void ForEach(const ParamVisitor& visit) override;
};

std::unique_ptr<Block> MakeMamba2Block(const Mamba2Dims& dims);

}  // namespace taipan
