#include "data/data_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>

#include "base/test_folder.h"

namespace taipan {
namespace {

class DataFileTest : public testing::Test {
 protected:
  void SetUp() override { WriteFileAtomically(path_, "0123456789abcdef"); }

  DataFile Open(int64_t memory = 0) const { return DataFile(path_, memory); }
  // Writes into the file that there is, as an editor or a program that fills it does, a minute later.
  void Overwrite(const std::string& content) {
    const int fd = ::open(path_.c_str(), O_WRONLY | O_TRUNC);
    ASSERT_EQ(::write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size()));
    ::close(fd);
    Touch();
  }
  void Touch() {
    namespace fs = std::filesystem;
    fs::last_write_time(path_, fs::last_write_time(path_) + std::chrono::minutes(++minutes_));
  }
  static std::string ReadSome(const DataFile& file) {
    std::string bytes(4, ' ');
    file.Read(8, 4, bytes.data());
    return bytes;
  }

  TestFolder folder_;
  const std::string path_ = folder_ / "data.txt";
  int minutes_ = 0;
};

TEST_F(DataFileTest, SmallFilesAreCopies) {
  int64_t memory = 40;
  const DataFile file(path_, memory);
  EXPECT_EQ(memory, 24);
  EXPECT_TRUE(file.in_memory());
  EXPECT_EQ(file.stamp(), (FileStamp{"data.txt", 16, HashContent("0123456789abcdef", 16)}));
  EXPECT_NO_THROW(file.CheckUnchanged());
  Overwrite("other");
  EXPECT_EQ(ReadSome(file), "89ab");
  EXPECT_THROW(file.CheckUnchanged(), DataChanged);
}

TEST_F(DataFileTest, ACutFileIsAnErrorThatNamesIt) {
  const DataFile file = Open();
  EXPECT_EQ(ReadSome(file), "89ab");
  ASSERT_EQ(::truncate(path_.c_str(), 10), 0);
  const std::string error = UserErrorOf([&] { ReadSome(file); });
  EXPECT_EQ(error.rfind(path_ + ": the data has changed since it was opened, expected 16 bytes", 0), 0u) << error;
  ASSERT_EQ(::truncate(path_.c_str(), 12), 0);  // what is read is still there
  EXPECT_THROW(ReadSome(file), DataChanged);
  RemoveTree(path_);
  EXPECT_NE(UserErrorOf([&] { ReadSome(file); }).find("No such file"), std::string::npos);
}

TEST_F(DataFileTest, OtherContentOfTheSameSizeIsNoticed) {
  const DataFile file = Open();
  Overwrite("0123456789abcdeX");
  EXPECT_THROW(ReadSome(file), DataChanged);
  EXPECT_THROW(file.CheckUnchanged(), DataChanged);
  const DataFile again = Open();
  WriteFileAtomically(path_, "0123456789abcdef");  // a new file of this name
  EXPECT_THROW(ReadSome(again), DataChanged);
}

TEST_F(DataFileTest, TheSameContentIsTheSameData) {
  const DataFile file = Open();
  Touch();
  EXPECT_EQ(ReadSome(file), "89ab");
  Overwrite("0123456789abcdef");
  EXPECT_EQ(ReadSome(file), "89ab");
  WriteFileAtomically(path_, "0123456789abcdef");
  EXPECT_NO_THROW(file.CheckUnchanged());
}

TEST_F(DataFileTest, ManyFilesNeedNoDescriptors) {
  struct rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  struct rlimit few = before;
  few.rlim_cur = 40;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  std::vector<DataFile> files;
  for (int i = 0; i < 100; ++i) files.push_back(Open());
  EXPECT_EQ(ReadSome(files.front()), "89ab");
  setrlimit(RLIMIT_NOFILE, &before);
}

// Beyond 64 MiB content is known by samples alone, so a new time is a change.
TEST_F(DataFileTest, LargeFilesAreReadWhenTheyAreNeeded) {
  constexpr int64_t kSize = int64_t{65} << 20;
  ASSERT_EQ(::truncate(path_.c_str(), kSize), 0);  // sparse
  const DataFile file = Open(kSize);
  EXPECT_FALSE(file.in_memory());
  const std::string zeros(static_cast<size_t>(kSize) - 16, '\0');
  EXPECT_EQ(file.stamp().hash, HashContent(("0123456789abcdef" + zeros).data(), kSize));
  EXPECT_EQ(ReadSome(file), "89ab");
  Touch();
  EXPECT_THROW(ReadSome(file), DataChanged);
}

TEST_F(DataFileTest, RefusesWhatIsNoFile) {
  EXPECT_NE(UserErrorOf([&] {
              int64_t memory = 0;
              DataFile("/dev/null", memory);
            }).find("expected a file, found a device"),
            std::string::npos);
}

}  // namespace
}  // namespace taipan
