#pragma once
// The texts of JSON files, one after the other: a line feed stands between two where the first does not end in one.

#include <string>
#include <string_view>

namespace taipan {

// {"text": "..."} a line; blank lines are skipped. UserError naming the path and the line.
std::string JoinJsonLines(std::string_view all, const std::string& path);
// [{"text": "..."}, ...]. UserError naming the path and the element.
std::string JoinJsonList(std::string_view all, const std::string& path);

}  // namespace taipan
