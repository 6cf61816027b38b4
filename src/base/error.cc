#include "base/error.h"

#include <algorithm>
#include <numeric>

namespace taipan {
namespace {

std::string OneLine(const Complaint& c) {
  std::string line = c.where.empty() ? c.problem : c.where + ": " + c.problem;
  if (!c.expected.empty()) line += ", expected " + c.expected;
  if (!c.found.empty()) line += ", found " + c.found;
  if (!c.hint.empty()) line += " (" + c.hint + ")";
  return line;
}

size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

UserError::UserError(const Complaint& c) : std::runtime_error(OneLine(c)) {}

std::string NearestName(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& c : candidates) {
    const size_t distance = EditDistance(word, c);
    if (distance < best_distance) {
      best_distance = distance;
      best = c;
    }
  }
  return best;
}

void CheckFailed(const char* file, int line, const std::string& what) {
  throw InternalError(fmt::format("{}:{}: {}", file, line, what));
}

}  // namespace taipan
