#pragma once
// One file of a corpus: text or ids in it, or what was made of its content.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/data_file.h"
#include "data/file_kind.h"
#include "text/tokenizer.h"

namespace taipan {

struct CorpusPart {
  std::string path;
  DataFormat format;
  int64_t size = 0;                // tokens
  std::unique_ptr<DataFile> file;  // null: tokens that never were in a file
  bool from_file = false;          // tokens are read from `file`; else from `ids`, or from `content` where it is empty
  std::string content;             // unpacked, or the texts of JSON
  std::vector<int32_t> ids;
  std::optional<int32_t> end;      // one more token, behind those of the file
  std::vector<int64_t> documents;  // the first token of each

  void Recognise(const std::string& name, int64_t vocab_size);
  std::string TakeContent(int64_t& memory);
  int64_t content_size() const { return from_file ? file->size() : static_cast<int64_t>(content.size()); }
  void Read(int64_t from, int64_t count, int32_t* out) const;
  // Looks at everything once: ids outside the vocabulary, NUL bytes in text.
  void Check(int64_t vocab_size) const;
  [[noreturn]] void RejectId(int64_t at, uint64_t id, int64_t vocab_size) const;

  // Makes tokens of the content, which is text. eos: behind every document; none: the texts of a JSON file are one
  // text, a line feed between two.
  void FillFromText(const Tokenizer& tokenizer, std::optional<int32_t> eos, int64_t vocab_size, int64_t& memory);

 private:
  // Bytes of the content, in `buffer` where it does not lie in memory.
  const char* Bytes(int64_t begin, int64_t count, std::string& buffer) const;
  void Join(const std::vector<std::string>& texts, const Tokenizer& tokenizer);
  void Separate(const std::vector<std::string>& texts, const Tokenizer& tokenizer, int32_t eos);
};

bool IsByteTokenizer(const Tokenizer* tokenizer);

}  // namespace taipan
