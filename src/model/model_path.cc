#include "model/model_path.h"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "formats/gguf.h"

namespace taipan {
namespace {

constexpr size_t kMostListed = 5;  // names in one message

std::string WithoutSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string NameOfPath(const std::string& path) { return path.substr(path.rfind('/') + 1); }  // npos + 1 is 0

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
}

bool IsFile(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

// The names in a folder that `wanted` accepts, sorted.
template <class F>
std::vector<std::string> NamesIn(const std::string& folder, const F& wanted) {
  std::vector<std::string> names = ListDirectory(folder);
  std::erase_if(names, [&](const std::string& name) { return !wanted(name); });
  return names;
}

[[noreturn]] void RefuseChoice(const std::string& folder, const std::string& what,
                               const std::vector<std::string>& all) {
  std::string list;
  for (size_t i = 0; i < std::min(all.size(), kMostListed); ++i) list += (i == 0 ? "" : ", ") + all[i];
  if (all.size() > kMostListed) list += fmt::format(" and {} more", all.size() - kMostListed);
  throw UserError({folder, fmt::format("the folder holds {} {}", all.size(), what), "the path of one of them", list});
}

// Files whose weights belong to the config beside them. A GGUF file has a config of its own.
bool HoldsWeights(const std::string& folder) {
  return !NamesIn(folder, [](const std::string& name) {
            return name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json") ||
                   (name.starts_with("pytorch_model") && name.ends_with(".bin"));
          }).empty();
}

int64_t ChangedAt(const std::string& path) {
  struct stat status = {};
  return ::stat(path.c_str(), &status) == 0 ? static_cast<int64_t>(status.st_mtime) : 0;
}

// Of the snapshots in a hub's cache: what refs/main names, else the newest. "" where there is none.
std::string Snapshot(const std::string& snapshots) {
  const std::vector<std::string> all =
      NamesIn(snapshots, [&](const std::string& name) { return IsDirectory(snapshots + "/" + name); });
  const std::string main = snapshots + "/../refs/main";
  if (IsFile(main)) {
    std::string revision = ReadFile(main);
    while (!revision.empty() && std::isspace(static_cast<unsigned char>(revision.back()))) revision.pop_back();
    if (std::find(all.begin(), all.end(), revision) != all.end()) return snapshots + "/" + revision;
  }
  const auto newest = std::max_element(all.begin(), all.end(), [&](const std::string& a, const std::string& b) {
    return ChangedAt(snapshots + "/" + a) < ChangedAt(snapshots + "/" + b);
  });
  return newest == all.end() ? "" : snapshots + "/" + *newest;
}

std::string FindInFolder(const std::string& folder) {
  const bool config = IsFile(folder + "/config.json");
  if (config && HoldsWeights(folder)) return folder;
  const std::vector<std::string> gguf = NamesIn(folder, [&](const std::string& name) {
    return HasGgufName(name) && !name.starts_with("mmproj") && IsFile(folder + "/" + name);  // the eyes of a model
  });
  if (gguf.size() == 1) return folder + "/" + gguf.front();
  if (gguf.size() > 1) RefuseChoice(folder, "GGUF files", gguf);
  if (config) return folder;
  if (IsFile(folder + "/run.json") && IsFile(folder + "/model/config.json")) return folder + "/model";
  const std::string snapshots = NameOfPath(folder) == "snapshots" ? folder : folder + "/snapshots";
  if (IsDirectory(snapshots)) {
    const std::string snapshot = Snapshot(snapshots);
    return snapshot.empty() ? "" : FindInFolder(snapshot);
  }
  const std::vector<std::string> cached = NamesIn(folder, [&](const std::string& name) {
    return name.starts_with("models--") && IsDirectory(folder + "/" + name + "/snapshots");
  });
  if (cached.size() > 1) RefuseChoice(folder, "cached models", cached);
  return cached.empty() ? "" : FindInFolder(folder + "/" + cached.front());
}

// What a model's folder holds; somebody who names one of these files means the whole.
bool IsPartOfModel(const std::string& name) {
  return name == "config.json" || name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json") ||
         name == "tokenizer.json" || name == "tokenizer.model" || name == "tokenizer_config.json" ||
         name == "generation_config.json";
}

}  // namespace

bool IsGgufPath(const std::string& path) { return IsGgufFile(path); }

std::string FindModel(const std::string& given) {
  const std::string path = WithoutSlashes(given);
  if (IsDirectory(path)) return FindInFolder(path);
  if (IsGgufPath(path)) return path;
  const std::string folder = FolderOf(path);
  return IsFile(path) && IsPartOfModel(NameOfPath(path)) && IsFile(folder + "/config.json") ? folder : "";
}

std::string ModelPathOf(const std::string& given) {
  const std::string found = FindModel(given);
  if (!found.empty()) return found;
  const std::string path = WithoutSlashes(given);
  struct stat status = {};
  const bool link = !PathExists(path) && ::lstat(path.c_str(), &status) == 0;
  throw UserError({given.empty() ? "the model's path" : given, "not a model",
                   "a folder with config.json and model.safetensors, or a GGUF file",
                   IsDirectory(path)  ? "a folder with neither"
                   : PathExists(path) ? "another file"
                   : link             ? "a symbolic link to nothing"
                   : given.empty()    ? "an empty name"
                                      : "nothing of that name"});
}

}  // namespace taipan
