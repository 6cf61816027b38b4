#pragma once
// What a layer declares of itself before any memory is taken: its weights, what it remembers of a sequence, its work.
// Everything else that has to know (files, initialisation, optimizer, memory plans, FLOPs, state files) reads this.

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace taipan {

using Shape = std::vector<int64_t>;

enum class Init {
  kNormal,          // N(0, initializer_range)
  kNormalResidual,  // N(0, initializer_range / sqrt(residual branches)): projections that write to the residual stream
  kOnes,
  kZeros,
  kConv,      // uniform +-1/sqrt(W), the default of torch.nn.Conv1d with one channel a group
  kALog,      // log of uniform [1, 16]
  kDtBias,    // inverse softplus of log-uniform [1e-3, 1e-1], floor 1e-4
  kGateBias,  // [-b/2, b/2] with b the initial s_1 - s_0
};

enum class Role {
  kVector,  // read in f32 by kernels: norms, biases, scalars of heads, convolutions
  kLinear,  // [N, K], read by matrix products, in f32, bf16 or quantized
};

struct WeightPart {
  int64_t rows = 0;
  bool grows = true;  // with the model's width
};

struct WeightSpec {
  std::string name;   // as in our files: "mixer.in_proj.weight", below the layer; with its prefix once in a model
  std::string group;  // of the table in `inspect`: "mamba2 in_proj"
  Shape shape;
  Role role = Role::kVector;
  Init init = Init::kOnes;
  bool decay = false;
  Shape file_shape = {};               // where it differs from shape: conv1d.weight is [C, 1, W] in files
  std::vector<WeightPart> parts = {};  // linear maps that lie in one matrix for speed, from the top; empty: it is one

  double count() const {  // elements; a double, because sizes of unchecked configs must not wrap round
    double n = 1;
    for (const int64_t size : shape) n *= static_cast<double>(size);
    return n;
  }
  std::vector<WeightPart> Parts() const { return parts.empty() ? std::vector<WeightPart>{{shape[0]}} : parts; }
  const Shape& stored_shape() const { return file_shape.empty() ? shape : file_shape; }
};

// What one layer remembers of one sequence.
struct StateSpec {
  std::string name;        // in state files, below the layer: "ssm_state"
  Shape shape;             // of the whole, f32; per token where per_token: [heads, head_dim]
  bool per_token = false;  // keys or values: one a token
  int64_t window = 0;      // per_token: at most so many tokens stay; 0: all

  int64_t tokens(int64_t context) const { return window > 0 ? std::min(window, context) : context; }  // that stay
  double count(int64_t context) const {  // elements after `context` tokens
    double n = 1;
    for (const int64_t size : shape) n *= static_cast<double>(size);
    return per_token ? n * static_cast<double>(tokens(context)) : n;
  }
};

}  // namespace taipan
