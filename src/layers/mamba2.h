#pragma once
// The Mamba-2 branch (arXiv 2405.21060; the public Mamba-2's layout): h += mixer(RMSNorm(h)).

#include "layers/mamba2_core.h"

namespace taipan {

std::unique_ptr<Branch> MakeMamba2(const Mamba2Dims& dims);

}  // namespace taipan
