#include "cli/length_list.h"

#include <algorithm>

#include "base/error.h"

namespace taipan {

std::vector<int64_t> ParseLengths(const std::string& text, const std::string& flag) {
  std::vector<int64_t> lengths;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    begin = end + 1;
    const size_t digits = std::min(part.find_first_not_of("0123456789"), part.size());
    const std::string unit = part.substr(digits);
    const int64_t factor = unit == "K" ? 1024 : unit == "M" ? 1024 * 1024 : unit.empty() ? 1 : 0;
    const int64_t number = digits > 0 && digits < 10 ? std::stoll(part.substr(0, digits)) : 0;
    const int64_t length = number * factor;
    if (length < 1 || length > int64_t{1} << 30 || (!lengths.empty() && length <= lengths.back())) {
      throw UserError({flag, "no list of lengths", "rising numbers of tokens up to 1024M, such as 1K,4K,1M",
                       fmt::format("\"{}\" in {}", part, text)});
    }
    lengths.push_back(length);
  }
  return lengths;
}

std::string LengthText(int64_t length) {
  if (length % (1024 * 1024) == 0) return fmt::format("{}M", length >> 20);
  return length % 1024 == 0 ? fmt::format("{}K", length >> 10) : fmt::format("{}", length);
}

}  // namespace taipan
