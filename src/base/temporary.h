#pragma once
// Files and folders that are being written. They go when their owner gives up, when a signal ends the process, and
// where nothing could be done (SIGKILL, a power cut) when the same target is written again.

#include <mutex>
#include <string>

namespace taipan {

// An empty file or folder TARGET.tmp-PID, locked as long as this lives: a lock that ends with the process tells what is
// left over from what is being written. Removes the target's leftovers first, and at the end whatever has the name.
class TemporaryPath {
 public:
  enum class Kind { kFile, kFolder };
  TemporaryPath(const std::string& target, Kind kind);  // UserError where it cannot be made
  ~TemporaryPath();
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;
  const std::string& path() const { return path_; }
  int fd() const { return fd_; }  // of a file: open for writing

 private:
  bool Make(Kind kind, int* error);
  std::string path_;
  int fd_ = -1;
};

// A name that goes if a signal ends the process while this lives; otherwise its owner has to see to it.
class RemovedBySignal {
 public:
  explicit RemovedBySignal(const std::string& path);
  ~RemovedBySignal();
  RemovedBySignal(const RemovedBySignal&) = delete;
  RemovedBySignal& operator=(const RemovedBySignal&) = delete;

 private:
  const std::string path_;
};

// Held while a temporary name becomes a final one, so that a signal finds either the one or the other.
std::unique_lock<std::mutex> LockTemporaries();

// For a process that ends now: removes all, and lets no thread make or move another.
void RemoveTemporaries();

// Removes TARGET.tmp-PID of processes that are no more; for "FOLDER/" those of every target in the folder.
void RemoveAbandoned(const std::string& target);

}  // namespace taipan
