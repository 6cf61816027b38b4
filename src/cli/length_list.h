#pragma once
// Counts of tokens as users write them: 1K is 1024.

#include <cstdint>
#include <string>
#include <vector>

namespace taipan {

// "1K,4K,1M": rising. UserError naming the flag.
std::vector<int64_t> ParseLengths(const std::string& text, const std::string& flag);
std::string LengthText(int64_t length);  // "4K", "1000"

}  // namespace taipan
