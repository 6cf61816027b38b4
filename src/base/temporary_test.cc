#include "base/temporary.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "base/files.h"
#include "base/test_folder.h"

namespace taipan {
namespace {

using Names = std::vector<std::string>;

// What a process that ended at once leaves: names that it had locked.
void Abandon(const std::string& target, TemporaryPath::Kind kind) {
  const pid_t child = fork();
  if (child == 0) {
    const TemporaryPath left(target, kind);
    if (kind == TemporaryPath::Kind::kFolder) WriteFileAtomically(left.path() + "/f", "x");
    raise(SIGKILL);
  }
  waitpid(child, nullptr, 0);
}

TEST(TemporaryPath, GoesWithItsOwner) {
  const TestFolder folder;
  {
    const TemporaryPath file(folder / "f", TemporaryPath::Kind::kFile);
    const TemporaryPath directory(folder / "d", TemporaryPath::Kind::kFolder);
    WriteFileAtomically(directory.path() + "/inside", "x");
    EXPECT_EQ(ListDirectory(folder.path()).size(), 2u);
  }
  EXPECT_EQ(ListDirectory(folder.path()), Names{});
}

TEST(TemporaryPath, TwoWritersOfOneTargetKeepApart) {
  const TestFolder folder;
  AtomicFile a(folder / "f"), b(folder / "f");
  a.Write("first");
  b.Write("second");
  EXPECT_EQ(ListDirectory(folder.path()).size(), 2u);
  b.Commit();
  EXPECT_EQ(ReadFile(folder / "f"), "second");
  a.Commit();
  EXPECT_EQ(ReadFile(folder / "f"), "first");
  EXPECT_EQ(ListDirectory(folder.path()), Names{"f"});
}

TEST(TemporaryPath, LeftoversOfTheSameTargetGoAndNothingElse) {
  const TestFolder folder;
  Abandon(folder / "f", TemporaryPath::Kind::kFile);
  Abandon(folder / "f", TemporaryPath::Kind::kFolder);
  Abandon(folder / "ff", TemporaryPath::Kind::kFile);
  const TemporaryPath alive(folder / "f", TemporaryPath::Kind::kFile);
  const std::string own = alive.path().substr(folder.path().size() + 1);
  for (const char* name : {"f.tmp-", "f.tmp-x", "f.tmp-1x", "f.tmp"}) WriteFileAtomically(folder / name, "a user's");
  WriteFileAtomically(folder / "f", "new");
  const Names names = ListDirectory(folder.path());
  EXPECT_EQ(names.size(), 7u) << testing::PrintToString(names);
  EXPECT_TRUE(PathExists(alive.path()) && PathExists(folder / own));
  RemoveAbandoned(folder / "");
  EXPECT_EQ(ListDirectory(folder.path()).size(), 6u);  // that of "ff" too
}

TEST(TemporaryPath, SaysWhyItCannotBeMade) {
  const TestFolder folder;
  EXPECT_THROW(TemporaryPath(folder / "no/such", TemporaryPath::Kind::kFile), std::runtime_error);
  EXPECT_THROW(TemporaryPath(folder / "no/such", TemporaryPath::Kind::kFolder), std::runtime_error);
}

}  // namespace
}  // namespace taipan
