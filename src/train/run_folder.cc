#include "train/run_folder.h"

#include <algorithm>
#include <filesystem>

#include "base/content_hash.h"
#include "base/error.h"
#include "base/files.h"
#include "train/checkpoints.h"

namespace taipan {
namespace {

// "NAME.tmp-PID" of AtomicFile, "NAME.old-PID" of ReplaceDirectory.
bool IsTemporary(const std::string& name) {
  for (const char* mark : {".tmp-", ".old-"}) {
    const size_t at = name.rfind(mark);
    if (at == std::string::npos || at + 5 == name.size()) continue;
    if (std::all_of(name.begin() + static_cast<ptrdiff_t>(at) + 5, name.end(),
                    [](char c) { return c >= '0' && c <= '9'; }))
      return true;
  }
  return false;
}

}  // namespace

FolderContent LookAtFolder(const std::string& run_dir) {
  std::error_code missing;
  const uintmax_t metrics = std::filesystem::file_size(run_dir + "/metrics.jsonl", missing);
  const bool trained = !missing && metrics > 0;
  const bool checkpoints = Checkpoints(run_dir, 1).Any();
  if (PathExists(run_dir + "/run.json")) {
    return trained || checkpoints ? FolderContent::kRun : FolderContent::kNeverTrained;
  }
  for (const char* name : {"/metrics.jsonl", "/checkpoints", "/model"}) {
    if (PathExists(run_dir + name)) return FolderContent::kOther;
  }
  return FolderContent::kNothing;
}

void RemoveNeverTrained(const std::string& run_dir) {
  RemoveLeftovers(run_dir);
  // run.json last: without it the rest would be nobody's.
  for (const char* name : {"model", "checkpoints", "metrics.jsonl", "samples.jsonl", "tensorboard", "metrics.prom",
                           "report.html", "data.json", "trainer.json", "run.json"}) {
    RemoveTree(run_dir + "/" + name);
  }
}

std::string SetOtherModelAside(const std::string& model, const std::string& first) {
  const std::string weights = "/model.safetensors";
  if (!PathExists(model + weights) || FileChecksum(model + weights) == FileChecksum(first + weights)) return "";
  std::string aside = model + "-before";
  for (int i = 2; PathExists(aside); ++i) aside = fmt::format("{}-before-{}", model, i);
  ReplaceDirectory(model, aside);
  return aside;
}

void RemoveLeftovers(const std::string& run_dir) {
  for (const std::string& folder : {run_dir, run_dir + "/model"}) {
    if (!IsDirectory(folder)) continue;
    for (const std::string& name : ListDirectory(folder)) {
      if (IsTemporary(name)) RemoveTree(folder + "/" + name);
    }
  }
  for (const char* name : {"/.first-model", "/model.unfinished"}) RemoveTree(run_dir + name);
  Checkpoints(run_dir, 1).RemoveUnfinished();
}

}  // namespace taipan
