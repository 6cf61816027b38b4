#pragma once
// Signals in a process whose threads compute. Generated code of oneDNN's f32 products uses the stack pointer for data:
// a handler that runs on the stack of such a thread overwrites whatever lies there. So
//   - the program takes the signals that ask it to stop in a thread of their own (WatchStopSignals);
//   - a thread that computes takes no other signal meanwhile (HoldSignals, TakeNoSignals): not those of a host's
//     timers, children or profilers either;
//   - faults cannot wait: their handlers run on a stack of their own (HandleFault, UseSignalStack).

#include <csignal>
#include <string>

namespace taipan {

// While it lives, this thread takes no signal but faults; others wait for its end, or go to another thread. errno
// stays.
class HoldSignals {
 public:
  HoldSignals();
  ~HoldSignals();
  HoldSignals(const HoldSignals&) = delete;
  HoldSignals& operator=(const HoldSignals&) = delete;

 private:
  bool outermost_;
  sigset_t before_;
};

// For a thread that does nothing but compute: the same until it ends, with a stack for handlers of faults.
void TakeNoSignals();

// Gives this thread a stack for handlers with SA_ONSTACK until it ends, unless it has one.
void UseSignalStack();

// Installs the handler of a fault (SIGBUS, ...) for the process, on signal stacks: those of the threads of ParallelFor
// and of the thread that calls this. It must call async-signal-safe functions only.
void HandleFault(int signal, void (*handler)(int signal, siginfo_t* info, void* context));

// From now on SIGINT, SIGTERM, SIGHUP (unless nohup ignores it) and SIGXCPU come to a thread of their own. Where
// nothing notes them they end the process as they would have, but temporary files go first. SIGPIPE and SIGXFSZ are
// errors of the write that meets them. To be called before there are other threads; a later call holds them back from
// its own thread, too.
void WatchStopSignals();

// While it lives, the first of these signals is only noted; the second ends the process at once, with 128 + its number,
// without temporary files. (SIGXCPU comes every second and ends nothing.) One at a time.
class NoteStopSignals {
 public:
  NoteStopSignals();
  ~NoteStopSignals();
  NoteStopSignals(const NoteStopSignals&) = delete;
  NoteStopSignals& operator=(const NoteStopSignals&) = delete;
};

// The signal noted since NoteStopSignals began, also after its end; 0: none.
int StopSignal();

std::string SignalName(int signal);  // "SIGTERM"

}  // namespace taipan
