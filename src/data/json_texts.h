#pragma once
// The texts of JSON files, one after the other.

#include <functional>
#include <string>
#include <string_view>

#include "data/file_kind.h"

namespace taipan {

using TextUse = std::function<void(std::string text)>;

// kind: kJsonLines, {"text": "..."} a line, blank lines are skipped; kJsonList, [{"text": "..."}, ...]. UserError
// naming the path and the line or the element.
void ForEachJsonText(std::string_view all, DataKind kind, const std::string& path, const TextUse& use);

}  // namespace taipan
