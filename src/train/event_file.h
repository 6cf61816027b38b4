#pragma once
// Event files that TensorBoard reads: records of protocol buffers, each with checksums of its length and its content.
// Scalars alone are written.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "train/metrics.h"

namespace taipan {

uint32_t Crc32c(std::string_view bytes);  // Castagnoli

using Scalars = std::vector<std::pair<std::string, double>>;  // tag ("loss/train") and value

// Records with their framing. time: seconds since 1970.
std::string VersionRecord(double time);
std::string ScalarRecord(double time, int64_t step, const Scalars& scalars);

class EventFile {
 public:
  // A new file in the folder, which is made. UserError where that cannot be.
  explicit EventFile(const std::string& folder);
  // "", or why it could not be written yet.
  std::string Add(int64_t step, const Scalars& scalars);

 private:
  MetricsWriter file_;
};

// Removes the records of later steps, and torn ones, from the event files of a folder.
void CutEvents(const std::string& folder, int64_t last_step);

}  // namespace taipan
