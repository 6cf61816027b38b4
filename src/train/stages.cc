#include "train/stages.h"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "base/error.h"

namespace taipan {

int64_t Stages::At(int64_t step) const {
  for (const Stage& s : first) {
    if (step <= s.last) return s.value;
  }
  return rest;
}

int64_t Stages::SumBefore(int64_t step) const {
  int64_t sum = 0, begin = 1;
  for (const Stage& s : first) {
    const int64_t end = std::min(step, s.last + 1);
    sum += std::max<int64_t>(0, end - begin) * s.value;
    begin = s.last + 1;
  }
  return sum + std::max<int64_t>(0, step - begin) * rest;
}

Stages ParseStages(const std::string& flag, const std::string& text, int64_t rest) {
  Stages stages{{}, rest};
  std::stringstream list(text);
  for (std::string part; std::getline(list, part, ',');) {
    Stages::Stage s;
    const char* const end = part.data() + part.size();
    auto parsed = std::from_chars(part.data(), end, s.value);
    bool good = parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == ':';
    if (good) parsed = std::from_chars(parsed.ptr + 1, end, s.last);
    const int64_t before = stages.first.empty() ? 0 : stages.first.back().last;
    good = good && parsed.ec == std::errc() && parsed.ptr == end && s.value >= 1 && s.last > before;
    if (!good) {
      throw UserError(
          {flag, "not numbers with their last steps", "A:STEP,B:STEP with rising steps", "\"" + text + "\""});
    }
    stages.first.push_back(s);
  }
  return stages;
}

}  // namespace taipan
