#include "train/checkpoints.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/content_hash.h"
#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"
#include "base/temporary.h"

namespace taipan {
namespace {

namespace fs = std::filesystem;

constexpr char kPrefix[] = "step-";
constexpr char kUnfinished[] = ".unfinished-";
constexpr char kDamaged[] = "damaged-";
constexpr char kManifest[] = "files.json";  // written last

std::string ChecksumOf(const std::string& text) {
  ContentHash hash;
  hash.Add(text.data(), static_cast<int64_t>(text.size()));
  return fmt::format("{:016x}", hash.Finish());
}

// {"files": {path: {"bytes", "checksum"}}, "checksum": of the list}. One pass over files that were just written.
std::string ManifestOf(const std::string& folder) {
  Json files = Json::object();
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const std::string name = fs::relative(entry.path(), folder).generic_string();
    files[name] = {{"bytes", entry.file_size()}, {"checksum", FileChecksum(entry.path().string())}};
  }
  return Json({{"files", files}, {"checksum", ChecksumOf(files.dump())}}).dump(1) + "\n";
}

std::string DamageOfFile(const std::string& path, const std::string& name, const Json& bytes, const Json* checksum) {
  std::error_code error;
  const uint64_t size = fs::file_size(path, error);
  if (error) return fmt::format("{} is missing", name);
  if (bytes != size) return fmt::format("{} has {} bytes instead of {}", name, size, bytes.dump());
  if (checksum == nullptr) return "";
  const std::string found = FileChecksum(path);
  if (*checksum == found) return "";
  return fmt::format("the content of {} is not what was written (checksum {} instead of {})", name, found,
                     checksum->dump());
}

// Of versions that wrote {path: bytes}.
std::string DamageBySizes(const std::string& folder, const Json& sizes) {
  for (const auto& [name, bytes] : sizes.items()) {
    if (!bytes.is_number_unsigned()) return fmt::format("{} is damaged", kManifest);
    const std::string damage = DamageOfFile(folder + "/" + name, name, bytes, nullptr);
    if (!damage.empty()) return damage;
  }
  return sizes.empty() ? fmt::format("{} is empty", kManifest) : "";
}

}  // namespace

std::string DamageOf(const std::string& checkpoint) try {
  const std::string path = checkpoint + "/" + kManifest;
  if (!PathExists(path)) return fmt::format("{} is missing", kManifest);
  const Json manifest = Json::parse(ReadFile(path), nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object()) return fmt::format("{} is damaged", kManifest);
  if (!manifest.contains("files")) return DamageBySizes(checkpoint, manifest);
  const Json& files = manifest["files"];
  if (manifest.value("checksum", Json()) != ChecksumOf(files.dump())) return fmt::format("{} is damaged", kManifest);
  for (const auto& [name, file] : files.items()) {
    const std::string damage = DamageOfFile(checkpoint + "/" + name, name, file.at("bytes"), &file.at("checksum"));
    if (!damage.empty()) return damage;
  }
  return "";
} catch (const UserError& error) {  // a file that cannot be read
  return error.what();
} catch (const Json::exception&) {
  return fmt::format("{} is damaged", kManifest);
}

Checkpoints::Checkpoints(const std::string& run_dir, Keep keep) : folder_(run_dir + "/checkpoints"), keep_(keep) {
  CHECK_GE(keep.newest, 1);
}

std::vector<SavedStep> Checkpoints::List() const {
  std::vector<SavedStep> all;
  if (!IsDirectory(folder_)) return all;
  for (const std::string& name : ListDirectory(folder_)) {
    if (!name.starts_with(kPrefix)) continue;
    const char* const begin = name.data() + sizeof(kPrefix) - 1;
    const char* const end = name.data() + name.size();
    SavedStep c;
    const auto parsed = std::from_chars(begin, end, c.step);
    if (parsed.ec != std::errc() || parsed.ptr != end) continue;
    c.path = folder_ + "/" + name;
    all.push_back(c);
  }
  std::sort(all.begin(), all.end(), [](const SavedStep& a, const SavedStep& b) { return a.step < b.step; });
  return all;
}

CheckpointChoice Checkpoints::Choose() const {
  const std::vector<SavedStep> all = List();
  CheckpointChoice choice;
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    const std::string damage = DamageOf(it->path);
    if (damage.empty()) {
      choice.newest = *it;
      return choice;
    }
    choice.damaged.push_back({*it, damage});
  }
  return choice;
}

SavedStep Checkpoints::Write(int64_t step, const std::function<void(const std::string&)>& fill) {
  const std::string unfinished = fmt::format("{}/{}{}", folder_, kUnfinished, step);
  const SavedStep done{step, fmt::format("{}/{}{}", folder_, kPrefix, step)};
  MakeDirectories(folder_);
  RemoveTree(unfinished);
  const RemovedBySignal until_done(unfinished);
  try {
    MakeDirectories(unfinished);
    fill(unfinished);
    WriteFileAtomically(unfinished + "/" + kManifest, ManifestOf(unfinished));
    ReplaceDirectory(unfinished, done.path);
  } catch (...) {
    RemoveTree(unfinished);
    throw;
  }
  RemoveOld();
  return done;
}

void Checkpoints::RemoveOld() const {
  const std::vector<SavedStep> all = List();
  int64_t oldest_target = 0;  // of a rewind from now on
  for (const SavedStep& saved : all) {
    if (Regular(saved) && saved.step <= all.back().step - keep_.rewind) oldest_target = saved.step;
  }
  int64_t last_span = 0;  // of keep_.every steps, the one that the checkpoint before lies in
  for (size_t i = 0; i + static_cast<size_t>(keep_.newest) < all.size(); ++i) {
    const int64_t span = keep_.every > 0 ? all[i].step / keep_.every : 0;
    const bool target = keep_.rewind > 0 && Regular(all[i]) && all[i].step >= oldest_target;
    if (span == last_span && !target) RemoveTree(all[i].path);
    last_span = span;
  }
}

std::optional<SavedStep> Checkpoints::RewindTarget(int64_t step) const {
  const std::vector<SavedStep> all = List();
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    if (it->step <= step && Regular(*it) && DamageOf(it->path).empty()) return *it;
  }
  return std::nullopt;
}

void Checkpoints::RemoveAfter(int64_t step) {
  for (const SavedStep& saved : List()) {
    if (saved.step > step) RemoveTree(saved.path);
  }
}

void Checkpoints::RemoveUnfinished() {
  if (!IsDirectory(folder_)) return;
  for (const std::string& name : ListDirectory(folder_)) {
    if (name.starts_with(kUnfinished)) RemoveTree(folder_ + "/" + name);
  }
}

std::string Checkpoints::SetAside(const SavedStep& damaged) {
  const std::string name = folder_ + "/" + kDamaged + fs::path(damaged.path).filename().string();
  std::string free = name;
  for (int i = 2; PathExists(free); ++i) free = fmt::format("{}-{}", name, i);
  ReplaceDirectory(damaged.path, free);
  return free;
}

void PublishFolder(const std::string& from, const std::string& to) {
  const bool first = !IsDirectory(to);
  const std::string target = first ? to + ".unfinished" : to;
  if (first) RemoveTree(target);
  MakeDirectories(target);
  for (const std::string& name : ListDirectory(from)) CopyFileAtomically(from + "/" + name, target + "/" + name);
  if (first) ReplaceDirectory(target, to);
}

}  // namespace taipan
