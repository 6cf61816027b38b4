#pragma once
// Texts that end what a model writes, found in text that comes in pieces.

#include <string>
#include <string_view>
#include <vector>

namespace taipan {

class StopText {
 public:
  // None of the texts is empty.
  explicit StopText(std::vector<std::string> texts) : texts_(std::move(texts)) {}

  // What can be shown after this piece: what may still become one of the texts is held back. Once one was found, what
  // stood before it, then nothing.
  std::string Append(std::string_view piece);
  std::string Flush();  // the end without one: what was held back
  bool found() const { return found_; }

 private:
  std::vector<std::string> texts_;
  std::string held_;
  bool found_ = false;
};

}  // namespace taipan
