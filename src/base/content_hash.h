#pragma once
// Checksums of files: fast, and sure to notice a change within any eight bytes; not made to withstand forgery.

#include <array>
#include <cstdint>
#include <string>

namespace taipan {

// The finaliser of MurmurHash3 over a running sum. For one `hash` every word gives another result, and for one word
// every hash: a difference once made stays.
inline uint64_t MixHash(uint64_t hash, uint64_t word) {
  uint64_t x = (hash ^ word) + 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdu;
  x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53u;
  return x ^ (x >> 33);
}

// Of bytes that come in pieces; how they are cut does not matter. Four chains side by side, because one would wait for
// its multiplications: 3 GB/s and more a core, above what disks take.
class ContentHash {
 public:
  void Add(const void* data, int64_t bytes);
  uint64_t Finish();  // once, after the last piece

 private:
  void AddBlocks(const unsigned char* p, int64_t blocks);

  static constexpr int64_t kBlock = 32;
  std::array<uint64_t, 4> chains_ = {1, 2, 3, 4};
  std::array<unsigned char, kBlock> rest_ = {};  // bytes of a block that is not full yet
  int64_t total_ = 0;
};

// Of a whole file, as 16 hexadecimal digits. UserError where it cannot be read.
std::string FileChecksum(const std::string& path);

}  // namespace taipan
