#include "base/content_hash.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/error.h"

namespace taipan {

void ContentHash::AddBlocks(const unsigned char* p, int64_t blocks) {
  std::array<uint64_t, 4> chains = chains_;  // bytes may alias the object: a copy stays in registers
  for (int64_t block = 0; block < blocks; ++block, p += kBlock) {
    for (size_t i = 0; i < chains.size(); ++i) {
      uint64_t word;
      std::memcpy(&word, p + 8 * i, 8);
      chains[i] = MixHash(chains[i], word);
    }
  }
  chains_ = chains;
}

void ContentHash::Add(const void* data, int64_t bytes) {
  const unsigned char* p = static_cast<const unsigned char*>(data);
  const int64_t kept = total_ % kBlock;
  total_ += bytes;
  if (kept > 0) {
    const int64_t more = std::min(bytes, kBlock - kept);
    std::memcpy(rest_.data() + kept, p, static_cast<size_t>(more));
    if (kept + more < kBlock) return;
    AddBlocks(rest_.data(), 1);
    p += more;
    bytes -= more;
  }
  AddBlocks(p, bytes / kBlock);
  const int64_t tail = bytes % kBlock;
  if (tail > 0) std::memcpy(rest_.data(), p + bytes - tail, static_cast<size_t>(tail));
}

uint64_t ContentHash::Finish() {
  std::fill(rest_.begin() + total_ % kBlock, rest_.end(), static_cast<unsigned char>(0));
  AddBlocks(rest_.data(), 1);
  uint64_t hash = static_cast<uint64_t>(total_);  // tells zeros at the end from none
  for (const uint64_t chain : chains_) hash = MixHash(hash, chain);
  return hash;
}

std::string FileChecksum(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw UserError(path, std::string("cannot open: ") + std::strerror(errno));
  std::vector<char> piece(size_t{1} << 18);
  ContentHash hash;
  for (;;) {
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      const int error = got < 0 ? errno : 0;
      ::close(fd);
      if (error != 0) throw UserError(path, std::string("cannot read: ") + std::strerror(error));
      return fmt::format("{:016x}", hash.Finish());
    }
    hash.Add(piece.data(), got);
  }
}

}  // namespace taipan
