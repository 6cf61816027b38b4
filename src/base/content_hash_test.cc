#include "base/content_hash.h"

#include <gtest/gtest.h>

#include "base/test_folder.h"

namespace taipan {
namespace {

uint64_t HashOf(const std::string& bytes) {
  ContentHash hash;
  hash.Add(bytes.data(), static_cast<int64_t>(bytes.size()));
  return hash.Finish();
}

std::string SomeBytes(size_t n) {
  std::string bytes;
  for (size_t i = 0; i < n; ++i) bytes += static_cast<char>(i * 37 + i / 256);
  return bytes;
}

TEST(ContentHash, NoticesEveryFlippedBit) {
  for (const size_t n : {1u, 8u, 31u, 32u, 33u, 200u}) {
    std::string bytes = SomeBytes(n);
    const uint64_t whole = HashOf(bytes);
    for (size_t bit = 0; bit < 8 * n; ++bit) {
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
      EXPECT_NE(HashOf(bytes), whole) << n << " bytes, bit " << bit;
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    }
  }
}

TEST(ContentHash, NoticesLengthAndOrder) {
  std::string zeros;
  const uint64_t empty = HashOf(zeros);
  for (int i = 0; i < 100; ++i) EXPECT_NE(HashOf(zeros += '\0'), empty) << i;
  const std::string a(8, 'a'), b(8, 'b');
  EXPECT_NE(HashOf(a + b), HashOf(b + a));
  EXPECT_NE(HashOf(a + a + a + a + b + b + b + b), HashOf(b + b + b + b + a + a + a + a));
}

TEST(ContentHash, DoesNotDependOnThePieces) {
  const std::string bytes = SomeBytes(300);
  for (const size_t piece : {1u, 7u, 31u, 32u, 33u, 64u, 299u}) {
    ContentHash hash;
    for (size_t i = 0; i < bytes.size(); i += piece) {
      hash.Add(bytes.data() + i, static_cast<int64_t>(std::min(piece, bytes.size() - i)));
    }
    EXPECT_EQ(hash.Finish(), HashOf(bytes)) << piece;
  }
}

TEST(ContentHash, OfFiles) {
  const TestFolder folder;
  const std::string bytes = SomeBytes(600000);
  WriteFileAtomically(folder / "file", bytes);
  EXPECT_EQ(FileChecksum(folder / "file"), fmt::format("{:016x}", HashOf(bytes)));
  // Written down, so that checkpoints of one version are good for the next.
  WriteFileAtomically(folder / "file", "taipan");
  EXPECT_EQ(FileChecksum(folder / "file"), "ad428f3e3ffa275a");
  EXPECT_NE(UserErrorOf([&] { FileChecksum(folder / "missing"); }), "");
}

}  // namespace
}  // namespace taipan
