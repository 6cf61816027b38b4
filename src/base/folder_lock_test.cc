#include "base/folder_lock.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <regex>
#include <thread>

#include "base/test_folder.h"

namespace taipan {
namespace {

class FolderLockTest : public testing::Test {
 protected:
  std::string ErrorOf(const std::string& path) {
    return UserErrorOf([&] { FolderLock lock(path); });
  }
  TestFolder folder_;
};

TEST_F(FolderLockTest, TheSecondIsToldWhoHoldsIt) {
  const std::string path = folder_ / "run";
  auto lock = std::make_unique<FolderLock>(path);
  const std::regex expected(".*another process is training in this folder, expected none, found pid " +
                            std::to_string(::getpid()) + R"( on \S+ since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC.*)");
  const std::string error = ErrorOf(path);
  EXPECT_TRUE(std::regex_match(error, expected)) << error;
  EXPECT_TRUE(PathExists(path + "/.lock"));
  WriteFileAtomically(path + "/kept", "");
  lock.reset();
  EXPECT_EQ(ListDirectory(path), (std::vector<std::string>{"kept"}));
  EXPECT_EQ(ErrorOf(path), "");
}

TEST_F(FolderLockTest, RemovesTheFoldersItMadeIfNothingCameIntoThem) {
  { const FolderLock lock(folder_ / "a/b/c/"); }
  EXPECT_EQ(ListDirectory(folder_.path()), std::vector<std::string>{});
  MakeDirectories(folder_ / "a");
  { const FolderLock lock(folder_ / "a/b"); }
  EXPECT_EQ(ListDirectory(folder_.path()), (std::vector<std::string>{"a"}));
  { const FolderLock lock(folder_ / "a"); }
  EXPECT_TRUE(IsDirectory(folder_ / "a"));
}

TEST_F(FolderLockTest, AKilledHolderIsNoObstacle) {
  const std::string path = folder_ / "run";
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const FolderLock lock(path);
    if (::write(ready[1], "x", 1) == 1) ::pause();
    ::_exit(1);
  }
  char byte;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_NE(ErrorOf(path).find(fmt::format("pid {}", child)), std::string::npos) << ErrorOf(path);
  ::kill(child, SIGKILL);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(PathExists(path + "/.lock"));
  EXPECT_EQ(ErrorOf(path), "");
}

// Holders that come and go with the folder: never two at a time, and none that holds a file that is no longer there.
TEST_F(FolderLockTest, OneAtATimeWhereTheFolderComesAndGoes) {
  const std::string path = folder_ / "run";
  std::atomic<int> inside = 0, most = 0, holders = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 60; ++i) {
        try {
          const FolderLock lock(path);
          const int now = ++inside;
          if (now > most) most = now;
          ++holders;
          std::this_thread::yield();
          --inside;
        } catch (const UserError&) {
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(most, 1);
  EXPECT_GT(holders, 0);
}

TEST_F(FolderLockTest, AnUnusablePathIsAnError) {
  WriteFileAtomically(folder_ / "file", "");
  EXPECT_NE(ErrorOf(folder_ / "file"), "");
  EXPECT_NE(ErrorOf(folder_ / "file/run"), "");
  EXPECT_NE(ErrorOf("/proc/taipan-run"), "");
}

}  // namespace
}  // namespace taipan
