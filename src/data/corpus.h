#pragma once
// Training data as one virtual array of token ids: the concatenation of files. Raw token files and byte-tokenised text
// are read from the file when they are needed (small files are copied, see data_file.h); other text is encoded once
// when the corpus is opened.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/files.h"
#include "data/data_file.h"
#include "text/tokenizer.h"

namespace taipan {

// Whether any of the paths, or any file below them, is text and so needs a tokenizer. Missing paths are no text.
bool HoldsText(const std::vector<std::string>& paths);

class Corpus {
 public:
  // paths: text files, folders of them (recursively, sorted by path; hidden and empty files are skipped), JSONL with
  // {"text": ...} a line (.jsonl, .ndjson; documents follow each other, a line feed between them where none is there),
  // and little-endian token files: .u16, .u32, .bin (as nanoGPT writes them, 16 bits). tokenizer: for text; may be null
  // where every path is a token file. vocab_size: ids are checked against it when they are read.
  // UserError: a path that is missing, unreadable, empty or of an odd size, JSON without "text", text without
  // tokenizer.
  Corpus(const std::vector<std::string>& paths, const Tokenizer* tokenizer, int64_t vocab_size);
  // Token ids in memory, for tests and synthetic data.
  Corpus(std::vector<int32_t> tokens, int64_t vocab_size, const std::string& name);
  ~Corpus();
  Corpus(const Corpus&) = delete;
  Corpus& operator=(const Corpus&) = delete;

  int64_t size() const { return size_; }  // N, tokens
  int64_t vocab_size() const { return vocab_size_; }
  // Token ids [begin, begin + count), within [0, N). UserError naming file and position for an id >= vocab_size;
  // DataChanged where a file is read that is no longer what it was.
  void Read(int64_t begin, int64_t count, int32_t* out) const;
  // Whether every token stands for one byte of text, so that nats a token are nats a byte.
  bool bytes_are_tokens() const { return bytes_are_tokens_; }
  const std::vector<FileStamp>& stamps() const { return stamps_; }
  // "3 files, 16.4 MB, 16.20 M tokens"
  std::string Describe() const;
  // DataChanged for the first file with other content than it had when it was opened, read again or not.
  void CheckUnchanged() const;

 private:
  struct Part;
  void AddFile(const std::string& path, const Tokenizer* tokenizer);
  void FillFromTokens(Part& part, int64_t width, bool tokens_are_bytes);
  void FillFromText(Part& part, bool json_lines, const Tokenizer* tokenizer);
  void AddPart(std::unique_ptr<Part> part);

  std::vector<std::unique_ptr<Part>> parts_;
  std::vector<FileStamp> stamps_;
  int64_t size_ = 0, vocab_size_ = 0;
  int64_t memory_ = int64_t{256} << 20;  // bytes of files that may still be copied
  bool bytes_are_tokens_ = true;
};

// Throws where two lists of files differ, naming the first difference: `where` is what the stamps were read from.
void CheckSameData(const std::vector<FileStamp>& saved, const std::vector<FileStamp>& now, const std::string& where);

}  // namespace taipan
