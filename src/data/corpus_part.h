#pragma once
// One file of a corpus: text or ids in it, or what was made of its content.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/corpus.h"
#include "data/data_file.h"
#include "data/encode_document.h"
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
  std::vector<int64_t> documents;  // the first token of each; of a shard they stay in the file
  std::vector<float> weights;      // of the loss, a token each; empty: all 1, or in the shard

  int64_t document_count() const {
    return format.shard ? format.shard->documents : static_cast<int64_t>(documents.size());
  }
  // The first tokens of documents [first, first + count); behind the last one: size.
  std::vector<int64_t> DocumentBegins(int64_t first, int64_t count) const;
  int64_t DocumentAt(int64_t token) const;
  bool weighted() const { return format.shard ? format.shard->weighted : !weights.empty(); }
  void ReadWeights(int64_t from, int64_t count, float* out) const;
  void FindDocuments(int32_t eos);  // of ids: what ends with this one

  void Recognise(const std::string& name, int64_t vocab_size);
  std::string TakeContent(int64_t& memory);
  // Bytes from format.offset on are ids, up to here.
  int64_t ids_end() const {
    return format.shard ? format.offset + format.shard->tokens * format.width : content_size();
  }
  int64_t content_size() const { return from_file ? file->size() : static_cast<int64_t>(content.size()); }
  void Read(int64_t from, int64_t count, int32_t* out) const;
  // Looks at everything once: ids outside the vocabulary, NUL bytes in text.
  void Check(int64_t vocab_size) const;
  void CheckShard() const;      // its checksum and
  void CheckDocuments() const;  // that each of its documents has tokens
  [[noreturn]] void RejectId(int64_t at, uint64_t id, int64_t vocab_size) const;

  // Makes tokens of the content, which is text.
  void FillFromText(const Tokenizer& tokenizer, const CorpusOptions& options, int64_t vocab_size, int64_t& memory);

 private:
  // Bytes of the content, in `buffer` where it does not lie in memory.
  const char* Bytes(int64_t begin, int64_t count, std::string& buffer) const;
  void Join(std::string_view json, const Tokenizer& tokenizer);
  void Separate(std::string_view json, const Tokenizer& tokenizer, const DocumentEncoder& encoder);
  void Append(const EncodedDocument& document, bool bytes);
};

bool IsByteTokenizer(const Tokenizer* tokenizer);

}  // namespace taipan
