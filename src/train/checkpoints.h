#pragma once
// RUN_DIR/checkpoints/step-N: written beside, made durable, then renamed, so that a checkpoint is complete or absent.
// files.json in it holds the size and the checksum of every file.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace taipan {

struct SavedStep {
  int64_t step = 0;
  std::string path;
};

struct DamagedCheckpoint {
  SavedStep checkpoint;
  std::string why;  // "model/model.safetensors has another checksum ..."
};

// What a run can continue from.
struct CheckpointChoice {
  std::optional<SavedStep> newest;         // the newest complete one
  std::vector<DamagedCheckpoint> damaged;  // the newer ones that were passed over, newest first
};

class Checkpoints {
 public:
  // Which stay when one is written.
  struct Keep {
    int64_t newest = 2;  // so many
    int64_t every = 0;   // of every so many steps the first one, 0: none
    // What a run may have to go back to, so many steps; 0: it never does. Only checkpoints of every save_every-th step
    // are gone back to, so that a run goes where it would have gone without an interruption.
    int64_t rewind = 0, save_every = 0;
  };
  Checkpoints(const std::string& run_dir, Keep keep);
  Checkpoints(const std::string& run_dir, int64_t newest) : Checkpoints(run_dir, Keep{.newest = newest}) {}

  // Reads the files of the newest one, and of the one before while they are not what was written.
  CheckpointChoice Choose() const;
  // The newest whole one of this step or before that a run may go back to.
  std::optional<SavedStep> RewindTarget(int64_t step) const;
  void RemoveAfter(int64_t step);
  bool Any() const { return !List().empty(); }
  std::vector<SavedStep> List() const;  // whole or not, ascending

  // fill writes the files, each durably, into the folder it is given. On an error nothing is left of it and the
  // checkpoints there were stay. Afterwards those that are not to be kept are removed.
  SavedStep Write(int64_t step, const std::function<void(const std::string& directory)>& fill);

  void RemoveUnfinished();  // what a killed process left half-written
  // Renames a damaged one so that it is no checkpoint any more and is never removed; where it is now.
  std::string SetAside(const SavedStep& damaged);

 private:
  void RemoveOld() const;
  bool Regular(const SavedStep& saved) const { return keep_.save_every == 0 || saved.step % keep_.save_every == 0; }
  std::string folder_;
  Keep keep_;
};

// "" where the files of a checkpoint's folder are what was written, else what is wrong with the first that is not.
// (Manifests of versions before checksums hold sizes alone.)
std::string DamageOf(const std::string& checkpoint);

// Makes `to` hold the files of the folder `from`, each replaced by one rename; the first time the whole folder appears
// by one rename. They are copies: whatever is done to them in place, `from` stays as it is.
void PublishFolder(const std::string& from, const std::string& to);

}  // namespace taipan
