#pragma once
// RUN_DIR/metrics.prom: how a run stands, in the text format that Prometheus' node exporter collects from files.

#include <optional>
#include <string>

#include "train/metrics.h"

namespace taipan {

// valid: of the last validation. run: the name in every label.
std::string PrometheusText(const std::string& run, const StepMetrics& step, int64_t steps, int64_t skipped,
                           const std::optional<ValidMetrics>& valid);

}  // namespace taipan
