#include "data/find_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "data/file_kind.h"
#include "data/shard_folder.h"
#include "data/stream_input.h"
#include "data/unpack.h"

namespace taipan {
namespace {

namespace fs = std::filesystem;

// The first bytes of a file's content, unpacked.
struct Head {
  std::string path, bytes;
};
Head ReadHead(const std::string& path) {
  Head head{path, ""};
  if (IsStream(path)) {
    head.bytes = PeekStream(path).substr(0, kHeadBytes);
  } else {
    std::ifstream file(path, std::ios::binary);
    head.bytes.resize(kHeadBytes);
    file.read(head.bytes.data(), kHeadBytes);
    head.bytes.resize(static_cast<size_t>(file.gcount()));
  }
  if (PackingOf(head.bytes) == Packing::kNone) return head;
  return {WithoutPacking(path), UnpackHead(head.bytes, kHeadBytes)};
}

bool IsText(const Head& head) {
  try {
    return RecogniseData(head.path, head.bytes, static_cast<int64_t>(head.bytes.size()), 0).is_text();
  } catch (const UserError&) {
    return false;  // opening it says what is wrong
  }
}

// What a name says about its use: "fineweb_val_000000.bin" is {"fineweb_", kValidation}.
enum class Role { kNone, kTrain, kValid, kTest };
struct NamedRole {
  std::string prefix;
  Role role = Role::kNone;
};
NamedRole RoleOf(const std::string& file_name) {
  static const std::pair<const char*, Role> kWords[] = {
      {"train", Role::kTrain},      {"training", Role::kTrain}, {"val", Role::kValid},  {"valid", Role::kValid},
      {"validation", Role::kValid}, {"dev", Role::kValid},      {"eval", Role::kValid}, {"test", Role::kTest}};
  std::string stem = fs::path(WithoutPacking(file_name)).stem().string();
  std::transform(stem.begin(), stem.end(), stem.begin(), [](unsigned char c) { return std::tolower(c); });
  // The number of a shard: "train-00000-of-00002", "train_000001".
  size_t end = stem.find_last_not_of("0123456789-_.") + 1;
  if (stem.substr(0, end).ends_with("-of") || stem.substr(0, end).ends_with("_of")) {
    end = stem.find_last_not_of("0123456789-_.", end - 4) + 1;
  }
  stem.resize(end);
  for (const auto& [word, role] : kWords) {
    if (!stem.ends_with(word)) continue;
    const std::string prefix = stem.substr(0, stem.size() - std::string_view(word).size());
    if (prefix.empty() || std::string_view("-_.").find(prefix.back()) != std::string_view::npos) return {prefix, role};
  }
  return {};
}

std::string NameOf(const std::string& path) { return fs::path(path).filename().string(); }

// "a, b, c and 4 more"
std::string Names(const std::vector<std::string>& names) {
  constexpr size_t kShown = 4;
  const size_t shown = names.size() > kShown + 1 ? kShown : names.size();
  std::string text = fmt::format("{}", fmt::join(names.begin(), names.begin() + static_cast<int64_t>(shown), ", "));
  return shown < names.size() ? text + fmt::format(" and {} more", names.size() - shown) : text;
}

class Folder {
 public:
  Folder(const std::string& path, DataUse use) : path_(path), use_(use) {
    List(path, Role::kNone);
    for (auto* files : {&found_.files, &found_.valid}) std::sort(files->begin(), files->end());
    LeaveOutForeign(found_.files);
    LeaveOutForeign(found_.valid);
    if (!left_out_.empty()) found_.notes.push_back(fmt::format("left out of {}: {}", path_, Names(left_out_)));
    if (found_.files.empty()) {
      throw UserError({path, "the folder holds no data", "at least one file with text or tokens",
                       left_out_.empty() ? "none" : Names(left_out_)});
    }
  }
  DataFiles found() && { return std::move(found_); }

 private:
  struct Entry {
    std::string path;
    bool folder = false, empty = false;
    NamedRole role;
  };
  std::vector<Entry> EntriesOf(const std::string& folder);
  void List(const std::string& folder, Role role);
  void LeaveOutForeign(std::vector<std::string>& files);

  const std::string path_;
  const DataUse use_;
  DataFiles found_;
  std::vector<std::string> left_out_;
};

// Without what is hidden or neither a file nor a folder.
std::vector<Folder::Entry> Folder::EntriesOf(const std::string& folder) {
  std::vector<Entry> entries;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with('.')) continue;
    const bool is_folder = it->is_directory(error) && !it->is_symlink(error);
    if (is_folder || it->is_regular_file(error)) {
      entries.push_back({it->path().string(), is_folder, !is_folder && it->file_size(error) == 0, RoleOf(name)});
    } else {
      left_out_.push_back(name + (it->is_directory(error) ? " (a link to a folder)" : " (no file)"));
    }
    error.clear();  // a name that is gone, or a link to nothing
  }
  if (error) throw UserError(folder, "cannot list the folder: " + error.message());
  return entries;
}

// role: that a folder above has given to everything below it.
void Folder::List(const std::string& folder, Role role) {
  const std::vector<Entry> entries = EntriesOf(folder);
  std::set<std::string> train, other;  // prefixes
  for (const Entry& e : entries) {
    if (e.role.role == Role::kTrain) train.insert(e.role.prefix);
    if (e.role.role == Role::kValid || e.role.role == Role::kTest) other.insert(e.role.prefix);
  }
  const bool split = role == Role::kNone && std::any_of(train.begin(), train.end(), [&](const std::string& prefix) {
                       return other.count(prefix) > 0;
                     });
  std::vector<std::string> data, valid;
  for (const Entry& e : entries) {
    if (e.empty) continue;  // but an empty train.bin says what val.bin is
    const Role of_entry = split ? e.role.role : role;
    if (split && (of_entry == Role::kNone || of_entry == Role::kTest)) {
      left_out_.push_back(NameOf(e.path));
      continue;
    }
    if (split) (of_entry == Role::kValid ? valid : data).push_back(NameOf(e.path));
    if (e.folder) {
      List(e.path, of_entry);
    } else {
      const bool mine = of_entry == Role::kNone || (of_entry == Role::kValid) == (use_ == DataUse::kValidation);
      if (mine) found_.files.push_back(e.path);
      if (!mine && of_entry == Role::kValid) found_.valid.push_back(e.path);
    }
  }
  if (!split) return;
  std::sort(data.begin(), data.end());
  std::sort(valid.begin(), valid.end());
  found_.notes.push_back(
      fmt::format("in {} {} {} training data, {}", folder, Names(data), data.size() == 1 ? "is" : "are",
                  valid.empty() ? "there is no validation data" : Names(valid) + " validation data"));
}

void Folder::LeaveOutForeign(std::vector<std::string>& files) {
  std::vector<std::string> kept, text, tokens;
  for (std::string& path : files) {
    const Head head = ReadHead(path);
    const ForeignFile foreign = FindForeign(head.path, head.bytes);
    if (!foreign.name.empty()) {
      left_out_.push_back(fmt::format("{} ({})", NameOf(path), foreign.name));
      continue;
    }
    (IsText(head) ? text : tokens).push_back(NameOf(path));
    kept.push_back(std::move(path));
  }
  files = std::move(kept);
  if (text.empty() || tokens.empty()) return;
  throw UserError({path_, "the folder holds both text and token files", "one of the two",
                   fmt::format("text ({}) and tokens ({})", Names(text), Names(tokens)),
                   "name the files that you mean"});
}

}  // namespace

DataFiles FindData(const std::vector<std::string>& paths, DataUse use) {
  DataFiles all;
  for (const std::string& path : paths) {
    if (!IsStream(path) && !PathExists(path)) throw UserError(path, "no such file or folder");
    if (!IsStream(path) && IsShardFolder(path)) {
      const std::vector<std::string> shards = ShardsOf(path);
      all.files.insert(all.files.end(), shards.begin(), shards.end());
      continue;
    }
    if (IsStream(path) || !IsDirectory(path)) {
      all.files.push_back(path);
      continue;
    }
    DataFiles found = Folder(path, use).found();
    std::move(found.files.begin(), found.files.end(), std::back_inserter(all.files));
    std::move(found.valid.begin(), found.valid.end(), std::back_inserter(all.valid));
    std::move(found.notes.begin(), found.notes.end(), std::back_inserter(all.notes));
  }
  return all;
}

bool HoldsText(const std::vector<std::string>& paths, DataUse use) {
  for (const std::string& path : paths) {
    if (!IsStream(path) && !PathExists(path)) continue;
    for (const std::string& file : FindData({path}, use).files) {
      if (IsText(ReadHead(file))) return true;
    }
  }
  return false;
}

}  // namespace taipan
