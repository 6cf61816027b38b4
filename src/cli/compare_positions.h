#pragma once
// Losses by position side by side.

#include <string>
#include <vector>

namespace taipan {

// paths: what `taipan score --by-position --json` printed. svg: "" for none.
void ComparePositions(const std::vector<std::string>& paths, const std::string& svg, bool json);

}  // namespace taipan
