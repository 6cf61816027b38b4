#pragma once
// The results of an evaluation for people: a page and a chart.

#include <nlohmann/json.hpp>
#include <string>

namespace taipan {

// Both of the JSON that `taipan eval --json` prints. The page is one HTML file that needs no network; everything from
// outside stands in it as text.
std::string EvalPage(const nlohmann::ordered_json& report);
std::string EvalSvg(const nlohmann::ordered_json& report);

}  // namespace taipan
