#include "data/contamination.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/content_hash.h"
#include "base/error.h"
#include "base/parallel.h"
#include "data/document_reader.h"
#include "data/find_data.h"
#include "data/json_texts.h"
#include "data/stream_input.h"

namespace taipan {
namespace {

// All texts of an object: questions have their own keys ("question", "choices"), so every string counts.
void AppendStrings(const nlohmann::json& value, std::string& text) {
  if (value.is_string()) text += value.get_ref<const std::string&>() + '\n';
  if (!value.is_structured()) return;
  for (const nlohmann::json& part : value) AppendStrings(part, text);
}

std::string TextFrom(const RawDocument& document) {
  if (!document.is_json) return document.bytes;
  const nlohmann::json object = ParseObject(document.bytes, document.where);
  if (object.is_object() && object.contains("text") && object["text"].is_string())
    return TextOf(object, document.where);
  std::string text;
  AppendStrings(object, text);
  return text;
}

uint64_t HashWord(const std::string& word) {
  uint64_t hash = word.size();
  for (const char c : word) hash = MixHash(hash, static_cast<uint8_t>(c));
  return hash;
}

// One for each place where n words stand; for a text of fewer words one for all of them.
std::vector<uint64_t> HashNgrams(std::string_view text, int64_t ngram) {
  std::vector<uint64_t> words;
  for (const std::string& word : WordsOf(text)) words.push_back(HashWord(word));
  const size_t n = std::min(static_cast<size_t>(ngram), words.size());
  std::vector<uint64_t> hashes;
  if (n == 0) return hashes;
  for (size_t begin = 0; begin + n <= words.size(); ++begin) {
    uint64_t hash = n;
    for (size_t i = begin; i < begin + n; ++i) hash = MixHash(hash, words[i]);
    hashes.push_back(hash);
  }
  return hashes;
}

struct Evaluation {
  std::vector<EvaluationDocument> documents;
  std::vector<std::vector<uint64_t>> ngrams;  // of each
  std::unordered_map<uint64_t, bool> found;   // of all n-grams: whether the training data has it
  std::vector<int64_t> lengths;               // of n-grams, rising: short documents have short ones
};

Evaluation ReadEvaluation(const std::vector<std::string>& files, int64_t ngram, ContaminationReport& report) {
  Evaluation evaluation;
  DocumentReader reader(files);
  for (RawDocument raw; reader.Next(raw);) {
    const std::string text = TextFrom(raw);
    const auto words = static_cast<int64_t>(WordsOf(text).size());
    if (words == 0) continue;
    evaluation.ngrams.push_back(HashNgrams(text, ngram));
    for (const uint64_t hash : evaluation.ngrams.back()) evaluation.found.emplace(hash, false);
    evaluation.documents.push_back({raw.where, static_cast<int64_t>(evaluation.ngrams.back().size()), 0});
    evaluation.lengths.push_back(std::min(words, ngram));
    if (words < ngram) ++report.short_documents;
  }
  std::sort(evaluation.lengths.begin(), evaluation.lengths.end());
  evaluation.lengths.erase(std::unique(evaluation.lengths.begin(), evaluation.lengths.end()), evaluation.lengths.end());
  return evaluation;
}

// The n-grams of a training text that the evaluation has.
std::vector<uint64_t> Common(std::string_view text, const Evaluation& evaluation) {
  std::vector<uint64_t> words, common;
  for (const std::string& word : WordsOf(text)) words.push_back(HashWord(word));
  for (const int64_t length : evaluation.lengths) {
    const auto n = static_cast<size_t>(length);
    for (size_t begin = 0; begin + n <= words.size(); ++begin) {
      uint64_t hash = n;
      for (size_t i = begin; i < begin + n; ++i) hash = MixHash(hash, words[i]);
      if (evaluation.found.count(hash) > 0) common.push_back(hash);
    }
  }
  return common;
}

int64_t BytesOf(const std::vector<std::string>& files) {
  int64_t bytes = 0;
  for (const std::string& file : files) {
    if (!IsStream(file)) bytes += static_cast<int64_t>(std::filesystem::file_size(file));
  }
  return bytes;
}

}  // namespace

std::vector<std::string> WordsOf(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80 || std::isalnum(byte)) {
      word += byte < 0x80 ? static_cast<char>(std::tolower(byte)) : c;
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

ContaminationReport FindContamination(const std::vector<std::string>& training,
                                      const std::vector<std::string>& evaluation_paths, int64_t ngram,
                                      const std::function<void(int64_t, int64_t)>& progress) {
  constexpr size_t kBatch = size_t{16} << 20;  // bytes of training text
  CHECK_GE(ngram, 1);
  ContaminationReport report;
  report.ngram = ngram;
  Evaluation evaluation = ReadEvaluation(FindData(evaluation_paths, DataUse::kValidation).files, ngram, report);
  if (evaluation.documents.empty()) throw UserError(evaluation_paths.at(0), "holds no words");
  const std::vector<std::string> files = FindData(training, DataUse::kTraining).files;
  const int64_t total = BytesOf(files);
  DocumentReader reader(files);
  for (std::vector<RawDocument> batch; !(batch = reader.NextBatch(kBatch)).empty();) {
    std::vector<std::vector<uint64_t>> common(batch.size());
    ParallelFor(static_cast<int64_t>(batch.size()), [&](int64_t i) {
      common[static_cast<size_t>(i)] = Common(TextFrom(batch[static_cast<size_t>(i)]), evaluation);
    });
    for (const std::vector<uint64_t>& hashes : common) {
      for (const uint64_t hash : hashes) evaluation.found[hash] = true;
    }
    report.training_documents += static_cast<int64_t>(batch.size());
    if (progress) progress(reader.bytes_read(), total);
  }
  report.documents = std::move(evaluation.documents);
  for (size_t i = 0; i < report.documents.size(); ++i) {
    for (const uint64_t hash : evaluation.ngrams[i]) report.documents[i].found += evaluation.found[hash];
  }
  return report;
}

}  // namespace taipan
