#pragma once
// The documents of text files, one after the other: files of lines may be larger than memory, packed ones too.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/file_kind.h"
#include "data/unpack.h"

namespace taipan {

struct DocumentPosition {
  int64_t file = 0, document = 0;  // documents of that file before it
};

// As its file holds it.
struct RawDocument {
  std::string bytes;  // the text, or an object of JSON
  bool is_json = false;
  std::string where;      // for errors: "FILE" or "FILE:LINE"
  DocumentPosition next;  // of what follows
};

class DocumentReader {
 public:
  // files: as FindData gives them; "-" is standard input, read as it comes.
  explicit DocumentReader(std::vector<std::string> files);
  ~DocumentReader();
  DocumentReader(const DocumentReader&) = delete;
  DocumentReader& operator=(const DocumentReader&) = delete;

  // false: the end. UserError naming the file for what cannot be read, is empty, damaged or no text.
  bool Next(RawDocument& document);
  // The next ones until they hold that many bytes, one at least; none at the end.
  std::vector<RawDocument> NextBatch(size_t bytes);
  // Goes on behind what was read before; the files must be those.
  void SkipTo(const DocumentPosition& position);
  int64_t bytes_read() const { return bytes_before_ + bytes_; }  // of the files, packed as they are

 private:
  bool OpenNext();
  void Close();
  bool Fill();  // more of the open file into buffer_; false: its end
  void FillAll();
  bool NextLine(RawDocument& document);
  bool NextInList(RawDocument& document);
  bool NextText(RawDocument& document);

  const std::vector<std::string> files_;
  int64_t file_ = -1;  // the open one, or the one before the next
  int fd_ = -1;
  std::string path_;  // for messages
  Packing packing_ = Packing::kNone;
  std::unique_ptr<Unpacker> unpacker_;
  DataKind kind_ = DataKind::kText;
  std::string buffer_;
  size_t at_ = 0;  // in buffer_, of what was not given yet
  int64_t document_ = 0, line_ = 0;
  std::vector<std::string> list_;  // of a JSON list, not given yet, the last first
  bool listed_ = false;
  int64_t bytes_ = 0, bytes_before_ = 0;
};

}  // namespace taipan
