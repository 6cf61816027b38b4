#include "infer/stop_text.h"

#include <algorithm>
#include <utility>

namespace taipan {

std::string StopText::Append(std::string_view piece) {
  if (found_) return "";
  held_ += piece;
  size_t end = held_.npos, hold = 0;
  for (const std::string& text : texts_) {
    end = std::min(end, held_.find(text));
    for (size_t size = std::min(text.size() - 1, held_.size()); size > hold; --size) {
      if (held_.ends_with(std::string_view(text).substr(0, size))) hold = size;
    }
  }
  found_ = end != held_.npos;
  const size_t shown = found_ ? end : held_.size() - hold;
  std::string text = held_.substr(0, shown);
  held_.erase(0, found_ ? held_.size() : shown);
  return text;
}

std::string StopText::Flush() { return std::exchange(held_, ""); }

}  // namespace taipan
