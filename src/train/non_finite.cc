#include "train/non_finite.h"

#include <fmt/format.h>

#include <cmath>
#include <functional>

#include "kernels/adamw.h"

namespace taipan {
namespace {

// Of one forward: the layer, and the row of h.
struct Place {
  int64_t layer = -2, row = -1;  // layer -1: the embedding, -2: none
};

Place FirstBadOutput(const LanguageModel& model, const Batch& batch, const GateOptions& gate, ForwardContext& context) {
  Place place;
  const auto look = [&](int64_t layer, ConstMatrixView h) {
    if (place.layer != -2) return;
    for (int64_t row = 0; row < h.rows; ++row) {
      if (std::isfinite(SquaredNorm(h.F32(row), h.cols))) continue;
      place = {layer, row};
      return;
    }
  };
  model.Forward(batch, gate, /*keep=*/false, context, look);
  return place;
}

std::string NameOf(const LanguageModel& model, const Batch& batch, const Place& place) {
  const auto layer = static_cast<size_t>(place.layer);
  const std::string name = place.layer == -1
                               ? std::string("the embedding")
                               : fmt::format("layer {} ({})", layer, RowOf(model.layers()[layer].kind).name);
  for (const Segment& s : batch.segments) {
    if (place.row < s.begin || place.row >= s.begin + s.length) continue;
    return fmt::format("{} at token {} of sequence {}", name, s.row_begin + place.row - s.begin, s.row);
  }
  return name;
}

}  // namespace

std::string FirstNonFinite(ModelParams& params) {
  std::string name;
  params.ForEach([&](Weight& p) {
    // The sum of the squares of finite floats cannot overflow a double, so the norm decides.
    if (name.empty() && !std::isfinite(SquaredNorm(p.F32(), p.f32.size()))) name = p.spec.name;
  });
  return name;
}

std::string FindNonFinite(LanguageModel& model, const std::string& gradient, std::span<const Batch> batches,
                          const GateOptions& gate, ForwardContext& context) {
  const std::string weight = FirstNonFinite(model.params());
  std::string output;
  for (const Batch& batch : batches) {
    const Place place = FirstBadOutput(model, batch, gate, context);
    if (place.layer == -2) continue;
    output = "the output of " + NameOf(model, batch, place);
    break;
  }
  // A bad weight makes outputs bad, and both make every gradient bad.
  if (!weight.empty()) {
    return fmt::format("weight {} (the first that is not finite){}", weight, output.empty() ? "" : ", " + output);
  }
  if (!output.empty()) return output + " (the first that is not finite; all weights are)";
  if (!gradient.empty())
    return "gradient of " + gradient + " (the first that is not finite; all outputs of layers are)";
  return "no weight, no output of a layer and no gradient, the loss alone";
}

}  // namespace taipan
