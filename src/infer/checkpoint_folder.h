#pragma once
// State files in a folder, found by the tokens that led to them.

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "infer/state_io.h"

namespace taipan {

// The beginning of a text, by its length and digest.
struct TokenPrefix {
  int64_t length = 0;
  uint64_t digest = kNoTokensDigest;
};
// Which of the prefixes the tokens begin with.
std::vector<const TokenPrefix*> PrefixesOf(std::span<const int32_t> tokens, std::span<const TokenPrefix> prefixes);

class CheckpointFolder {
 public:
  // folder "": none, which holds nothing. Files of other models and damaged ones are left alone.
  CheckpointFolder(const LanguageModel& model, std::string folder, int64_t most_bytes);

  bool exists() const { return !folder_.empty(); }
  // The longest state whose tokens these begin with: longer than `longer_than`, where it
  // `serves`. One that cannot be read is forgotten, `problem` says why, and the next is tried.
  std::optional<SequenceSnapshot> Load(std::span<const int32_t> tokens, int64_t longer_than,
                                       const std::function<bool(int64_t length)>& serves, std::string& problem);
  // Does nothing where it is there. The files used longest ago go where they take too much together.
  void Save(const SequenceSnapshot& snapshot);

 private:
  std::string PathOf(const TokenPrefix& prefix) const;
  void Forget(size_t index);
  void Use(size_t index);

  const LanguageModel& model_;
  const std::string folder_, digest_;
  const int64_t most_bytes_;
  std::vector<TokenPrefix> prefixes_;  // of the files, used longest ago first
};

}  // namespace taipan
