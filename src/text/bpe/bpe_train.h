#pragma once
// Training of a byte-level BPE tokenizer: GPT-2's words, the most frequent pair merged first. The same text in the same
// order gives the same merges as BpeTrainer of Hugging Face's tokenizers (with min_frequency 2).

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/bpe/bpe.h"
#include "text/unicode/word_pattern.h"

namespace taipan {

// Counts the words of a text that is given in pieces.
class WordCounts {
 public:
  WordCounts();
  // A piece must end where a word ends. Bytes that are not UTF-8 are words of their own.
  void Add(std::string_view text);
  const std::unordered_map<std::string, int64_t>& counts() const { return counts_; }

 private:
  void AddValid(std::string_view text);
  void Count(std::string_view word);

  WordPattern pattern_;
  std::unordered_map<std::string, int64_t> counts_;
  std::string word_;  // the buffer of lookups
};

struct TrainedBpe {
  std::vector<std::string> special_tokens;  // ids from 0
  std::vector<std::string> tokens;          // bytes, by id from special_tokens.size(): the 256 bytes, then merges
  std::vector<BpeMerge> merges;             // by rank; ids

  int64_t vocab_size() const { return static_cast<int64_t>(special_tokens.size() + tokens.size()); }
};

// Fewer than vocab_size tokens where no pair is left that occurs twice. vocab_size >= 256 + special_tokens.size().
// progress(tokens so far) is called now and then.
TrainedBpe TrainBpe(const WordCounts& words, int64_t vocab_size, const std::vector<std::string>& special_tokens,
                    const std::function<void(int64_t)>& progress);

// tokenizer.json, as Hugging Face's libraries read it.
std::string TokenizerJson(const TrainedBpe& bpe);

}  // namespace taipan
