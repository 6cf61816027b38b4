#include "cli/input_bytes.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/signals.h"

namespace taipan {

int64_t RegularFileBytes(const std::string& path) {
  struct stat info;
  return path != "-" && ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) ? info.st_size : 0;
}

InputBytes::InputBytes(const std::string& path) : path_(path == "-" ? "standard input" : path) {
  fd_ = path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) throw UserError(path_, fmt::format("cannot be read: {}", std::strerror(errno)));
}

InputBytes::~InputBytes() {
  if (fd_ != STDIN_FILENO) ::close(fd_);
}

std::string InputBytes::Next(size_t bytes) {
  std::string slice(bytes, '\0');
  size_t have = 0;
  while (have < bytes && StopSignal() == 0) {
    constexpr int kWait = 100;  // milliseconds
    pollfd ready{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, kWait) == 0) continue;
    const ssize_t got = ::read(fd_, slice.data() + have, bytes - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw UserError(path_, fmt::format("cannot be read: {}", std::strerror(errno)));
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  slice.resize(have);
  return slice;
}

}  // namespace taipan
