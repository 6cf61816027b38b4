#include "base/files.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/file_faults.h"
#include "base/memory.h"
#include "base/temporary.h"
#include "base/write_faults.h"

namespace taipan {
namespace {

[[noreturn]] void Fail(const std::string& path, const std::string& doing, int error) {
  std::string hint;
  if (error == EFBIG) hint = "the file-size limit of this process or file system is reached";
  if (error == ENOMEM) hint = MemoryLimits();
  throw UserError({.where = path, .problem = fmt::format("cannot {}: {}", doing, std::strerror(error)), .hint = hint});
}

void MeetFault(WriteStage stage, const std::string& path, const char* doing) {
  if (const int error = internal::WriteFaultAt(stage, path); error != 0) Fail(path, doing, error);
}

// Closes a descriptor at the end of the scope.
struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

int OpenRetrying(const std::string& path, int flags, mode_t mode = 0) {
  int fd;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

struct stat OpenForReading(const std::string& path, Descriptor& file) {
  file.fd = OpenRetrying(path, O_RDONLY);
  if (file.fd < 0) Fail(path, "open", errno);
  struct stat info;
  if (::fstat(file.fd, &info) != 0) Fail(path, "read", errno);
  if (S_ISDIR(info.st_mode)) throw UserError({path, "wrong kind of path", "a file", "a folder"});
  return info;
}

std::string ParentOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

std::string WithoutTrailingSlash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

// Makes a rename or a new name in the folder durable. Some network file systems refuse to sync folders: not an error.
void SyncDirectory(const std::string& path) {
  Descriptor folder{OpenRetrying(path, O_RDONLY | O_DIRECTORY)};
  if (folder.fd < 0) Fail(path, "open", errno);
  if (::fsync(folder.fd) != 0 && errno != EINVAL && errno != EROFS) Fail(path, "sync", errno);
}

// Where a write to `path` must land: behind a symbolic link the file that it names, so that the link stays.
std::string ResolveTarget(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return path;
  if (S_ISDIR(info.st_mode)) throw UserError({path, "cannot write", "a file", "a folder of this name"});
  // Renaming over a device or a pipe would replace it by a plain file.
  if (!S_ISREG(info.st_mode)) throw UserError({path, "cannot write", "a regular file", "a device or pipe"});
  char resolved[PATH_MAX];
  return ::realpath(path.c_str(), resolved) != nullptr ? std::string(resolved) : path;
}

}  // namespace

std::string ReadFile(const std::string& path) {
  Descriptor file;
  const struct stat info = OpenForReading(path, file);
  std::string content;
  // Pipes and files of /proc have size 0: read until the end, whatever the size says.
  content.reserve(static_cast<size_t>(std::max<off_t>(info.st_size, 0)));
  constexpr size_t kPiece = size_t{1} << 20;
  for (;;) {
    const size_t have = content.size();
    content.resize(std::max(content.capacity(), have + (info.st_size > 0 ? 1 : kPiece)));
    const ssize_t got = ::read(file.fd, content.data() + have, content.size() - have);
    content.resize(have + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    if (got == 0) return content;
    if (got < 0 && errno != EINTR) Fail(path, "read", errno);
  }
}

MappedFile::MappedFile(const std::string& path) : path_(path) {
  Descriptor file;
  const struct stat info = OpenForReading(path, file);
  if (!S_ISREG(info.st_mode)) throw UserError({path, "cannot map", "a regular file", "a device or pipe"});
  size_ = info.st_size;
  changed_ = {info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
  if (size_ > 0) {
    void* mapped = ::mmap(nullptr, static_cast<size_t>(size_), PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (mapped == MAP_FAILED) Fail(path, "map", errno);
    data_ = static_cast<const char*>(mapped);
    RememberMapping(data_, size_, path_.c_str());
  }
  fd_ = std::exchange(file.fd, -1);
}

MappedFile::~MappedFile() {
  ::close(fd_);
  if (data_ == nullptr) return;
  ForgetMapping(data_);
  ::munmap(const_cast<char*>(data_), static_cast<size_t>(size_));
}

void MappedFile::Read(const void* begin, int64_t bytes, void* to) const {
  const int64_t offset = static_cast<const char*>(begin) - data_;
  CHECK(bytes >= 0 && offset >= 0 && offset + bytes <= size_);
  for (int64_t done = 0; done < bytes;) {
    const ssize_t got = ::pread(fd_, static_cast<char*>(to) + done, static_cast<size_t>(bytes - done), offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) Fail(path_, "read", errno);
    if (got == 0) CheckUnchanged();
    CHECK_GT(got, 0);
    done += got;
  }
}

void MappedFile::CheckUnchanged() const {
  struct stat info;
  if (::fstat(fd_, &info) != 0) Fail(path_, "read", errno);
  if (info.st_size == size_ && changed_ == std::array<int64_t, 2>{info.st_mtim.tv_sec, info.st_mtim.tv_nsec}) return;
  throw UserError({path_, "the file changed while it was read", fmt::format("{} bytes as they were", size_),
                   fmt::format("{} bytes, written since", info.st_size)});
}

AtomicFile::AtomicFile(const std::string& path)
    : path_(ResolveTarget(path)), temporary_(std::make_unique<TemporaryPath>(path_, TemporaryPath::Kind::kFile)) {}

AtomicFile::~AtomicFile() = default;

void AtomicFile::Write(const void* data, int64_t bytes) {
  CHECK(temporary_ != nullptr);
  MeetFault(WriteStage::kWrite, path_, "write");
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    // May be short: large, or the disk just full.
    const ssize_t written = ::write(temporary_->fd(), p, static_cast<size_t>(bytes));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) Fail(path_, "write", errno);
    if (written == 0) Fail(path_, "write", ENOSPC);
    p += written;
    bytes -= written;
  }
}

void AtomicFile::Append(const std::string& path) {
  CHECK(temporary_ != nullptr);
  Descriptor from;
  OpenForReading(path, from);
  // Into an empty file the blocks can be shared, where the file system copies them on a write.
  if (::lseek(temporary_->fd(), 0, SEEK_CUR) == 0 && ::ioctl(temporary_->fd(), FICLONE, from.fd) == 0) {
    if (::lseek(temporary_->fd(), 0, SEEK_END) < 0) Fail(path_, "write", errno);
    return;
  }
  std::vector<char> piece(size_t{1} << 20);
  for (;;) {
    const ssize_t got = ::read(from.fd, piece.data(), piece.size());
    if (got == 0) return;
    if (got > 0) Write(piece.data(), got);
    if (got < 0 && errno != EINTR) Fail(path, "read", errno);
  }
}

void AtomicFile::Commit() {
  CHECK(temporary_ != nullptr);
  MeetFault(WriteStage::kSync, path_, "sync");
  if (::fsync(temporary_->fd()) != 0) Fail(path_, "sync", errno);
  // Network file systems report a full disk when a file is closed. A duplicate, because closing ends the lock.
  const int copy = ::dup(temporary_->fd());
  if (copy >= 0 && ::close(copy) != 0 && errno != EINTR) Fail(path_, "close", errno);
  {
    MeetFault(WriteStage::kRename, path_, "rename into place");
    const auto lock = LockTemporaries();
    if (::rename(temporary_->path().c_str(), path_.c_str()) != 0) Fail(path_, "rename into place", errno);
  }
  temporary_.reset();
  SyncDirectory(ParentOf(path_));
}

void WriteFileAtomically(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.Write(content);
  file.Commit();
}

void CopyFileAtomically(const std::string& from, const std::string& to) {
  AtomicFile file(to);
  file.Append(from);
  file.Commit();
}

void MakeDirectories(const std::string& path) {
  MeetFault(WriteStage::kMakeFolder, path, "create the folder");
  std::error_code error;
  std::filesystem::create_directories(WithoutTrailingSlash(path), error);
  if (error) Fail(path, "create the folder", error.value());
  if (!IsDirectory(path)) throw UserError({path, "cannot create the folder", "a folder", "a file of this name"});
}

bool PathExists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

bool IsDirectory(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

std::vector<std::string> ListDirectory(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(path, error), end;
  while (!error && entry != end) {
    names.push_back(entry->path().filename().string());
    entry.increment(error);
  }
  if (error) Fail(path, "list the folder", error.value());
  std::sort(names.begin(), names.end());
  return names;
}

void RemoveTree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) Fail(path, "remove", error.value());
}

namespace internal {

// For file systems that cannot exchange two names; tested by itself.
void ReplaceByThirdName(const std::string& from, const std::string& to) {
  const std::string old = fmt::format("{}.old-{}", to, ::getpid());
  RemoveTree(old);
  if (::rename(to.c_str(), old.c_str()) != 0) Fail(to, "move aside", errno);
  if (::rename(from.c_str(), to.c_str()) != 0) {
    const int error = errno;
    ::rename(old.c_str(), to.c_str());
    Fail(to, fmt::format("put {} in its place", from), error);
  }
  SyncDirectory(ParentOf(to));
  RemoveTree(old);
}

}  // namespace internal

void ReplaceDirectory(const std::string& from_path, const std::string& to_path) {
  const std::string from = WithoutTrailingSlash(from_path), to = WithoutTrailingSlash(to_path);
  if (!IsDirectory(from)) throw UserError({from, "cannot move into place", "a folder", "none"});
  SyncDirectory(from);
  MeetFault(WriteStage::kRename, to, "rename into place");
  auto lock = LockTemporaries();
  if (!PathExists(to)) {
    if (::rename(from.c_str(), to.c_str()) != 0) Fail(to, "rename into place", errno);
    SyncDirectory(ParentOf(to));
    return;
  }
  if (!IsDirectory(to)) throw UserError({to, "cannot replace", "a folder", "a file of this name"});
  // One step that leaves a complete folder under `to` at every instant.
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
    lock.unlock();
    SyncDirectory(ParentOf(to));
    RemoveTree(from);
  } else if (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP) {
    internal::ReplaceByThirdName(from, to);
  } else {
    Fail(to, "replace", errno);
  }
}

}  // namespace taipan
