#pragma once
// Training data as one virtual array of token ids: the concatenation of files. Raw token files and byte-tokenised text
// are read from the file when they are needed (small files are copied, see data_file.h); other text is encoded once
// when the corpus is opened.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "data/data_file.h"
#include "data/find_data.h"
#include "text/tokenizer.h"

namespace taipan {

struct CorpusPart;

struct CorpusOptions {
  DataUse use = DataUse::kTraining;
  // Stands behind every document of text: a file, or a text of JSON. None: they are joined, texts of JSON by a line
  // feed. Token files are taken as they are.
  std::optional<int32_t> eos = {};
};

class Corpus {
 public:
  // paths: as FindData takes them; what each file holds is found by file_kind.h: text, JSON with texts, token
  // ids, and gzip of these. tokenizer: for text; may be null where there is none. Every id is
  // compared with vocab_size, and text is searched for NUL bytes, before the constructor returns.
  // UserError: what is missing, unreadable, empty, no data, or does not fit the vocabulary; text without tokenizer.
  Corpus(const std::vector<std::string>& paths, const Tokenizer* tokenizer, int64_t vocab_size,
         const CorpusOptions& options = {});
  // Token ids in memory, for tests and synthetic data.
  Corpus(std::vector<int32_t> tokens, int64_t vocab_size, const std::string& name);
  ~Corpus();
  Corpus(const Corpus&) = delete;
  Corpus& operator=(const Corpus&) = delete;

  int64_t size() const { return size_; }  // N, tokens
  int64_t vocab_size() const { return vocab_size_; }
  // Token ids [begin, begin + count), within [0, N). DataChanged where a file is read that is no longer what it was.
  void Read(int64_t begin, int64_t count, int32_t* out) const;
  // Whether every token stands for one byte of text, so that nats a token are nats a byte.
  bool bytes_are_tokens() const { return bytes_are_tokens_; }
  std::optional<int32_t> eos() const { return eos_; }  // stands for no byte of text
  const std::vector<FileStamp>& stamps() const { return stamps_; }
  // Gives up a share of the tokens, 0 < share < 1, and returns them: the end of each file; of many small files every
  // k-th whole one. A function of the files and the share alone.
  std::unique_ptr<Corpus> HoldOut(double share);
  // "3 files (2 text, 1 JSONL), 15.6 MiB, 16.2M tokens"
  std::string Describe() const;
  // DataChanged for the first file with other content than it had when it was opened, read again or not.
  void CheckUnchanged() const;

 private:
  struct Slice {
    std::shared_ptr<const CorpusPart> part;
    int64_t from = 0, size = 0;  // tokens of the part
    int64_t begin = 0;           // of the corpus
  };
  explicit Corpus(int64_t vocab_size) : vocab_size_(vocab_size) {}
  void AddFile(const std::string& path, const Tokenizer* tokenizer);
  void AddSlice(std::shared_ptr<const CorpusPart> part, int64_t from, int64_t size);

  std::vector<Slice> slices_;
  std::vector<FileStamp> stamps_;
  std::map<std::string, int64_t> kinds_;  // files of each kind
  int64_t size_ = 0, vocab_size_ = 0, documents_ = 0;
  std::optional<int32_t> eos_;
  int64_t memory_ = int64_t{256} << 20;  // bytes of files that may still be copied
  bool bytes_are_tokens_ = true;
};

// Throws where two lists of files differ, naming the first difference: `where` is what the stamps were read from.
void CheckSameData(const std::vector<FileStamp>& saved, const std::vector<FileStamp>& now, const std::string& where);

}  // namespace taipan
