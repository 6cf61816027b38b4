#pragma once
// What of evaluation data stands in training data, too: n-grams of words that both have.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace taipan {

// Words of a text as they are compared: runs of ASCII letters and digits, in lower case, and of other characters beyond
// ASCII; everything between is left out.
std::vector<std::string> WordsOf(std::string_view text);

struct EvaluationDocument {
  std::string name;               // "FILE:LINE"
  int64_t ngrams = 0, found = 0;  // places of n words, and those whose words stand in the training data
  double share() const { return ngrams > 0 ? static_cast<double>(found) / static_cast<double>(ngrams) : 0; }
};

struct ContaminationReport {
  int64_t ngram = 13;
  std::vector<EvaluationDocument> documents = {};
  int64_t training_documents = 0;
  int64_t short_documents = 0;  // of the evaluation, of fewer words than that: compared as a whole
};

// paths: as FindData takes them, with text or JSON. progress: training bytes read so far, and all. UserError as their
// readers give it.
ContaminationReport FindContamination(const std::vector<std::string>& training,
                                      const std::vector<std::string>& evaluation, int64_t ngram,
                                      const std::function<void(int64_t, int64_t)>& progress);

}  // namespace taipan
