#include "data/stream_input.h"

#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <optional>

#include "base/error.h"
#include "base/files.h"

namespace taipan {
namespace {

// By path; no value: taken.
std::map<std::string, std::optional<std::string>>& Streams() {
  static std::map<std::string, std::optional<std::string>> streams;
  return streams;
}

std::optional<std::string>& Open(const std::string& path) {
  const auto found = Streams().find(path);
  if (found == Streams().end()) {
    if (path == "-" && ::isatty(STDIN_FILENO) == 1) {
      throw UserError({.where = StreamName(path),
                       .problem = "is a terminal",
                       .expected = "a pipe or a file",
                       .hint = "taipan ... --data - < FILE"});
    }
    return Streams()[path] = ReadFile(path == "-" ? "/dev/stdin" : path);
  }
  if (!found->second) throw UserError({StreamName(path), "was read already", "one use of it", "another"});
  return found->second;
}

}  // namespace

bool IsStream(const std::string& path) {
  struct stat info;
  return path == "-" || (::stat(path.c_str(), &info) == 0 && S_ISFIFO(info.st_mode));
}

const std::string& PeekStream(const std::string& path) { return *Open(path); }

std::string TakeStream(const std::string& path) {
  std::optional<std::string>& content = Open(path);
  std::string taken = std::move(*content);
  content.reset();
  return taken;
}

std::string StreamName(const std::string& path) { return path == "-" ? "standard input" : path; }

}  // namespace taipan
