#include "data/document_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "data/json_texts.h"
#include "data/stream_input.h"

namespace taipan {
namespace {

constexpr size_t kFilePiece = size_t{4} << 20;  // bytes of a file at a time

}  // namespace

DocumentReader::DocumentReader(std::vector<std::string> files) : files_(std::move(files)) {}

DocumentReader::~DocumentReader() { Close(); }

void DocumentReader::Close() {
  if (fd_ > 0) ::close(fd_);
  fd_ = -1;
  bytes_before_ += bytes_;
  bytes_ = 0;
  unpacker_.reset();
  buffer_.clear();
  list_.clear();
  listed_ = false;
  at_ = 0;
  document_ = line_ = 0;
}

bool DocumentReader::OpenNext() {
  Close();
  if (++file_ >= static_cast<int64_t>(files_.size())) return false;
  const std::string& file = files_[static_cast<size_t>(file_)];
  path_ = StreamName(file);
  fd_ = file == "-" ? 0 : ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) throw UserError(path_, std::string("cannot open: ") + std::strerror(errno));
  packing_ = Packing::kNone;
  while (buffer_.size() < 16 && Fill()) continue;
  packing_ = PackingOf(buffer_);
  if (packing_ != Packing::kNone) {
    unpacker_ = NewUnpacker(packing_, path_);
    std::string packed;
    packed.swap(buffer_);
    unpacker_->Append(packed, buffer_);
  }
  while (static_cast<int64_t>(buffer_.size()) < kHeadBytes && Fill()) continue;
  if (buffer_.empty()) throw UserError(path_, "the file is empty");
  const std::string_view head = std::string_view(buffer_).substr(0, static_cast<size_t>(kHeadBytes));
  const DataFormat format =
      RecogniseData(WithoutPacking(path_), head, static_cast<int64_t>(head.size()), /*vocab_size=*/0);
  if (!format.is_text()) {
    throw UserError({path_, "no text to tokenize", "text or JSON with texts", format.name, "train reads token files"});
  }
  kind_ = format.kind;
  if (kind_ == DataKind::kJsonLines && buffer_.starts_with("\xef\xbb\xbf")) at_ = 3;
  return true;
}

bool DocumentReader::Fill() {
  std::string piece(kFilePiece, '\0');
  ssize_t got;
  do {
    got = ::read(fd_, piece.data(), piece.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0) throw UserError(path_, std::string("cannot read: ") + std::strerror(errno));
  if (got == 0) {
    if (unpacker_ && !unpacker_->AtEnd()) RefuseCut(packing_, path_, bytes_);
    return false;
  }
  bytes_ += got;
  piece.resize(static_cast<size_t>(got));
  if (at_ > kFilePiece) {
    buffer_.erase(0, at_);
    at_ = 0;
  }
  unpacker_ ? unpacker_->Append(piece, buffer_) : static_cast<void>(buffer_ += piece);
  return true;
}

void DocumentReader::FillAll() {
  while (Fill()) continue;
}

bool DocumentReader::NextLine(RawDocument& document) {
  size_t searched = at_;
  for (;;) {
    const size_t end = buffer_.find('\n', searched);
    if (end == buffer_.npos) {
      const size_t held = buffer_.size() - at_;
      if (Fill()) {
        searched = at_ + held;
        continue;
      }
      if (held == 0) return false;
    }
    const std::string_view line = std::string_view(buffer_).substr(at_, std::min(end, buffer_.size()) - at_);
    at_ = std::min(end, buffer_.size() - 1) + 1;
    searched = at_;
    ++line_;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    document.bytes = line;
    document.is_json = true;
    document.where = fmt::format("{}:{}", path_, line_);
    return true;
  }
}

bool DocumentReader::NextInList(RawDocument& document) {
  if (!listed_) {
    FillAll();
    list_ = ElementsOf(std::string_view(buffer_).substr(at_), path_);
    std::reverse(list_.begin(), list_.end());
    listed_ = true;
  }
  if (list_.empty()) return false;
  document.bytes = std::move(list_.back());
  list_.pop_back();
  document.is_json = true;
  document.where = WhereOfElement(path_, document_ + 1);
  return true;
}

bool DocumentReader::NextText(RawDocument& document) {
  if (document_ > 0) return false;
  FillAll();
  if (const void* nul = std::memchr(buffer_.data(), 0, buffer_.size()); nul != nullptr) {
    RefuseForeign(path_,
                  {fmt::format("binary data (byte {} is NUL)", static_cast<const char*>(nul) - buffer_.data()), ""});
  }
  document.bytes = std::move(buffer_);
  buffer_.clear();
  document.is_json = false;
  document.where = path_;
  return true;
}

bool DocumentReader::Next(RawDocument& document) {
  for (;;) {
    if (fd_ < 0 && !OpenNext()) return false;
    const bool found = kind_ == DataKind::kText        ? NextText(document)
                       : kind_ == DataKind::kJsonLines ? NextLine(document)
                                                       : NextInList(document);
    if (found) {
      document.next = {file_, ++document_};
      return true;
    }
    Close();
  }
}

std::vector<RawDocument> DocumentReader::NextBatch(size_t bytes) {
  std::vector<RawDocument> batch;
  size_t held = 0;
  for (RawDocument document; (batch.empty() || held < bytes) && Next(document); document = {}) {
    held += document.bytes.size();
    batch.push_back(std::move(document));
  }
  return batch;
}

void DocumentReader::SkipTo(const DocumentPosition& position) {
  Close();
  file_ = position.file - 1;
  RawDocument skipped;
  while (document_ < position.document) {
    if (Next(skipped) && file_ == position.file) continue;
    throw UserError({files_.at(static_cast<size_t>(position.file)), "has fewer documents than before",
                     fmt::format("at least {}", position.document)});
  }
}

}  // namespace taipan
