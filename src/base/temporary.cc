#include "base/temporary.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/error.h"

namespace taipan {
namespace {

constexpr char kMark[] = ".tmp-";

struct Registry {
  std::mutex mutex;
  std::vector<std::string> paths;
};
// Never destroyed: a signal may come while the process ends.
Registry& TheRegistry() {
  static Registry* registry = new Registry;
  return *registry;
}

void Register(const std::string& path) { TheRegistry().paths.push_back(path); }

void Forget(const std::string& path) {
  const auto lock = LockTemporaries();
  auto& paths = TheRegistry().paths;
  const auto found = std::find(paths.begin(), paths.end(), path);
  if (found != paths.end()) paths.erase(found);
}

void Remove(const std::string& path) {
  std::error_code ignored;  // what cannot be removed now is a leftover
  std::filesystem::remove_all(path, ignored);
}

// Whether two descriptions are of one file: nobody removed or replaced the name meanwhile.
bool StillNamed(const std::string& path, int fd) {
  struct stat named, open;
  return ::stat(path.c_str(), &named) == 0 && ::fstat(fd, &open) == 0 && named.st_ino == open.st_ino &&
         named.st_dev == open.st_dev;
}

// Whether nobody writes it: its lock is free, or, on file systems without locks, its process is gone.
bool IsLeftover(const std::string& path, pid_t writer, int* lock) {
  *lock = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  if (*lock >= 0 && ::flock(*lock, LOCK_EX | LOCK_NB) == 0) return true;
  return errno != EWOULDBLOCK && ::kill(writer, 0) != 0 && errno == ESRCH;
}

// The process in "NAME.tmp-PID" or "NAME.tmp-PID-N"; 0: another kind of name.
pid_t WriterOf(const std::string& name) {
  const size_t mark = name.rfind(kMark);
  if (mark == std::string::npos) return 0;
  char* end = nullptr;
  const long pid = std::strtol(name.c_str() + mark + sizeof(kMark) - 1, &end, 10);
  if (*end == '-') std::strtol(end + 1, &end, 10);
  return *end == '\0' && pid > 0 ? static_cast<pid_t>(pid) : 0;
}

}  // namespace

TemporaryPath::TemporaryPath(const std::string& target, Kind kind) {
  RemoveAbandoned(target);
  const auto lock = LockTemporaries();
  const std::string name = target + kMark + std::to_string(::getpid());
  // The plain name is taken where two threads write one target, or two processes of one number in two containers.
  int error = 0;
  for (int i = 0; i < 100; ++i) {
    path_ = i == 0 ? name : name + "-" + std::to_string(i);
    if (Make(kind, &error)) {
      Register(path_);
      return;
    }
    if (error != EEXIST) break;
  }
  const char* const doing = kind == Kind::kFile ? "create" : "create the folder";
  throw UserError(target, fmt::format("cannot {}: {}", doing, std::strerror(error)));
}

bool TemporaryPath::Make(Kind kind, int* error) {
  const bool folder = kind == Kind::kFolder;
  if (folder && ::mkdir(path_.c_str(), 0777) != 0) return *error = errno, false;
  const int flags = folder ? O_RDONLY | O_DIRECTORY : O_WRONLY | O_CREAT | O_EXCL;
  do {
    fd_ = ::open(path_.c_str(), flags | O_CLOEXEC, 0666);
  } while (fd_ < 0 && errno == EINTR);
  if (fd_ < 0) {
    *error = errno;
    if (folder) ::rmdir(path_.c_str());
    return false;
  }
  const bool taken = ::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  if (!taken && StillNamed(path_, fd_)) return true;
  ::close(fd_);  // another process took it for a leftover before it was locked
  fd_ = -1;
  return *error = EEXIST, false;
}

TemporaryPath::~TemporaryPath() {
  Remove(path_);
  Forget(path_);
  ::close(fd_);
}

RemovedBySignal::RemovedBySignal(const std::string& path) : path_(path) {
  const auto lock = LockTemporaries();
  Register(path_);
}

RemovedBySignal::~RemovedBySignal() { Forget(path_); }

std::unique_lock<std::mutex> LockTemporaries() { return std::unique_lock(TheRegistry().mutex); }

void RemoveTemporaries() {
  Registry& registry = TheRegistry();
  registry.mutex.lock();
  for (const std::string& path : registry.paths) Remove(path);
}

void RemoveAbandoned(const std::string& target) {
  const size_t slash = target.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : target.substr(0, slash + 1);
  const std::string name = slash == std::string::npos ? target : target.substr(slash + 1);
  DIR* const directory = ::opendir(folder.c_str());
  if (directory == nullptr) return;
  std::vector<std::string> candidates;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string found = entry->d_name;
    const bool ours = name.empty() || (found.starts_with(name) && found.rfind(kMark) == name.size());
    if (ours && WriterOf(found) > 0) candidates.push_back(found);
  }
  ::closedir(directory);
  for (const std::string& candidate : candidates) {
    int lock = -1;
    const std::string path = folder + "/" + candidate;
    if (IsLeftover(path, WriterOf(candidate), &lock)) Remove(path);
    if (lock >= 0) ::close(lock);
  }
}

}  // namespace taipan
