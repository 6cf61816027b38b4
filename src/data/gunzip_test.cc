#include "data/gunzip.h"

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

TEST(Gunzip, MembersFollowEachOther) {
  EXPECT_EQ(Gunzip("a.gz", kHello, kMuch), "hello gzip\n");
  EXPECT_EQ(Gunzip("a.gz", kHello + kHello, kMuch), "hello gzip\nhello gzip\n");
  EXPECT_EQ(Gunzip("a.gz", kHello + std::string(100, '\0'), kMuch), "hello gzip\n");
  std::string packed, content;  // more than one piece of output
  for (int i = 0; i < 100'000; ++i) packed += kHello, content += "hello gzip\n";
  EXPECT_EQ(Gunzip("a.gz", packed, kMuch), content);
}

TEST(Gunzip, DamagedAndCutFilesAreErrorsThatNameThem) {
  for (size_t size = 10; size < kHello.size(); ++size) {
    EXPECT_EQ(
        UserErrorOf([&] { Gunzip("a.gz", kHello.substr(0, size), kMuch); }).rfind("a.gz: the gzip file is cut", 0), 0u)
        << size;
  }
  for (size_t i = 10; i < kHello.size(); ++i) {
    if (i == 22) continue;  // bits between the last symbol and the checksum mean nothing
    std::string damaged = kHello;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    EXPECT_THROW(Gunzip("a.gz", damaged, kMuch), UserError) << i;
  }
  EXPECT_THROW(Gunzip("a.gz", kHello + "trailing", kMuch), UserError);
  const std::string error = UserErrorOf([&] { Gunzip("a.gz", kHello, 5); });
  EXPECT_EQ(error.rfind("a.gz: the unpacked data does not fit into memory, expected at most 5 B", 0), 0u) << error;
}

TEST(Gunzip, TheHeadOfACutFileIsReadAsFarAsItGoes) {
  EXPECT_EQ(GunzipHead(kHello, 5), "hello");
  EXPECT_EQ(GunzipHead(kHello, 100), "hello gzip\n");
  EXPECT_EQ(GunzipHead(kHello.substr(0, 10), 100), "");
  EXPECT_EQ(GunzipHead("\x1f\x8b\x08 nonsense", 100), "");
}

}  // namespace
}  // namespace taipan
