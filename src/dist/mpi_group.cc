#include <dlfcn.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "dist/group.h"
#include "dist/mpi_calls.h"

namespace taipan {
namespace {

// Who a rank is to the others on its machine.
struct Presence {
  uint64_t machine = 0;  // a hash; processes of the same machine see each other
  uint64_t cpus = 0;     // a hash of those that it may use
  int64_t process = 0;
};

uint64_t Hash(const void* data, size_t bytes, uint64_t hash = 1469598103934665603u) {
  for (size_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 1099511628211u;
  return hash;
}

Presence OwnPresence() {
  Presence own;
  char name[256] = {};
  ::gethostname(name, sizeof(name) - 1);
  own.machine = Hash(name, std::strlen(name));
  struct stat space;  // containers of one host name have process numbers of their own
  if (::stat("/proc/self/ns/pid", &space) == 0) own.machine = Hash(&space.st_ino, sizeof(space.st_ino), own.machine);
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  ::sched_getaffinity(0, sizeof(cpus), &cpus);
  own.cpus = Hash(&cpus, sizeof(cpus), own.machine);
  own.process = ::getpid();
  return own;
}

class MpiGroup : public Group {
 public:
  explicit MpiGroup(const MpiCalls& calls) : Group(calls.rank, calls.size), calls_(calls) {
    any_thread_ = calls.any_thread != 0;
    Meet();
  }
  ~MpiGroup() override {
    if (!deserted_) calls_.finish();
  }

  void Exchange(std::span<const Message> messages) override {
    std::vector<MpiMessage> all;
    for (const Message& m : messages) {
      all.push_back({m.way == Message::kSend, m.peer, m.data, m.bytes});
      if (m.way == Message::kSend) bytes_sent_ += m.bytes;
    }
    const auto go_on = [](void* self) { return static_cast<MpiGroup*>(self)->FindEnded() < 0; };
    const int result = calls_.exchange(all.data(), static_cast<int>(all.size()), go_on, this);
    if (result == 0) return;
    Desert();
    const int ended = FindEnded();
    if (ended < 0) throw UserError("mpirun", "the exchange with the other ranks failed");
    throw UserError({fmt::format("rank {}", ended), "its process has ended", "", "", "--resume goes on with the run"});
  }

  void Abort(int exit_code) override {
    calls_.abort(exit_code);
    std::_Exit(exit_code);
  }

 private:
  void Meet() {
    ranks_.resize(static_cast<size_t>(size_));
    const Presence own = ranks_[static_cast<size_t>(rank_)] = OwnPresence();
    std::vector<int64_t> bounds;
    for (int r = 0; r <= size_; ++r) bounds.push_back(r * static_cast<int64_t>(sizeof(Presence)));
    GatherPieces(std::as_writable_bytes(std::span<Presence>(ranks_)), bounds);
    on_machine_ = on_cpus_ = 0;
    for (const Presence& r : ranks_) {
      on_machine_ += r.machine == own.machine;
      on_cpus_ += r.cpus == own.cpus;
    }
    met_ = true;
  }

  // A rank on this machine whose process is gone; -1: none.
  int FindEnded() const {
    if (!met_) return -1;
    for (int r = 0; r < size_; ++r) {
      const Presence& other = ranks_[static_cast<size_t>(r)];
      if (other.machine != ranks_[static_cast<size_t>(rank_)].machine) continue;
      if (::kill(static_cast<pid_t>(other.process), 0) != 0 && errno == ESRCH) return r;
    }
    return -1;
  }

  const MpiCalls& calls_;
  std::vector<Presence> ranks_;
  bool met_ = false;
};

int64_t NumberIn(const char* variable) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? 0 : std::atoll(text);
}

void* Open(const std::string& module, std::string& error) {
  // What MPI loads later looks for MPI's names among all that are loaded.
  void* const opened = ::dlopen(module.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (opened == nullptr) error = ::dlerror();
  return opened;
}

// The module lies beside the program, or where it was installed, or where the user says.
void* OpenModule(std::string& error) {
  if (const char* const chosen = std::getenv("TAIPAN_MPI_MODULE")) return Open(chosen, error);
  char program[4096];
  const ssize_t length = ::readlink("/proc/self/exe", program, sizeof(program));
  const std::string path(program, static_cast<size_t>(std::max<ssize_t>(length, 0)));
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  for (const char* below : {"", TAIPAN_MODULE_FOLDER "/"}) {
    const std::string module = folder + below + "libtaipan_mpi.so";
    if (::access(module.c_str(), F_OK) == 0) return Open(module, error);
  }
  error = "libtaipan_mpi.so is not beside the program";
  return nullptr;
}

}  // namespace

std::unique_ptr<Group> JoinGroup() {
  const int64_t wanted = std::max(NumberIn("OMPI_COMM_WORLD_SIZE"), NumberIn("PMI_SIZE"));
  if (wanted <= 1) return std::make_unique<GroupOfOne>();
  const std::string where = fmt::format("mpirun, {} ranks", wanted);
  std::string error;
  void* const module = OpenModule(error);
  const auto start = module == nullptr ? nullptr : reinterpret_cast<StartMpi>(::dlsym(module, "TaipanStartMpi"));
  if (start == nullptr) {
    throw UserError({where, "this program cannot talk to the others, " + error, "a build with Open MPI", "",
                     "install libopenmpi-dev and openmpi-bin, then build again"});
  }
  const MpiCalls* const calls = start();
  if (calls == nullptr) throw UserError(where, "MPI does not start");
  if (calls->size != wanted) {
    throw UserError({where, "the processes do not find each other", "Open MPI's mpirun, the one built with",
                     fmt::format("{} ranks", calls->size)});
  }
  return std::make_unique<MpiGroup>(*calls);
}

}  // namespace taipan
