#include "base/cpu.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

namespace taipan {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

TEST(Cpu, Machine) {
  EXPECT_FALSE(CpuModelName().empty());
  EXPECT_THAT(CpuModelName(), Not(HasSubstr("model name")));
  EXPECT_GE(LogicalCpus(), 1);
  EXPECT_GT(MemoryBytes(), int64_t{64} << 20);
  EXPECT_GT(AvailableMemoryBytes(), 0);
  EXPECT_LE(AvailableMemoryBytes(), MemoryBytes());
#if defined(__x86_64__)
  EXPECT_THAT(SimdTargetName(), AnyOf("SSE2", "SSE4", "SSSE3", "AVX2", "AVX3", "AVX3_DL", "AVX3_ZEN4"));
#else
  EXPECT_NE(SimdTargetName(), "Unknown");
#endif
}

TEST(Cpu, CachesArePlausibleWhereKnown) {
  if (L2CacheBytes() != 0) {
    EXPECT_GE(L2CacheBytes(), 64 << 10);
    EXPECT_LE(L2CacheBytes(), 256 << 20);
  }
  if (L3CacheBytes() != 0) {
    EXPECT_GE(L3CacheBytes(), L2CacheBytes());
  }
}

TEST(Cpu, MemoryOfThisProcess) {
  const int64_t before = ResidentBytes();
  EXPECT_GT(before, 100 << 10);
  EXPECT_EQ(before % 4096, 0);  // whole pages
  constexpr int64_t kBytes = int64_t{64} << 20;
  void* block = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(block, MAP_FAILED);
  EXPECT_LT(ResidentBytes() - before, kBytes / 10);  // memory that was never touched is not resident
  std::memset(block, 1, kBytes);
  const int64_t with = ResidentBytes();
  ::munmap(block, kBytes);
  // The kernel counts pages a thread in batches: allow a few megabytes.
  EXPECT_GE(with - before, kBytes * 9 / 10);
  EXPECT_GE(PeakResidentBytes(), with - (kBytes / 10));
  EXPECT_LT(ResidentBytes(), with - kBytes / 2);
}

TEST(Cpu, SummaryIsOneLine) {
  const std::string line = MachineSummary();
  EXPECT_EQ(line.find('\n'), line.npos);
  EXPECT_THAT(line, HasSubstr(CpuModelName() + ", "));
  EXPECT_THAT(line, HasSubstr(SimdTargetName()));
  EXPECT_THAT(line, HasSubstr("iB of memory"));
}

}  // namespace
}  // namespace taipan
