#pragma once
// Facts hidden in long texts, asked for at their end: a grid of lengths and depths, made by seed from a text.

#include <optional>
#include <string>
#include <vector>

#include "eval/run.h"

namespace taipan {

struct NeedleOptions {
  std::vector<int64_t> lengths = {1024, 4096};           // tokens of the whole, rising
  std::vector<double> depths = {0, 0.25, 0.5, 0.75, 1};  // shares of the text before the fact, rising
  int64_t each = 5;                                      // texts a cell
  uint64_t seed = 0;
  std::string text = {};  // to hide in, repeated where it is short; "": the same five sentences again and again
};

std::vector<std::string> NeedleNames();  // "passkey", "needle", "needle_keys", "needle_values"

// A task of them, whose items are made when they are answered.
class NeedleTask {
 public:
  // The tokenizer must outlive the task. UserError for a length that the texts around the fact fill.
  NeedleTask(const std::string& name, const NeedleOptions& options, const Tokenizer& tokenizer);

  // The texts of one length that differ in the depth alone, in the order of the depths.
  struct Series {
    std::vector<size_t> items = {};  // of prepared()
    int64_t length = 0, number = 0;
  };
  const std::vector<Series>& series() const { return series_; }
  PreparedTask& prepared() { return prepared_; }
  const PreparedTask& prepared() const { return prepared_; }

  std::vector<int32_t> Tokens(const Series& series, size_t depth) const;  // [length]
  std::vector<int32_t> AnswerTokens(const Series& series) const;          // empty where there are several answers

  // As AnswerItems. The state of what texts of a series have in common is read once.
  bool Answer(const LanguageModel& model, const AnswerOptions& options);

 private:
  struct Fact {
    std::string key, value;
    std::optional<double> depth;  // none: the series' own
  };
  std::vector<Fact> FactsOf(const Series& series) const;
  std::string Question(const Series& series) const;
  void AddItems();
  int64_t SentenceEnd(int64_t start, int64_t at) const;
  ItemResult Ask(const LanguageModel& model, const SequenceState& shared, std::span<const int32_t> rest,
                 const std::vector<int32_t>& answer, const AnswerOptions& options) const;

  const std::string name_;
  const NeedleOptions options_;
  const Tokenizer& tokenizer_;
  std::vector<int32_t> hay_;        // the text once
  std::vector<int64_t> sentences_;  // places of it at which one begins
  std::vector<Series> series_;
  PreparedTask prepared_;
};

}  // namespace taipan
