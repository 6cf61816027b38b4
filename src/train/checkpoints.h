#pragma once
// RUN_DIR/checkpoints/step-N: written beside, made durable, then renamed, so that a checkpoint is complete or absent.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace taipan {

struct Checkpoint {
  int64_t step = 0;
  std::string path;
};

class Checkpoints {
 public:
  Checkpoints(const std::string& run_dir, int64_t keep);

  // The newest one whose files all have the sizes they were written with.
  std::optional<Checkpoint> Newest() const;

  // fill writes the files, each durably, into the folder it is given. On an error nothing is left of it and the
  // checkpoints there were stay. Afterwards all but the `keep` newest are removed.
  Checkpoint Write(int64_t step, const std::function<void(const std::string& directory)>& fill);

  void RemoveUnfinished();         // what a killed process left half-written
  void RemoveAfter(int64_t step);  // newer ones that Newest() passed over as damaged

 private:
  std::vector<Checkpoint> List() const;  // ascending
  std::string folder_;
  int64_t keep_;
};

// Makes `to` hold the files of the folder `from`, each replaced by one rename; the first time the whole folder appears
// by one rename. Files are shared (hard links) where the file system allows, else copied.
void PublishFolder(const std::string& from, const std::string& to);

}  // namespace taipan
