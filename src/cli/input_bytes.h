#pragma once
// Bytes of a file or of standard input, piece by piece.

#include <cstdint>
#include <string>

namespace taipan {

// Of a file that can be read again; 0 for standard input, pipes and the like.
int64_t RegularFileBytes(const std::string& path);

// They may be long in coming: a signal that is noted ends the wait.
class InputBytes {
 public:
  explicit InputBytes(const std::string& path);  // "-": standard input
  ~InputBytes();
  InputBytes(const InputBytes&) = delete;
  InputBytes& operator=(const InputBytes&) = delete;

  // As many as asked for; fewer at the end and after a signal.
  std::string Next(size_t bytes);

 private:
  const std::string path_;
  int fd_ = -1;
};

}  // namespace taipan
