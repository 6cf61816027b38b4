#include "infer/checkpoint_folder.h"

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "base/files.h"

namespace taipan {
namespace {

constexpr const char* kEnding = ".state";

int64_t BytesOfFile(const std::string& path) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  return error ? 0 : static_cast<int64_t>(bytes);
}

std::filesystem::file_time_type TimeOf(const std::string& path) {
  std::error_code error;
  const auto time = std::filesystem::last_write_time(path, error);
  return error ? std::filesystem::file_time_type::min() : time;
}

}  // namespace

std::vector<const TokenPrefix*> PrefixesOf(std::span<const int32_t> tokens, std::span<const TokenPrefix> prefixes) {
  std::vector<const TokenPrefix*> sorted, found;
  for (const TokenPrefix& prefix : prefixes) sorted.push_back(&prefix);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->length < b->length; });
  int64_t read = 0;
  uint64_t digest = kNoTokensDigest;
  for (const TokenPrefix* prefix : sorted) {
    if (prefix->length > static_cast<int64_t>(tokens.size())) break;
    digest =
        DigestTokens(tokens.subspan(static_cast<size_t>(read), static_cast<size_t>(prefix->length - read)), digest);
    read = prefix->length;
    if (digest == prefix->digest) found.push_back(prefix);
  }
  return found;
}

CheckpointFolder::CheckpointFolder(const LanguageModel& model, std::string folder, int64_t most_bytes)
    : model_(model),
      folder_(std::move(folder)),
      digest_(folder_.empty() ? "" : ModelDigest(model)),
      most_bytes_(most_bytes) {
  if (folder_.empty()) return;
  MakeDirectories(folder_);
  std::vector<std::pair<std::filesystem::file_time_type, TokenPrefix>> found;
  for (const std::string& name : ListDirectory(folder_)) {
    if (!name.ends_with(kEnding)) continue;
    try {
      const StateFileInfo info = ReadStateInfo(model_, folder_ + "/" + name);
      const TokenPrefix prefix{info.position, info.token_digest};
      if (PathOf(prefix) == folder_ + "/" + name) found.emplace_back(TimeOf(PathOf(prefix)), prefix);
    } catch (const UserError&) {  // not for this model to judge
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [time, prefix] : found) prefixes_.push_back(prefix);
}

std::string CheckpointFolder::PathOf(const TokenPrefix& prefix) const {
  return fmt::format("{}/{}-{:016x}-{}{}", folder_, prefix.length, prefix.digest, digest_, kEnding);
}

void CheckpointFolder::Forget(size_t index) { prefixes_.erase(prefixes_.begin() + static_cast<int64_t>(index)); }

void CheckpointFolder::Use(size_t index) {
  std::error_code ignored;
  std::filesystem::last_write_time(PathOf(prefixes_[index]), std::filesystem::file_time_type::clock::now(), ignored);
  std::rotate(prefixes_.begin() + static_cast<int64_t>(index), prefixes_.begin() + static_cast<int64_t>(index) + 1,
              prefixes_.end());
}

std::optional<SequenceSnapshot> CheckpointFolder::Load(std::span<const int32_t> tokens, int64_t longer_than,
                                                       const std::function<bool(int64_t)>& serves,
                                                       std::string& problem) {
  for (;;) {
    const TokenPrefix* best = nullptr;
    for (const TokenPrefix* prefix : PrefixesOf(tokens, prefixes_)) {
      if (prefix->length > longer_than && serves(prefix->length)) best = prefix;
    }
    if (best == nullptr) return std::nullopt;
    const size_t index = static_cast<size_t>(best - prefixes_.data());
    try {
      SequenceSnapshot loaded = LoadSequence(model_, PathOf(*best));
      const auto same = tokens.first(static_cast<size_t>(best->length));
      const bool whole = best->length < static_cast<int64_t>(tokens.size()) || !loaded.logits.empty();
      if (whole && std::equal(same.begin(), same.end(), loaded.tokens.begin(), loaded.tokens.end())) {
        Use(index);
        return loaded;
      }
    } catch (const UserError& error) {
      problem = error.what();
    }
    Forget(index);
  }
}

void CheckpointFolder::Save(const SequenceSnapshot& snapshot) {
  const TokenPrefix prefix{snapshot.state.position, snapshot.token_digest};
  for (size_t i = 0; i < prefixes_.size(); ++i) {
    if (prefixes_[i].length == prefix.length && prefixes_[i].digest == prefix.digest) return Use(i);
  }
  SaveSequence(model_, snapshot, PathOf(prefix));
  prefixes_.push_back(prefix);
  const auto total = [&] {
    return std::accumulate(prefixes_.begin(), prefixes_.end(), int64_t{0},
                           [&](int64_t sum, const TokenPrefix& p) { return sum + BytesOfFile(PathOf(p)); });
  };
  while (prefixes_.size() > 1 && total() > most_bytes_) {
    std::error_code ignored;
    std::filesystem::remove(PathOf(prefixes_.front()), ignored);
    Forget(0);
  }
}

}  // namespace taipan
