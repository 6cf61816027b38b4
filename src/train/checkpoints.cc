#include "train/checkpoints.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"

namespace taipan {
namespace {

namespace fs = std::filesystem;

constexpr char kPrefix[] = "step-";
constexpr char kUnfinished[] = ".unfinished-";
constexpr char kManifest[] = "files.json";  // sizes of all files, written last

// Path below `folder` -> bytes, of every regular file but the manifest.
Json Sizes(const std::string& folder) {
  Json sizes = Json::object();
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = fs::relative(entry.path(), folder).generic_string();
    if (entry.is_regular_file() && name != kManifest) sizes[name] = entry.file_size();
  }
  return sizes;
}

bool IsComplete(const std::string& folder) {
  const std::string manifest = folder + "/" + kManifest;
  if (!PathExists(manifest)) return false;
  const Json expected = Json::parse(ReadFile(manifest), nullptr, /*allow_exceptions=*/false);
  if (!expected.is_object()) return false;
  const Json found = Sizes(folder);
  for (const auto& [name, bytes] : expected.items()) {
    if (!found.contains(name) || found[name] != bytes) return false;
  }
  return true;
}

}  // namespace

Checkpoints::Checkpoints(const std::string& run_dir, int64_t keep) : folder_(run_dir + "/checkpoints"), keep_(keep) {
  CHECK_GE(keep, 1);
}

std::vector<Checkpoint> Checkpoints::List() const {
  std::vector<Checkpoint> all;
  if (!IsDirectory(folder_)) return all;
  for (const std::string& name : ListDirectory(folder_)) {
    if (!name.starts_with(kPrefix)) continue;
    const char* const begin = name.data() + sizeof(kPrefix) - 1;
    const char* const end = name.data() + name.size();
    Checkpoint c;
    const auto parsed = std::from_chars(begin, end, c.step);
    if (parsed.ec != std::errc() || parsed.ptr != end) continue;
    c.path = folder_ + "/" + name;
    all.push_back(c);
  }
  std::sort(all.begin(), all.end(), [](const Checkpoint& a, const Checkpoint& b) { return a.step < b.step; });
  return all;
}

std::optional<Checkpoint> Checkpoints::Newest() const {
  const std::vector<Checkpoint> all = List();
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    if (IsComplete(it->path)) return *it;
  }
  return std::nullopt;
}

Checkpoint Checkpoints::Write(int64_t step, const std::function<void(const std::string&)>& fill) {
  const std::string unfinished = fmt::format("{}/{}{}", folder_, kUnfinished, step);
  const Checkpoint done{step, fmt::format("{}/{}{}", folder_, kPrefix, step)};
  MakeDirectories(folder_);
  RemoveTree(unfinished);
  try {
    MakeDirectories(unfinished);
    fill(unfinished);
    WriteFileAtomically(unfinished + "/" + kManifest, Sizes(unfinished).dump(1) + "\n");
    ReplaceDirectory(unfinished, done.path);
  } catch (...) {
    RemoveTree(unfinished);
    throw;
  }
  const std::vector<Checkpoint> all = List();
  for (size_t i = 0; i + static_cast<size_t>(keep_) < all.size(); ++i) RemoveTree(all[i].path);
  return done;
}

void Checkpoints::RemoveUnfinished() {
  if (!IsDirectory(folder_)) return;
  for (const std::string& name : ListDirectory(folder_)) {
    if (name.starts_with(kUnfinished)) RemoveTree(folder_ + "/" + name);
  }
}

void Checkpoints::RemoveAfter(int64_t step) {
  for (const Checkpoint& c : List()) {
    if (c.step > step) RemoveTree(c.path);
  }
}

namespace {

void LinkOrCopy(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::remove(to, error);
  fs::create_hard_link(from, to, error);
  if (!error) return;
  AtomicFile copy(to.string());
  const MappedFile source(from.string());
  copy.Write(source.data(), source.size());
  copy.Commit();
}

}  // namespace

void PublishFolder(const std::string& from, const std::string& to) {
  const bool first = !IsDirectory(to);
  const std::string target = first ? to + ".unfinished" : to;
  if (first) RemoveTree(target);
  MakeDirectories(target);
  for (const std::string& name : ListDirectory(from)) {
    const fs::path source = fs::path(from) / name, goal = fs::path(target) / name;
    const fs::path beside = fs::path(target) / ("." + name + ".unfinished");
    std::error_code error;
    LinkOrCopy(source, beside);
    fs::rename(beside, goal, error);
    if (error) throw UserError(goal.string(), "cannot write: " + error.message());
    fs::remove(beside, error);  // renaming a link onto the same file leaves both
  }
  if (first) ReplaceDirectory(target, to);
}

}  // namespace taipan
