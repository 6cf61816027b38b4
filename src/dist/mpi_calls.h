#pragma once
// What the module that is linked with MPI offers to the program, which loads it when it was started by mpirun: a plain
// start pays nothing for MPI, and a program built where MPI is missing is the same program.

#include <cstddef>
#include <cstdint>

namespace taipan {

struct MpiMessage {
  int send;  // else receive
  int peer;
  void* data;
  int64_t bytes;
};

struct MpiCalls {
  int rank, size;
  int any_thread;  // may call, one at a time
  // Posts all messages and waits until they are done; asks `go_on` now and then while it waits. 0: done, 1: `go_on`
  // said no, 2: MPI failed.
  int (*exchange)(const MpiMessage* messages, int count, bool (*go_on)(void*), void* context);
  void (*finish)();
  void (*abort)(int exit_code);
};

// Initialises MPI. Null where that fails.
extern "C" const MpiCalls* TaipanStartMpi();
using StartMpi = const MpiCalls* (*)();

}  // namespace taipan
