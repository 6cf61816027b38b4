#include "base/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "base/logging.h"

namespace taipan {
namespace {

// "pid 4711 on host since 2025-01-31 12:00:00 UTC"
std::string Holder() {
  char host[HOST_NAME_MAX + 1] = "";
  ::gethostname(host, sizeof host - 1);
  const std::time_t now = std::time(nullptr);
  std::tm time = {};
  ::gmtime_r(&now, &time);
  char since[32];
  std::strftime(since, sizeof since, "%Y-%m-%d %H:%M:%S UTC", &time);
  return fmt::format("pid {} on {} since {}", ::getpid(), host, since);
}

// What the holder wrote; it may be about to.
std::string ReadHolder(int fd) {
  char text[512];
  for (int tries = 0; tries < 20; ++tries) {
    const ssize_t got = ::pread(fd, text, sizeof text, 0);
    if (got > 0) {
      std::string line(text, static_cast<size_t>(got));
      return line.substr(0, line.find('\n'));
    }
    ::usleep(5000);
  }
  return "one that does not say which";
}

bool IsFileOf(int fd, const std::string& path) {
  struct stat open = {}, named = {};
  return ::fstat(fd, &open) == 0 && ::stat(path.c_str(), &named) == 0 && open.st_ino == named.st_ino &&
         open.st_dev == named.st_dev;
}

}  // namespace

FolderLock::FolderLock(const std::string& folder) : folder_(folder), file_(folder + "/" + kFile) {
  // A holder that ends removes its file, perhaps between our opening and locking it: then another try.
  while (!TryLock()) {
  }
}

bool FolderLock::TryLock() {
  MakeFolders();
  do {
    fd_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  } while (fd_ < 0 && errno == EINTR);
  if (fd_ < 0 && errno == ENOENT) return false;  // the folder went with its last holder
  if (fd_ < 0) {
    const int error = errno;
    RemoveMadeFolders();
    throw UserError(file_, std::string("cannot create: ") + std::strerror(error));
  }
  int locked;
  do {
    locked = ::flock(fd_, LOCK_EX | LOCK_NB);
  } while (locked != 0 && errno == EINTR);
  if (locked != 0 && errno == EWOULDBLOCK) {
    const std::string holder = ReadHolder(fd_);
    ::close(fd_);
    throw UserError({folder_, "another process is training in this folder", "none", holder,
                     "wait until it has ended, or take another --out; its model may be read meanwhile"});
  }
  if (locked != 0) {
    LogWarning("{}: this file system has no locks ({}): see to it that only one process trains in the folder", folder_,
               std::strerror(errno));
  }
  if (!IsFileOf(fd_, file_)) {
    ::close(fd_);
    return false;
  }
  const std::string holder = Holder() + "\n";
  // Only for people: a full disk does not matter.
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, holder.data(), holder.size(), 0) < 0) errno = 0;
  return true;
}

FolderLock::~FolderLock() {
  ::unlink(file_.c_str());  // while it is still locked: nobody else's
  ::close(fd_);
  RemoveMadeFolders();
}

void FolderLock::MakeFolders() {
  std::vector<std::string> missing;
  for (std::filesystem::path path = folder_; !path.empty() && !PathExists(path.string()); path = path.parent_path()) {
    if (path.has_filename()) missing.insert(missing.begin(), path.string());
  }
  MakeDirectories(folder_);
  made_.insert(made_.end(), missing.begin(), missing.end());
}

void FolderLock::RemoveMadeFolders() {
  for (auto folder = made_.rbegin(); folder != made_.rend(); ++folder) {
    if (::rmdir(folder->c_str()) != 0 && errno != ENOENT) return;  // not empty: it is in use
  }
}

}  // namespace taipan
