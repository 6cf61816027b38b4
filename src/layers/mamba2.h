#pragma once
// The Mamba-2 mixer (arXiv 2405.21060; the public Mamba-2's layout):
// h += out_proj(GatedNorm(SSD(silu(conv([x|B|C])), dt), z)) with [z|x|B|C|dt] = in_proj(RMSNorm(h)).

#include "kernels/ssd.h"
#include "layers/branch.h"

namespace taipan {

struct Mamba2Dims {
  int64_t d_model = 0;
  SsdShape ssd;  // heads, head_dim, d_state, groups, chunk
  int64_t conv_width = 4;
  float dt_min = 0, dt_max = 0;  // time_step_limit
  float eps = 1e-5f;

  int64_t d_inner() const { return ssd.heads * ssd.head_dim; }
  int64_t group_state() const { return ssd.groups * ssd.d_state; }  // of B, and of C
  int64_t conv_channels() const { return d_inner() + 2 * group_state(); }
  int64_t in_proj_outputs() const { return d_inner() + conv_channels() + ssd.heads; }
};

std::unique_ptr<Branch> MakeMamba2(const Mamba2Dims& dims);

}  // namespace taipan
