#pragma once
// What RUN_DIR holds: looked at before a run, tidied when one is begun or resumed.

#include <string>

namespace taipan {

enum class FolderContent {
  kNothing,       // of a run; other files do not matter
  kNeverTrained,  // a run that ended before its first step: a new one may take its place
  kRun,
  kOther,  // a model, metrics or checkpoints without run.json
};
FolderContent LookAtFolder(const std::string& run_dir);

// Removes what a run wrote before its first step. Only where LookAtFolder says kNeverTrained.
void RemoveNeverTrained(const std::string& run_dir);

// Where a run without checkpoints begins again: renames the folder `model` if it holds other weights than `first`,
// which would replace it. Where it is now, "" where there was nothing to keep.
std::string SetOtherModelAside(const std::string& model, const std::string& first);

// Removes temporary files that a killed process left in a run's folder.
void RemoveLeftovers(const std::string& run_dir);

}  // namespace taipan
