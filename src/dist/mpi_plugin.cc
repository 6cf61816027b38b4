// The module that is linked with MPI; see mpi_calls.h. It only moves bytes: what is added to what is group.cc's affair.

#include <mpi.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <vector>

#include "dist/mpi_calls.h"

namespace taipan {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 30;  // of one call of MPI, which counts in int

bool Post(const MpiMessage& m, std::vector<MPI_Request>& requests) {
  for (int64_t begin = 0; begin < m.bytes; begin += kMostBytes) {
    const int count = static_cast<int>(std::min(kMostBytes, m.bytes - begin));
    char* const data = static_cast<char*>(m.data) + begin;
    MPI_Request request;
    const int result = m.send ? MPI_Isend(data, count, MPI_BYTE, m.peer, 0, MPI_COMM_WORLD, &request)
                              : MPI_Irecv(data, count, MPI_BYTE, m.peer, 0, MPI_COMM_WORLD, &request);
    if (result != MPI_SUCCESS) return false;
    requests.push_back(request);
  }
  return true;
}

// Looks all the time at first, then gives the CPU to others, who may be the ones it waits for, then sleeps.
void Pause(int64_t turn) {
  if (turn < 200) return;
  if (turn < 2000) {
    ::sched_yield();
    return;
  }
  const timespec nap{0, turn < 12000 ? 50000 : 500000};
  ::nanosleep(&nap, nullptr);
}

int Exchange(const MpiMessage* messages, int count, bool (*go_on)(void*), void* context) {
  static std::vector<MPI_Request> requests;
  requests.clear();
  for (const bool send : {false, true}) {  // where to put things is known before they come
    for (int i = 0; i < count; ++i) {
      if ((messages[i].send != 0) == send && !Post(messages[i], requests)) return 2;
    }
  }
  for (int64_t turn = 0;; ++turn) {
    int done = 0;
    if (MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS) {
      return 2;
    }
    if (done) return 0;
    if (turn >= 2000 && turn % 64 == 0 && !go_on(context)) return 1;
    Pause(turn);
  }
}

void Finish() { MPI_Finalize(); }
void Abort(int exit_code) { MPI_Abort(MPI_COMM_WORLD, exit_code); }

}  // namespace

extern "C" __attribute__((visibility("default"))) const MpiCalls* TaipanStartMpi() {
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS) return nullptr;
  static MpiCalls calls{0, 1, provided >= MPI_THREAD_SERIALIZED, Exchange, Finish, Abort};
  MPI_Comm_rank(MPI_COMM_WORLD, &calls.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &calls.size);
  return &calls;
}

}  // namespace taipan
