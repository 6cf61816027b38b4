#include "data/data_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "base/content_hash.h"

namespace taipan {
namespace {

constexpr int64_t kSample = int64_t{1} << 20, kSamples = 64;
constexpr int64_t kHashedWhole = kSample * kSamples;

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

int OpenToRead(const std::string& path) {
  int fd;
  do {
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

uint64_t HashRange(uint64_t hash, const char* data, int64_t size) {
  int64_t i = 0;
  for (; i + 8 <= size; i += 8) {
    uint64_t word;
    std::memcpy(&word, data + i, 8);
    hash = MixHash(hash, word);
  }
  uint64_t tail = 0;
  std::memcpy(&tail, data + i, static_cast<size_t>(size - i));
  return MixHash(hash, tail);
}

int64_t SampleBegin(int64_t i, int64_t size) {
  return i + 1 < kSamples ? (size - kSample) / (kSamples - 1) * i : size - kSample;
}

}  // namespace

uint64_t HashContent(const char* data, int64_t size) {
  uint64_t hash = MixHash(0, static_cast<uint64_t>(size));
  if (size <= kHashedWhole) return HashRange(hash, data, size);
  for (int64_t i = 0; i < kSamples; ++i) hash = HashRange(hash, data + SampleBegin(i, size), kSample);
  return hash;
}

DataFile::DataFile(const std::string& path, int64_t& memory) : path_(path) {
  const Descriptor file{OpenToRead(path)};
  struct stat info = {};
  if (file.fd < 0 || ::fstat(file.fd, &info) != 0) {
    throw UserError(path, std::string("cannot open: ") + std::strerror(errno));
  }
  if (!S_ISREG(info.st_mode)) {
    throw UserError(
        {path, "not data that can be read by position", "a file", S_ISDIR(info.st_mode) ? "a folder" : "a device"});
  }
  version_ = VersionOf(info);
  stamp_.name = std::filesystem::path(path).filename().string();
  stamp_.bytes = version_.bytes;
  if (size() > kHashedWhole) {
    stamp_.hash = HashFrom(file.fd);
  } else {
    content_.resize(static_cast<size_t>(size()));
    ReadFrom(file.fd, 0, size(), content_.data());
    stamp_.hash = HashContent(content_.data(), size());
    in_memory_ = size() <= memory;
    if (in_memory_) memory -= size();
    if (!in_memory_) std::string().swap(content_);
  }
  CheckVersion(file.fd);
}

DataFile::Version DataFile::VersionOf(const struct stat& info) {
  return {info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_dev, info.st_ino};
}

std::string DataFile::Describe(const Version& v) {
  const std::time_t seconds = v.seconds;
  std::tm time = {};
  ::gmtime_r(&seconds, &time);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &time);
  return fmt::format("{} bytes written {}", v.bytes, text);
}

void DataFile::RefuseChange(const std::string& found) const {
  throw DataChanged({path_, "the data has changed since it was opened", Describe(version_), found,
                     "a run continues on the data it began with; take copies that nothing else writes"});
}

// The bytes count only when CheckVersion has passed after them.
void DataFile::ReadFrom(int fd, int64_t begin, int64_t count, char* out) const {
  for (int64_t done = 0; done < count;) {
    const ssize_t got = ::pread(fd, out + done, static_cast<size_t>(count - done), begin + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw DataChanged(path_, std::string("the data cannot be read any more: ") + std::strerror(errno));
    if (got == 0) RefuseChange(fmt::format("its end at byte {}", begin + done));
    done += got;
  }
}

uint64_t DataFile::HashFrom(int fd) const {
  uint64_t hash = MixHash(0, static_cast<uint64_t>(size()));
  const bool whole = size() <= kHashedWhole;
  std::string part(static_cast<size_t>(whole ? size() : kSample), '\0');
  for (int64_t i = 0; i < (whole ? 1 : kSamples); ++i) {
    const int64_t bytes = static_cast<int64_t>(part.size());
    ReadFrom(fd, whole ? 0 : SampleBegin(i, size()), bytes, part.data());
    hash = HashRange(hash, part.data(), bytes);
  }
  return hash;
}

void DataFile::CheckVersion(int fd) const {
  struct stat info = {};
  if (::fstat(fd, &info) != 0) throw DataChanged(path_, std::string("cannot read: ") + std::strerror(errno));
  const Version now = VersionOf(info);
  if (now == version_) return;
  // Another time or another file with the same bytes is the same data, where the hash has seen all of them. (Some file
  // systems give a file a new inode now and then: samples must do for those.)
  const bool same_time = now.seconds == version_.seconds && now.nanoseconds == version_.nanoseconds;
  const bool may_be_same = now.bytes == version_.bytes && (same_time || size() <= kHashedWhole);
  if (!may_be_same || HashFrom(fd) != stamp_.hash) RefuseChange(Describe(now));
  version_ = now;
}

void DataFile::Read(int64_t begin, int64_t count, char* out) const {
  CHECK(begin >= 0 && count >= 0 && begin + count <= size());
  if (in_memory_) {
    std::memcpy(out, content_.data() + begin, static_cast<size_t>(count));
    return;
  }
  const Descriptor file{OpenToRead(path_)};
  if (file.fd < 0) throw DataChanged(path_, std::string("the data cannot be read any more: ") + std::strerror(errno));
  ReadFrom(file.fd, begin, count, out);
  CheckVersion(file.fd);  // after the bytes: a write before them has changed the time
}

std::string DataFile::Take(int64_t& memory) {
  if (in_memory_) {
    memory += size();
    in_memory_ = false;
    return std::move(content_);
  }
  std::string all(static_cast<size_t>(size()), '\0');
  Read(0, size(), all.data());
  return all;
}

void DataFile::CheckUnchanged() const {
  const Descriptor file{OpenToRead(path_)};
  if (file.fd < 0) throw DataChanged(path_, std::string("the data cannot be read any more: ") + std::strerror(errno));
  CheckVersion(file.fd);
}

}  // namespace taipan
