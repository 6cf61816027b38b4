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
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace taipan {

struct CorpusPart;

struct CorpusOptions {
  DataUse use = DataUse::kTraining;
  // Stands behind every document of text: a file, or a text of JSON. None: they are joined, texts of JSON by a line
  // feed. Token files are taken as they are.
  std::optional<int32_t> eos = {};
  // Documents will be told apart: without eos, too, texts of JSON are not joined, and token files must have one that
  // separates them.
  bool separate = false;
  const ChatTemplate* chat = nullptr;  // of "messages"; only the constructor looks at it
};

// Tokens [begin, begin + length) of a corpus.
struct DocumentSpan {
  int64_t begin = 0, length = 0;
  bool operator==(const DocumentSpan&) const = default;
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
  // A file of text, a text of JSON, of token files what ends with eos; where a share is held out, its two parts.
  int64_t documents() const { return documents_; }
  std::vector<DocumentSpan> Documents(int64_t first, int64_t count) const;
  int64_t DocumentAt(int64_t token) const;  // the number of the one that it is in
  // Whether tokens have other weights of the loss than 1.
  bool weighted() const { return weighted_; }
  void ReadWeights(int64_t begin, int64_t count, float* out) const;
  // Whether every token stands for one byte of text, so that nats a token are nats a byte.
  bool bytes_are_tokens() const { return bytes_are_tokens_; }
  // Stands behind every document and for no byte of text: what the options said, else what shards say.
  std::optional<int32_t> eos() const { return eos_; }
  const std::vector<FileStamp>& stamps() const { return stamps_; }
  // Of the tokenizer that its shards were made with; none where there are no shards.
  std::optional<uint64_t> tokenizer_digest() const { return digest_; }
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
    int64_t from = 0, size = 0;                    // tokens of the part
    int64_t begin = 0;                             // of the corpus
    int64_t first = 0, documents = 0, before = 0;  // documents: the first of the part, their number, those before
  };
  explicit Corpus(int64_t vocab_size) : vocab_size_(vocab_size) {}
  void AddFile(const std::string& path, const Tokenizer* tokenizer, const CorpusOptions& options);
  const Slice& SliceAt(int64_t token) const;
  void FindDocuments(CorpusPart& part, bool separate) const;
  void AcceptShard(const CorpusPart& part, const Tokenizer* tokenizer);
  void AddSlice(std::shared_ptr<const CorpusPart> part, int64_t from, int64_t size);

  std::vector<Slice> slices_;
  std::vector<FileStamp> stamps_;
  std::map<std::string, int64_t> kinds_;  // files of each kind
  int64_t size_ = 0, vocab_size_ = 0, documents_ = 0;
  std::optional<int32_t> eos_;
  std::optional<uint64_t> digest_;       // of the tokenizer, or of the first shard where there is none
  int64_t memory_ = int64_t{256} << 20;  // bytes of files that may still be copied
  bool bytes_are_tokens_ = true, weighted_ = false;
};

// Throws where two lists of files differ, naming the first difference: `where` is what the stamps were read from.
void CheckSameData(const std::vector<FileStamp>& saved, const std::vector<FileStamp>& now, const std::string& where);

}  // namespace taipan
