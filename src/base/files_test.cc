#include "base/files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "base/error.h"
#include "base/test_folder.h"

namespace taipan {

namespace internal {
void ReplaceByThirdName(const std::string& from, const std::string& to);
}

namespace {

using testing::ElementsAre;
using testing::HasSubstr;

void Put(const std::string& path, const std::string& content) { std::ofstream(path, std::ios::binary) << content; }

// The exit code of f() run in a child process; 99 for an exception.
template <class F>
int ExitCodeOfChild(F&& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 99;
    try {
      code = f();
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}

TEST(ReadFile, WholeContent) {
  TestFolder folder;
  const std::string binary("a\0b\r\n\xff", 6);
  for (const std::string& content : {std::string(), std::string("x"), binary, std::string(3'000'000, 'q')}) {
    Put(folder / "f", content);
    EXPECT_EQ(ReadFile(folder / "f"), content);
  }
  EXPECT_THAT(ReadFile("/proc/self/status"), HasSubstr("VmRSS"));  // its size says 0
}

TEST(ReadFile, ErrorsNameThePath) {
  TestFolder folder;
  EXPECT_THAT(UserErrorOf([&] { ReadFile(folder / "none"); }),
              HasSubstr((folder / "none") + ": cannot open: No such file"));
  EXPECT_THAT(UserErrorOf([&] { ReadFile(folder.path()); }), HasSubstr("expected a file, found a folder"));
  EXPECT_THAT(UserErrorOf([&] { MappedFile m(folder / "none"); }), HasSubstr((folder / "none") + ": cannot open"));
  EXPECT_THAT(UserErrorOf([&] { MappedFile m(folder.path()); }), HasSubstr("found a folder"));
  EXPECT_THAT(UserErrorOf([&] { MappedFile m("/dev/null"); }), HasSubstr("expected a regular file"));
}

std::atomic<int> interruptions{0};

TEST(ReadFile, SurvivesInterruptedCalls) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  struct sigaction act {};
  act.sa_handler = [](int) { ++interruptions; };  // no SA_RESTART: blocking calls fail with EINTR
  struct sigaction before;
  ::sigaction(SIGALRM, &act, &before);

  std::thread writer([&] {
    sigset_t alarms;  // blocked here: the signals must reach the reader
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    ::pthread_sigmask(SIG_BLOCK, &alarms, nullptr);
    for (const char piece : {'a', 'b', 'c'}) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      EXPECT_EQ(::write(ends[1], &piece, 1), 1);
    }
    ::close(ends[1]);
  });
  const itimerval every_2ms{{0, 2000}, {0, 2000}}, off{};
  ::setitimer(ITIMER_REAL, &every_2ms, nullptr);
  std::string content;
  const std::string complaint = UserErrorOf([&] { content = ReadFile(fmt::format("/proc/self/fd/{}", ends[0])); });
  ::setitimer(ITIMER_REAL, &off, nullptr);
  writer.join();
  ::close(ends[0]);
  ::sigaction(SIGALRM, &before, nullptr);
  EXPECT_EQ(complaint, "");
  EXPECT_EQ(content, "abc");
  EXPECT_GT(interruptions.load(), 0);
}

TEST(MappedFile, ContentAndEmpty) {
  TestFolder folder;
  Put(folder / "f", "hello");
  const MappedFile mapped(folder / "f");
  EXPECT_EQ(std::string(mapped.data(), static_cast<size_t>(mapped.size())), "hello");
  Put(folder / "e", "");
  EXPECT_EQ(MappedFile(folder / "e").size(), 0);
}

TEST(AtomicFile, AppearsOnlyAtCommit) {
  TestFolder folder;
  Put(folder / "f", "old");
  {
    AtomicFile file(folder / "f");
    file.Write("new ");
    file.Write(std::string(100'000, 'x'));
    EXPECT_EQ(ReadFile(folder / "f"), "old");
    EXPECT_EQ(ListDirectory(folder.path()).size(), 2u);
    file.Commit();
    EXPECT_EQ(ReadFile(folder / "f"), "new " + std::string(100'000, 'x'));
    EXPECT_THROW(file.Write("more"), InternalError);
  }
  EXPECT_THAT(ListDirectory(folder.path()), ElementsAre("f"));
}

TEST(AtomicFile, WithoutCommitLeavesWhatWasThere) {
  TestFolder folder;
  Put(folder / "f", "old");
  { AtomicFile(folder / "f").Write("new"); }
  EXPECT_EQ(ReadFile(folder / "f"), "old");
  EXPECT_THAT(ListDirectory(folder.path()), ElementsAre("f"));
}

TEST(AtomicFile, ReadersOfTheOldFileKeepIt) {
  TestFolder folder;
  Put(folder / "f", "old");
  const MappedFile mapped(folder / "f");
  WriteFileAtomically(folder / "f", "NEW");
  EXPECT_EQ(std::string(mapped.data(), 3), "old");
  EXPECT_EQ(ReadFile(folder / "f"), "NEW");
}

TEST(AtomicFile, KeepsASymbolicLink) {
  TestFolder folder;
  Put(folder / "real", "old");
  ASSERT_EQ(::symlink("real", (folder / "link").c_str()), 0);
  WriteFileAtomically(folder / "link", "new");
  EXPECT_EQ(ReadFile(folder / "real"), "new");
  EXPECT_THAT(ListDirectory(folder.path()), ElementsAre("link", "real"));
}

TEST(AtomicFile, RefusesFoldersAndDevices) {
  TestFolder folder;
  EXPECT_THAT(UserErrorOf([&] { WriteFileAtomically(folder.path(), "x"); }), HasSubstr("found a folder of this name"));
  EXPECT_THAT(UserErrorOf([&] { WriteFileAtomically("/dev/full", "x"); }), HasSubstr("found a device or pipe"));
  EXPECT_THAT(UserErrorOf([&] { WriteFileAtomically(folder / "no/such/f", "x"); }),
              HasSubstr((folder / "no/such/f") + ": cannot create: No such file or directory"));
}

// Codes: 0 all as promised, 1 no error, 2 wrong message, 3 temporary file left, 4 the old file was touched.
int WriteAndJudge(const TestFolder& folder, const std::string& content, const std::string& message) {
  const std::string complaint = UserErrorOf([&] { WriteFileAtomically(folder / "f", content); });
  if (complaint.empty()) return 1;
  if (complaint.find((folder / "f") + ": cannot " + message) != 0) return 2;
  if (ListDirectory(folder.path()).size() != 1) return 3;
  return ReadFile(folder / "f") == "old" ? 0 : 4;
}

// Over the limit, write() first returns a short count and then fails with EFBIG, like a disk that fills up.
TEST(AtomicFile, FullDisk) {
  TestFolder folder;
  Put(folder / "f", "old");
  EXPECT_EQ(ExitCodeOfChild([&] {
              ::signal(SIGXFSZ, SIG_IGN);
              const rlimit limit{64 * 1024, 64 * 1024};
              if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 97;
              return WriteAndJudge(folder, std::string(1'000'000, 'x'), "write: File too large");
            }),
            0);
}

TEST(AtomicFile, UnwritableFolder) {
  TestFolder folder;
  Put(folder / "f", "old");
  ::chmod(folder.path().c_str(), 0555);
  EXPECT_EQ(ExitCodeOfChild([&] {
              if (::geteuid() == 0 && ::seteuid(65534) != 0) return 97;  // root may write anywhere
              return WriteAndJudge(folder, "new", "create: Permission denied");
            }),
            0);
  ::chmod(folder.path().c_str(), 0755);
}

TEST(AtomicFile, LeavesACompleteFileWhenKilled) {
  TestFolder folder;
  Put(folder / "f", "old");
  EXPECT_EQ(ExitCodeOfChild([&] {
              AtomicFile file(folder / "f");
              file.Write("half");
              ::raise(SIGKILL);
              return 0;
            }),
            98);
  EXPECT_EQ(ReadFile(folder / "f"), "old");
}

TEST(Directories, MakeListRemove) {
  TestFolder folder;
  MakeDirectories(folder / "a/b/c/");
  MakeDirectories(folder / "a/b");  // there already: fine
  Put(folder / "a/z", "");
  Put(folder / "a/B", "");
  EXPECT_THAT(ListDirectory(folder / "a"), ElementsAre("B", "b", "z"));
  EXPECT_TRUE(PathExists(folder / "a/z"));
  EXPECT_FALSE(PathExists(folder / "a/y"));
  EXPECT_TRUE(IsDirectory(folder / "a"));
  EXPECT_FALSE(IsDirectory(folder / "a/z"));
  EXPECT_THAT(UserErrorOf([&] { MakeDirectories(folder / "a/z"); }),
              HasSubstr((folder / "a/z") + ": cannot create the"));
  EXPECT_THAT(UserErrorOf([&] { MakeDirectories(folder / "a/z/y"); }), HasSubstr("cannot create the folder"));
  EXPECT_THAT(UserErrorOf([&] { ListDirectory(folder / "none"); }), HasSubstr("No such file"));
  RemoveTree(folder / "a");
  RemoveTree(folder / "a");  // gone already: fine
  EXPECT_THAT(ListDirectory(folder.path()), ElementsAre());
}

class ReplaceDirectoryTest : public testing::TestWithParam<void (*)(const std::string&, const std::string&)> {};

TEST_P(ReplaceDirectoryTest, PutsTheNewInPlaceOfTheOld) {
  TestFolder folder;
  MakeDirectories(folder / "new");
  MakeDirectories(folder / "model/inner");
  Put(folder / "new/f", "new");
  Put(folder / "model/inner/f", "old");
  Put(folder / "model/only-old", "old");
  GetParam()(folder / "new", folder / "model");
  EXPECT_THAT(ListDirectory(folder.path()), ElementsAre("model"));
  EXPECT_THAT(ListDirectory(folder / "model"), ElementsAre("f"));
  EXPECT_EQ(ReadFile(folder / "model/f"), "new");
}

INSTANTIATE_TEST_SUITE_P(Ways, ReplaceDirectoryTest, testing::Values(&ReplaceDirectory, &internal::ReplaceByThirdName));

TEST(ReplaceDirectory, WhereNothingWasAndErrors) {
  TestFolder folder;
  MakeDirectories(folder / "new");
  ReplaceDirectory(folder / "new/", folder / "model/");
  EXPECT_THAT(ListDirectory(folder.path()), ElementsAre("model"));
  EXPECT_THAT(UserErrorOf([&] { ReplaceDirectory(folder / "new", folder / "model"); }),
              HasSubstr((folder / "new") + ": "));
  EXPECT_TRUE(IsDirectory(folder / "model"));
  Put(folder / "file", "");
  EXPECT_THAT(UserErrorOf([&] { ReplaceDirectory(folder / "model", folder / "file"); }),
              HasSubstr("a file of this name"));
  EXPECT_THAT(UserErrorOf([&] { internal::ReplaceByThirdName(folder / "none", folder / "model"); }),
              HasSubstr("model"));
  EXPECT_TRUE(IsDirectory(folder / "model"));  // put back
}

}  // namespace
}  // namespace taipan
