#include "base/signals.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/files.h"
#include "base/parallel.h"
#include "base/temporary.h"
#include "base/test_folder.h"

namespace taipan {
namespace {

std::atomic<int> noted{0};

TEST(HoldSignals, LetsThemWaitAndNests) {
  struct sigaction action = {}, before;
  action.sa_handler = [](int) { noted = noted + 1; };
  sigaction(SIGUSR1, &action, &before);
  noted = 0;
  {
    const HoldSignals outer;
    {
      const HoldSignals inner;
      raise(SIGUSR1);
    }
    EXPECT_EQ(noted, 0);
  }
  EXPECT_EQ(noted, 1);
  raise(SIGUSR1);
  EXPECT_EQ(noted, 2);
  sigaction(SIGUSR1, &before, nullptr);
}

// Ranks that are threads, or a host's: the one that trains need not be the one that watched first.
TEST(Signals, AreNotedInEveryThreadThatAsks) {
  const auto noted_after_another_thread = [] {
    std::thread([] { WatchStopSignals(); }).join();
    const NoteStopSignals note;
    raise(SIGINT);
    ::_exit(StopSignal() == SIGINT ? 0 : 1);
  };
  EXPECT_EXIT(noted_after_another_thread(), testing::ExitedWithCode(0), "");
}

TEST(Signals, ThreadsOfTheParallelLoopTakeFaultsAlone) {
  SetNumThreads(3);
  std::atomic<int> seen{0};
  std::atomic<bool> all{true}, stacks{true};
  ParallelFor(64, [&](int64_t, int thread) {
    usleep(500);
    if (thread == 0) return;
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    for (const int signal : {SIGINT, SIGALRM, SIGPROF, SIGCHLD, SIGWINCH, SIGUSR1})
      if (!sigismember(&blocked, signal)) all = false;
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE})
      if (sigismember(&blocked, signal)) all = false;
    stack_t stack;
    sigaltstack(nullptr, &stack);
    if (stack.ss_flags & SS_DISABLE) stacks = false;
    ++seen;
  });
  SetNumThreads(1);
  EXPECT_GT(seen, 0);
  EXPECT_TRUE(all);
  EXPECT_TRUE(stacks);
}

TEST(Signals, FaultsAreHandledOnAStackOfTheirOwn) {
  const pid_t child = fork();
  if (child == 0) {
    HandleFault(SIGBUS, [](int, siginfo_t*, void*) {
      stack_t now;
      sigaltstack(nullptr, &now);
      _exit((now.ss_flags & SS_ONSTACK) ? 7 : 8);
    });
    raise(SIGBUS);
    _exit(9);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
}

// Each in a process of its own: watching lasts as long as the process.
int StatusOf(void (*f)(const std::string&), const std::string& argument) {
  const pid_t child = fork();
  if (child == 0) {
    f(argument);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

void WriteForever(const std::string& path) {
  WatchStopSignals();
  AtomicFile file(path);
  kill(getpid(), SIGTERM);
  sleep(10);
}

TEST(StopSignals, EndTheProcessAfterItsTemporaryFiles) {
  const TestFolder folder;
  const int status = StatusOf(WriteForever, folder / "f");
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << status;
  EXPECT_EQ(ListDirectory(folder.path()), std::vector<std::string>{});
}

void NoteThenEnd(const std::string& path) {
  const NoteStopSignals guard;
  if (StopSignal() != 0) _exit(1);
  kill(getpid(), SIGXCPU);
  while (StopSignal() == 0) usleep(100);
  kill(getpid(), SIGXCPU);  // comes every second while the process saves
  usleep(20000);
  if (StopSignal() != SIGXCPU) _exit(2);
  AtomicFile file(path);
  kill(getpid(), SIGHUP);
  sleep(10);
}

TEST(StopSignals, AreNotedOnceAndTheSecondEndsAtOnce) {
  const TestFolder folder;
  const int status = StatusOf(NoteThenEnd, folder / "f");
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGHUP) << status;
  EXPECT_EQ(ListDirectory(folder.path()), std::vector<std::string>{});
}

TEST(StopSignals, HaveNames) {
  EXPECT_EQ(SignalName(SIGTERM), "SIGTERM");
  EXPECT_EQ(SignalName(40), "signal 40");
}

}  // namespace
}  // namespace taipan
