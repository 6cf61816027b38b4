#include "model/selection_quantiles.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/files.h"

namespace taipan {
namespace {

std::string PathIn(const std::string& directory) { return directory + "/selection.json"; }

}  // namespace

// A field for each SAL, since fields have no lists of lists.
void VisitFields(SelectionQuantiles& q, const FieldVisitor& visit) {
  visit({.name = "tokens", .help = "of the text", .required = true, .range = AtLeast(1)}, &q.tokens);
  visit({.name = "shares", .help = "of tokens above a margin", .required = true, .range = AboveUpTo(0, 1)}, &q.shares);
  for (size_t s = 0; s < q.margins.size(); ++s) {
    visit({.name = fmt::format("margins_{}", s), .help = "of one selective layer", .required = true}, &q.margins[s]);
  }
}

double MarginQuantile(std::vector<float>& values, double budget) {
  std::erase_if(values, [](float v) { return !std::isfinite(v); });
  CHECK(!values.empty() && budget > 0 && budget <= 1);
  const auto above = static_cast<int64_t>(std::floor(budget * static_cast<double>(values.size()) + 0.5));
  if (above >= static_cast<int64_t>(values.size())) return *std::min_element(values.begin(), values.end()) - 1.0;
  std::nth_element(values.begin(), values.begin() + above, values.end(), std::greater<>());
  return values[static_cast<size_t>(above)];
}

std::vector<double> SelectionQuantiles::ThresholdsAt(double budget) const {
  const auto above = std::lower_bound(shares.begin(), shares.end(), budget);
  const size_t hi = std::min(static_cast<size_t>(above - shares.begin()), shares.size() - 1), lo = hi > 0 ? hi - 1 : 0;
  const double gap = shares[hi] - shares[lo];
  const double at = gap > 0 ? std::clamp((budget - shares[lo]) / gap, 0.0, 1.0) : 0.0;
  std::vector<double> thresholds;
  for (const std::vector<double>& m : margins) thresholds.push_back(m[lo] + at * (m[hi] - m[lo]));
  return thresholds;
}

void SaveSelectionQuantiles(const SelectionQuantiles& quantiles, const std::string& directory) {
  WriteFileAtomically(PathIn(directory), WriteFields(quantiles));
}

SelectionQuantiles LoadSelectionQuantiles(const std::string& directory, int64_t sals) {
  const std::string path = PathIn(directory);
  if (!PathExists(path)) {
    throw UserError({directory, "has no thresholds for other budgets", "selection.json", "none",
                     fmt::format("taipan calibrate {} --text FILE writes it", directory)});
  }
  SelectionQuantiles q;
  q.margins.resize(static_cast<size_t>(sals));
  ReadFields(ParseJson(ReadFile(path), path), path, q);
  const bool ascending = std::is_sorted(q.shares.begin(), q.shares.end(), std::less_equal<>());
  if (q.shares.empty() || !ascending) {
    throw UserError({path, "\"shares\" do not rise", "rising shares", fmt::format("{} values", q.shares.size())});
  }
  for (const std::vector<double>& m : q.margins) {
    if (m.size() == q.shares.size()) continue;
    throw UserError({path, "a list of margins of another length than \"shares\"", fmt::format("{}", q.shares.size()),
                     fmt::format("{}", m.size())});
  }
  return q;
}

}  // namespace taipan
