#pragma once
// Sequences that begin alike are read once: states are kept at checkpoints and found again by the tokens that led to
// them. What goes on from a checkpoint has the bits of reading everything: where a layer sums within chunks, only
// checkpoints on the grid of chunks serve longer texts, and the end of a text serves that text alone. In bf16 and with
// quantized weights a product of few rows rounds otherwise than one of more, so a piece is not cut into such parts.

#include <list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "infer/checkpoint_folder.h"
#include "infer/generator.h"

namespace taipan {

struct PrefixCacheOptions {
  int64_t memory_bytes = int64_t{1} << 30;  // the checkpoint that was used longest ago goes first
  std::string folder = "";                  // where those that go are kept; "": nowhere
  int64_t folder_bytes = int64_t{8} << 30;
};

// What reading a text took.
struct PrefixUse {
  int64_t tokens = 0, reused = 0;
  bool complete = true;     // false: the generator was asked to stop before the end
  std::string reason = {};  // why not all of them were reused; "" where they were
};

class PrefixCache {
 public:
  // The model must outlive it and stay as it is.
  explicit PrefixCache(const LanguageModel& model, const PrefixCacheOptions& options = {});

  // Reads the text as a sequence of its own into the generator, which is of the same model: from the last checkpoint
  // that serves it, leaving others behind where texts may part (`ends`, of messages: positions in ascending order),
  // before the last token, also where its piece begins, and at distances from the end that double. A change d tokens
  // before the end costs about 2d tokens and a piece.
  PrefixUse Read(std::span<const int32_t> tokens, std::span<const int64_t> ends, Generator& generator,
                 const std::function<void(int64_t)>& progress = nullptr);
  // Keeps where the generator (with KeepTokens) stands after an answer, where that serves longer texts.
  void Keep(const Generator& generator);
  // Writes what is in memory alone to the folder, if there is one. A folder that cannot be written (a full disk) is
  // left alone from then on; folder_problem says why.
  void Flush();
  const std::string& folder_problem() const { return folder_problem_; }

  int64_t bytes() const { return bytes_; }
  int64_t checkpoints() const { return static_cast<int64_t>(entries_.size()); }
  int64_t reused_tokens() const { return reused_; }  // by all readings

 private:
  using Text = std::shared_ptr<const std::vector<int32_t>>;
  struct Entry {
    Text text;
    int64_t length = 0;  // of its beginning
    SequenceSnapshot kept = {};
    int64_t bytes = 0;
    bool on_disk = false;
    std::span<const int32_t> tokens() const { return std::span(*text).first(static_cast<size_t>(length)); }
  };
  // The longest usable beginning of a text.
  struct Match {
    const Entry* entry = nullptr;
    int64_t length = 0;
    int64_t shared = 0;  // with any text, usable or not
  };
  Match FindInMemory(std::span<const int32_t> tokens);
  Match Find(std::span<const int32_t> tokens, std::string& problem);
  bool Serves(int64_t place, int64_t tokens) const;
  int64_t Usable(const Entry& entry, int64_t shared, int64_t tokens) const;
  SequenceSnapshot Rewound(const Match& match) const;
  std::string Reason(std::span<const int32_t> tokens, const Match& match) const;
  std::vector<int64_t> Places(int64_t from, int64_t tokens, std::span<const int64_t> ends) const;
  void Insert(const Text& text, int64_t length, const Generator& generator);
  void Insert(Entry entry);
  void MakeRoom();
  void Write(Entry& entry);

  const LanguageModel& model_;
  const PrefixCacheOptions options_;
  const int64_t few_;      // rows that round otherwise than more do; 0: none
  const int64_t grid_;     // of the places where longer texts may go on
  const bool can_rewind_;  // a later state holds all earlier ones
  const bool selects_;     // layers that pass some tokens by
  CheckpointFolder folder_;
  std::string folder_problem_;
  std::list<Entry> entries_;          // used last first
  std::vector<TokenPrefix> dropped_;  // the newest of those that went
  int64_t piece_ = 1;                 // of the generator that reads
  int64_t bytes_ = 0, reused_ = 0;
};

}  // namespace taipan
