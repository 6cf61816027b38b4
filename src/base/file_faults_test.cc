#include "base/file_faults.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <numeric>

#include "base/test_folder.h"

namespace taipan {
namespace {

constexpr int64_t kBytes = 1 << 20;

// Reads every page of a file that is cut after it was mapped.
void ReadCut(const std::string& path) {
  ReportFileFaults();
  const MappedFile file(path);
  CHECK_EQ(::truncate(path.c_str(), 5000), 0);
  int64_t sum = 0;
  for (int64_t i = 0; i < file.size(); i += 4096) sum += file.data()[i];
  std::_Exit(sum == 0 ? 77 : 78);
}

TEST(FileFaultsDeathTest, ACutFileEndsWithItsName) {
  const TestFolder folder;
  WriteFileAtomically(folder / "weights", std::string(kBytes, '\0'));
  EXPECT_EXIT(ReadCut(folder / "weights"), testing::ExitedWithCode(1),
              "^taipan: error: .*/weights: the file was cut, or its disk failed, while it was read\n$");
}

TEST(FileFaultsDeathTest, OtherFaultsAreAsBefore) {
  const TestFolder folder;
  WriteFileAtomically(folder / "weights", std::string(kBytes, '\0'));
  const auto raise_other = [&] {
    ReportFileFaults();
    const MappedFile file(folder / "weights");
    ::raise(SIGBUS);
  };
#ifdef __SANITIZE_ADDRESS__  // its own report is what was before
  EXPECT_DEATH(raise_other(), "AddressSanitizer: BUS");
#else
  EXPECT_EXIT(raise_other(), testing::KilledBySignal(SIGBUS), "^$");
#endif
}

// KiB of a mapping that are in memory.
int64_t ResidentKib(const char* data) {
  std::ifstream maps("/proc/self/smaps");
  const std::string address = fmt::format("{:x}-", reinterpret_cast<uintptr_t>(data));
  bool found = false;
  for (std::string line; std::getline(maps, line);) {
    found = found || line.starts_with(address);
    if (found && line.starts_with("Rss:")) return std::stoll(line.substr(4));
  }
  return -1;
}

TEST(MappedFile, ReadsWithoutMappingPages) {
  const TestFolder folder;
  std::string content(kBytes, 'x');
  std::iota(content.begin() + 100, content.begin() + 200, 'a');
  WriteFileAtomically(folder / "weights", content);
  const MappedFile file(folder / "weights");
  std::string part(kBytes - 100, '\0');
  file.Read(file.data() + 100, kBytes - 100, part.data());
  EXPECT_EQ(part, content.substr(100));
  EXPECT_EQ(ResidentKib(file.data()), 0);
  ASSERT_EQ(::truncate((folder / "weights").c_str(), kBytes / 2), 0);
  EXPECT_NE(
      UserErrorOf([&] { file.Read(file.data(), kBytes, part.data()); }).find("the file changed while it was read"),
      std::string::npos);
}

// Within the last page a cut file reads as zeros, without any signal.
TEST(MappedFile, NoticesThatTheFileChanged) {
  const TestFolder folder;
  WriteFileAtomically(folder / "weights", "0123456789");
  const MappedFile file(folder / "weights");
  EXPECT_NO_THROW(file.CheckUnchanged());
  ASSERT_EQ(::truncate((folder / "weights").c_str(), 4), 0);
  EXPECT_NE(UserErrorOf([&] { file.CheckUnchanged(); }).find("weights: the file changed while it was read"),
            std::string::npos);
}

}  // namespace
}  // namespace taipan
