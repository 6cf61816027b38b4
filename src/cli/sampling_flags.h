#pragma once
// The flags of commands that draw tokens.

#include <CLI/CLI.hpp>

#include "infer/sampler.h"

namespace taipan {

struct SamplingFlags {
  SamplingOptions options;
  bool show_seed = false;
};

void AddSamplingFlags(CLI::App& command, SamplingFlags& flags);
// Once the command line is read: a random seed where none is given, remarks on flags without effect.
void FinishSamplingFlags(const CLI::App& command, SamplingFlags& flags);
// Once the model is known: UserError for ids that it does not have.
void CheckLogitBias(const SamplingOptions& options, int64_t vocab);

}  // namespace taipan
