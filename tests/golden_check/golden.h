#pragma once
// What the golden checks share: the folder, its sets, tolerances, and notes for the end of the run.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "formats/safetensors.h"
#include "model/model.h"

namespace taipan::golden {

// The folder: TAIPAN_GOLDEN from the environment, else the project's own. No slash at the end.
const std::string& Root();
std::string PathOf(const std::string& relative);

nlohmann::json ReadJson(const std::string& relative);
std::vector<nlohmann::json> ReadJsonLines(const std::string& relative);

// The folders of `kind` ("logits", ...), sorted; none where the kind is missing.
std::vector<std::string> SetsOf(const std::string& kind);

// The f32 values of a tensor, with its shape checked where one is given.
std::vector<float> Values(const SafetensorsFile& file, const std::string& name,
                          const std::optional<std::vector<int64_t>>& shape = std::nullopt);
std::vector<uint8_t> Bytes(const SafetensorsFile& file, const std::string& name, int64_t n);
std::vector<std::vector<int32_t>> ReadTokens(const std::string& relative);  // a JSON array of ids a line

double MaxAbs(const std::vector<float>& x);
// The largest difference, NaN where either holds one. Sizes must agree.
double MaxDifference(const std::vector<float>& a, const std::vector<float>& b);

// The bounds of one set. logits: the max(2e-4, 5 * oracle_float32_max_abs_error). Everything else is another
// readout of the same residual stream, so that it may be off, relative to its own largest value, by what the logits may
// be relative to theirs.
struct Bounds {
  double logits = 0, relative = 0;

  double Of(const std::vector<float>& expected) const { return relative * MaxAbs(expected); }
};
Bounds BoundsOf(double oracle_error, double max_abs_logit);
// Of the logits set of this model where `info` has none itself; 0 where no set knows.
double OracleError(const nlohmann::json& info);

// A line for the end of the run: near-ties that flipped, what was skipped.
void Note(const std::string& text);
const std::vector<std::string>& Notes();

// One test for each set; Check fails through GoogleTest's macros.
using Check = void (*)(const std::string& folder);
void CheckLogits(const std::string& folder);
void CheckLogits(const std::string& folder, const std::string& model);  // of another file of the same weights
void CheckStates(const std::string& folder);
void CheckGradients(const std::string& folder);
void CheckTrajectory(const std::string& folder);

// The file of one of the tokenizers of tokenizers/samples.jsonl, "" where TAIPAN_TOKENIZERS names no folder with it.
std::string TokenizerFile(const std::string& name);
void CheckTokenizer(const std::string& name);

}  // namespace taipan::golden
