#include "base/signals.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>

#include "base/error.h"
#include "base/temporary.h"

namespace taipan {
namespace {

constexpr int kStopSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGXCPU};
constexpr int kFaults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};

thread_local bool holds_signals = false;

// What can wait: blocked faults would end the process or be lost.
sigset_t AllButFaults() {
  sigset_t set;
  sigfillset(&set);
  for (const int signal : kFaults) sigdelset(&set, signal);
  return set;
}

bool IsIgnored(int signal) {
  struct sigaction action;
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

// The stack of a thread, taken out of use before its memory goes.
struct SignalStack {
  std::unique_ptr<char[]> memory;
  ~SignalStack() {
    if (!memory) return;
    stack_t none = {};
    none.ss_flags = SS_DISABLE;
    sigaltstack(&none, nullptr);
  }
};

struct Watch {
  sigset_t signals;
  std::atomic<bool> noting{false}, started{false}, running{false};
  std::atomic<int> noted{0};
};
Watch watch;

[[noreturn]] void EndBySignal(int signal) {
  RemoveTemporaries();
  std::signal(signal, SIG_DFL);
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, signal);
  pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
  raise(signal);
  ::_exit(128 + signal);
}

void Take(int signal) {
  int none = 0;
  if (watch.noting) {
    if (watch.noted.compare_exchange_strong(none, signal) || signal == SIGXCPU) return;
    RemoveTemporaries();
    ::_exit(128 + signal);
  }
  if (!IsIgnored(signal)) EndBySignal(signal);
}

void* WatchForever(void*) {
  for (;;) {
    int signal = 0;
    if (sigwait(&watch.signals, &signal) == 0) Take(signal);
  }
}

// Small, so that it starts under tight memory limits too.
bool StartWatch() {
  constexpr size_t kStack = size_t{256} << 10;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStack);
  pthread_t thread;
  const bool started = pthread_create(&thread, &attributes, WatchForever, nullptr) == 0;
  pthread_attr_destroy(&attributes);
  return started;
}

}  // namespace

HoldSignals::HoldSignals() : outermost_(!holds_signals) {
  if (!outermost_) return;
  static const sigset_t held = AllButFaults();
  pthread_sigmask(SIG_BLOCK, &held, &before_);
  holds_signals = true;
}

HoldSignals::~HoldSignals() {
  if (!outermost_) return;
  holds_signals = false;
  const int error = errno;  // a signal that waited is handled here
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  errno = error;
}

void TakeNoSignals() {
  const sigset_t held = AllButFaults();
  pthread_sigmask(SIG_BLOCK, &held, nullptr);
  holds_signals = true;
  UseSignalStack();
}

void UseSignalStack() {
  thread_local SignalStack mine;
  stack_t now;
  if (sigaltstack(nullptr, &now) != 0 || (now.ss_flags & SS_DISABLE) == 0) return;
  // The frame alone takes 11 KiB where the CPU has AMX; the C library knows.
  const size_t bytes = (size_t{64} << 10) + static_cast<size_t>(std::max<long>(::sysconf(_SC_MINSIGSTKSZ), 0));
  mine.memory.reset(new (std::nothrow) char[bytes]);
  stack_t stack = {};
  stack.ss_sp = mine.memory.get();
  stack.ss_size = bytes;
  if (mine.memory && sigaltstack(&stack, nullptr) != 0) mine.memory.reset();
}

void HandleFault(int signal, void (*handler)(int, siginfo_t*, void*)) {
  UseSignalStack();
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

void WatchStopSignals() {
  sigset_t before;
  if (watch.started.exchange(true)) {
    if (watch.running) pthread_sigmask(SIG_BLOCK, &watch.signals, nullptr);  // another thread was the first
    return;
  }
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  sigemptyset(&watch.signals);
  for (const int signal : kStopSignals) {
    if (signal != SIGHUP || !IsIgnored(signal)) sigaddset(&watch.signals, signal);
  }
  pthread_sigmask(SIG_BLOCK, &watch.signals, &before);
  watch.running = StartWatch();
  if (!watch.running) pthread_sigmask(SIG_SETMASK, &before, nullptr);  // no thread left: as if nobody watched
}

NoteStopSignals::NoteStopSignals() {
  WatchStopSignals();
  watch.noted = 0;
  watch.noting = true;
}

NoteStopSignals::~NoteStopSignals() { watch.noting = false; }

int StopSignal() {
  // One that was sent to this very thread (raise) never comes to the other.
  const timespec now = {};
  if (watch.started) {
    if (const int signal = sigtimedwait(&watch.signals, nullptr, &now); signal > 0) Take(signal);
  }
  return watch.noted;
}

std::string SignalName(int signal) {
  const char* const name = sigabbrev_np(signal);
  return name ? std::string("SIG") + name : fmt::format("signal {}", signal);
}

}  // namespace taipan
