#pragma once
// RUN_DIR/report.html: one file about a run that opens without a network.

#include <string>
#include <utility>
#include <vector>

#include "train/metrics.h"
#include "train/settings.h"

namespace taipan {

struct RunPage {
  std::string name;                                        // of the run
  std::vector<std::pair<std::string, std::string>> facts;  // a row each
  const MetricsHistory* history = nullptr;
  double bytes_per_token = 0;                            // 0: not known
  std::vector<std::pair<int64_t, std::string>> samples;  // step and text, oldest first
};
std::string ToHtml(const RunPage& page);

}  // namespace taipan
