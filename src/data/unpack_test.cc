#include "data/unpack.h"

#include <gtest/gtest.h>

#include "base/test_folder.h"

namespace taipan {
namespace {

// printf 'hello gzip\n' | gzip -n
const std::string kHello(
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\x48\xcd\xc9\xc9\x57\x48\xaf\xca\x2c\xe0\x02\x00"
    "\x39\x7c\x63\x56\x0b\x00\x00\x00",
    31);
constexpr int64_t kMuch = int64_t{1} << 40;

TEST(Unpack, MembersFollowEachOther) {
  EXPECT_EQ(Unpack("a.gz", kHello, kMuch), "hello gzip\n");
  EXPECT_EQ(Unpack("a.gz", kHello + kHello, kMuch), "hello gzip\nhello gzip\n");
  EXPECT_EQ(Unpack("a.gz", kHello + std::string(100, '\0'), kMuch), "hello gzip\n");
  std::string packed, content;  // more than one piece of output
  for (int i = 0; i < 100'000; ++i) packed += kHello, content += "hello gzip\n";
  EXPECT_EQ(Unpack("a.gz", packed, kMuch), content);
}

TEST(Unpack, DamagedAndCutFilesAreErrorsThatNameThem) {
  for (size_t size = 10; size < kHello.size(); ++size) {
    EXPECT_EQ(
        UserErrorOf([&] { Unpack("a.gz", kHello.substr(0, size), kMuch); }).rfind("a.gz: the gzip file is cut", 0), 0u)
        << size;
  }
  for (size_t i = 10; i < kHello.size(); ++i) {
    if (i == 22) continue;  // bits between the last symbol and the checksum mean nothing
    std::string damaged = kHello;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    EXPECT_THROW(Unpack("a.gz", damaged, kMuch), UserError) << i;
  }
  EXPECT_THROW(Unpack("a.gz", kHello + "trailing", kMuch), UserError);
  const std::string error = UserErrorOf([&] { Unpack("a.gz", kHello, 5); });
  EXPECT_EQ(error.rfind("a.gz: the unpacked data does not fit into memory, expected at most 5 B", 0), 0u) << error;
}

TEST(Unpack, TheHeadOfACutFileIsReadAsFarAsItGoes) {
  EXPECT_EQ(UnpackHead(kHello, 5), "hello");
  EXPECT_EQ(UnpackHead(kHello, 100), "hello gzip\n");
  EXPECT_EQ(UnpackHead(kHello.substr(0, 10), 100), "");
  EXPECT_EQ(UnpackHead("\x1f\x8b\x08 nonsense", 100), "");
}

// printf 'hello zstd\n' | zstd -c
const std::string kHelloZstd(
    "\x28\xb5\x2f\xfd\x04\x58\x59\x00\x00\x68\x65\x6c\x6c\x6f\x20\x7a\x73\x74\x64\x0a\x6c\x57\xf9\x51", 24);

TEST(Unpack, ZstandardToo) {
  EXPECT_EQ(Unpack("a.zst", kHelloZstd, kMuch), "hello zstd\n");
  std::string packed, content;
  for (int i = 0; i < 50'000; ++i) packed += kHelloZstd, content += "hello zstd\n";
  EXPECT_EQ(Unpack("a.zst", packed, kMuch), content);
  EXPECT_EQ(UnpackHead(kHelloZstd, 5), "hello");
  for (size_t size = 5; size < kHelloZstd.size(); ++size) {
    const std::string error = UserErrorOf([&] { Unpack("a.zst", kHelloZstd.substr(0, size), kMuch); });
    EXPECT_EQ(error.rfind("a.zst: the Zstandard file is cut", 0), 0u) << size << error;
  }
  std::string damaged = kHelloZstd;
  damaged[damaged.size() - 6] = static_cast<char>(damaged[damaged.size() - 6] ^ 0x10);  // the checksum covers it
  EXPECT_EQ(UserErrorOf([&] { Unpack("a.zst", damaged, kMuch); }).rfind("a.zst: the Zstandard file is damaged", 0), 0u);
  const std::string error = UserErrorOf([&] { Unpack("a.zst", kHelloZstd, 5); });
  EXPECT_EQ(error.rfind("a.zst: the unpacked data does not fit into memory, expected at most 5 B", 0), 0u) << error;
}

TEST(Unpack, NamesLoseTheirEnding) {
  EXPECT_EQ(WithoutPacking("a/b.jsonl.gz"), "a/b.jsonl");
  EXPECT_EQ(WithoutPacking("b.txt.ZST"), "b.txt");
  EXPECT_EQ(WithoutPacking("b.zstd"), "b");
  EXPECT_EQ(WithoutPacking("gz"), "gz");
}

}  // namespace
}  // namespace taipan
