#include "data/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>

#include "base/cpu.h"
#include "base/error.h"
#include "base/logging.h"
#include "base/progress.h"
#include "data/file_kind.h"
#include "data/gunzip.h"
#include "data/json_texts.h"
#include "data/stream_input.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

bool IsByteTokenizer(const Tokenizer* tokenizer) { return dynamic_cast<const ByteTokenizer*>(tokenizer) != nullptr; }

template <class T>
uint64_t Largest(const char* p, int64_t count) {
  T largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, p + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    if constexpr (std::endian::native != std::endian::little) {
      value = static_cast<T>(LoadLittle(p + i * static_cast<int64_t>(sizeof(T)), sizeof(T)));
    }
    largest = std::max(largest, value);
  }
  return largest;
}

uint64_t LargestOf(const char* p, int64_t count, int64_t width) {
  if (width == 1) return Largest<uint8_t>(p, count);
  if (width == 2) return Largest<uint16_t>(p, count);
  return width == 4 ? Largest<uint32_t>(p, count) : Largest<uint64_t>(p, count);
}

}  // namespace

// One file: text or ids in it, or what was made of its content.
struct Corpus::Part {
  std::string path;
  DataFormat format;
  int64_t size = 0;                // tokens
  std::unique_ptr<DataFile> file;  // null: tokens that never were in a file
  bool from_file = false;          // tokens are read from `file`; else from `ids`, or from `content` where it is empty
  std::string content;             // unpacked, or the texts of JSON
  std::vector<int32_t> ids;

  void Recognise(const std::string& name, int64_t vocab_size);
  std::string TakeContent(int64_t& memory);
  int64_t content_size() const { return from_file ? file->size() : static_cast<int64_t>(content.size()); }
  // Bytes of the content, in `buffer` where it does not lie in memory.
  const char* Bytes(int64_t begin, int64_t count, std::string& buffer) const {
    if (!from_file) return content.data() + begin;
    buffer.resize(static_cast<size_t>(count));
    file->Read(begin, count, buffer.data());
    return buffer.data();
  }

  void Read(int64_t from, int64_t count, int32_t* out) const {
    if (!ids.empty()) {
      std::copy_n(ids.begin() + from, count, out);
      return;
    }
    std::string buffer;
    const char* bytes = Bytes(format.offset + from * format.width, count * format.width, buffer);
    for (int64_t i = 0; i < count; ++i)
      out[i] = static_cast<int32_t>(LoadLittle(bytes + i * format.width, format.width));
  }

  // Looks at everything once: ids outside the vocabulary, NUL bytes in text.
  void Check(int64_t vocab_size) const;
  [[noreturn]] void RejectId(int64_t at, uint64_t id, int64_t vocab_size) const;
};

void Corpus::Part::Check(int64_t vocab_size) const {
  constexpr int64_t kPiece = int64_t{4} << 20, kLong = int64_t{256} << 20;  // bytes
  const int64_t end = content_size(), width = format.width;
  std::optional<ProgressLine> progress;
  if (end > kLong) progress.emplace();
  std::string buffer;
  for (int64_t at = format.offset; at < end; at += kPiece) {
    const int64_t bytes = std::min(kPiece, end - at), count = bytes / width;
    const char* p = Bytes(at, bytes, buffer);
    if (progress) progress->Update(fmt::format("checks {}: {} of {}", path, FormatBytes(at), FormatBytes(end)));
    if (format.is_text()) {
      const void* nul = std::memchr(p, 0, static_cast<size_t>(bytes));
      if (nul == nullptr) continue;
      RefuseForeign(path, {fmt::format("binary data (byte {} is NUL)", at + (static_cast<const char*>(nul) - p)), ""});
    }
    if (LargestOf(p, count, width) < static_cast<uint64_t>(vocab_size)) continue;
    for (int64_t i = 0; i < count; ++i) {
      const uint64_t id = LoadLittle(p + i * width, width);
      if (id >= static_cast<uint64_t>(vocab_size)) RejectId((at - format.offset) / width + i, id, vocab_size);
    }
  }
}

void Corpus::Part::RejectId(int64_t at, uint64_t id, int64_t vocab_size) const {
  const std::string offset = from_file ? fmt::format(" (byte {})", format.offset + at * format.width) : "";
  const int64_t shift = 64 - 8 * format.width;
  const bool negative = format.is_signed && static_cast<int64_t>(id << shift) < 0;
  throw UserError({path, fmt::format("token {}{} is outside the vocabulary", at, offset),
                   fmt::format("an id below {}", vocab_size),
                   negative ? std::to_string(static_cast<int64_t>(id << shift) >> shift) : std::to_string(id),
                   file ? "read as " + format.name : ""});
}

Corpus::Corpus(const std::vector<std::string>& paths, const Tokenizer* tokenizer, int64_t vocab_size, DataUse use)
    : vocab_size_(vocab_size) {
  const DataFiles found = FindData(paths, use);
  for (const std::string& note : found.notes) LogInfo("{}", note);
  for (const std::string& file : found.files) AddFile(file, tokenizer);
  if (size_ == 0) throw UserError("--data", "no data was given");
}

Corpus::Corpus(std::vector<int32_t> tokens, int64_t vocab_size, const std::string& name) : vocab_size_(vocab_size) {
  auto part = std::make_shared<Part>();
  part->path = name;
  part->size = static_cast<int64_t>(tokens.size());
  part->ids = std::move(tokens);
  const int64_t bytes = part->size * 4;
  for (int64_t i = 0; i < part->size; ++i) {
    const int32_t id = part->ids[static_cast<size_t>(i)];
    if (id < 0 || id >= vocab_size) part->RejectId(i, static_cast<uint64_t>(id), vocab_size);
  }
  stamps_.push_back({name, bytes, HashContent(reinterpret_cast<const char*>(part->ids.data()), bytes)});
  bytes_are_tokens_ = vocab_size == 256;
  AddSlice(part, 0, part->size);
}

Corpus::~Corpus() = default;

void Corpus::Part::Recognise(const std::string& name, int64_t vocab_size) {
  if (content_size() == 0) throw UserError(path, "the file is empty");
  std::string buffer;
  const int64_t bytes = std::min(kHeadBytes, content_size());
  const std::string_view head(Bytes(0, bytes, buffer), static_cast<size_t>(bytes));
  format = RecogniseData(name, head, content_size(), vocab_size);
  const size_t valid = ValidUtf8Size(head);
  if (format.is_text() && valid + 3 < head.size()) {
    LogInfo("{}: not UTF-8 from byte {} on; byte models take its bytes as they are", path, valid);
  }
}

std::string Corpus::Part::TakeContent(int64_t& memory) {
  if (!from_file) return std::move(content);
  from_file = false;
  return file->Take(memory);
}

void Corpus::AddFile(const std::string& path, const Tokenizer* tokenizer) {
  auto part = std::make_shared<Part>();
  part->path = StreamName(path);
  if (IsStream(path)) {
    part->content = TakeStream(path);
    const auto bytes = static_cast<int64_t>(part->content.size());
    stamps_.push_back({path == "-" ? path : "pipe", bytes, HashContent(part->content.data(), bytes)});
  } else {
    part->file = std::make_unique<DataFile>(path, memory_);
    part->from_file = true;
    stamps_.push_back(part->file->stamp());
  }
  part->Recognise(part->path, vocab_size_);
  const bool packed = part->format.kind == DataKind::kGzip;
  if (packed) {
    const int64_t room = AvailableMemoryBytes();
    part->content = Gunzip(part->path, part->TakeContent(memory_), room > 0 ? room : int64_t{1} << 62);
    part->Recognise(WithoutGz(part->path), vocab_size_);
    if (part->format.kind == DataKind::kGzip) RefuseForeign(part->path, {"gzip in gzip", "unpack it first"});
  }
  ++kinds_[part->format.name + (packed ? " in gzip" : "")];
  if (part->format.is_text()) {
    FillFromText(*part, tokenizer);
  } else {
    part->size = (part->content_size() - part->format.offset) / part->format.width;
    if (part->size == 0) throw UserError(part->path, "holds no tokens, only a header");
    part->Check(vocab_size_);
    // Without a tokenizer a vocabulary of 256 is taken for bytes.
    bytes_are_tokens_ = bytes_are_tokens_ && (tokenizer ? IsByteTokenizer(tokenizer) : vocab_size_ == 256);
  }
  AddSlice(part, 0, part->size);
}

void Corpus::FillFromText(Part& part, const Tokenizer* tokenizer) {
  if (!tokenizer) {
    throw UserError({.where = part.path,
                     .problem = "text needs a tokenizer and the model has none",
                     .hint = "give --tokenizer, or token files (.u16, .u32, .bin, .npy)"});
  }
  const bool bytes = IsByteTokenizer(tokenizer), json = part.format.kind != DataKind::kText;
  bytes_are_tokens_ = bytes_are_tokens_ && bytes;
  if (json || !bytes) part.content = part.TakeContent(memory_);
  if (json) {
    const bool lines = part.format.kind == DataKind::kJsonLines;
    part.content = lines ? JoinJsonLines(part.content, part.path) : JoinJsonList(part.content, part.path);
    if (part.content.empty()) throw UserError(part.path, "the file holds no text");
  } else {
    part.Check(vocab_size_);
  }
  part.size = part.content_size();
  if (bytes) return;
  part.ids = tokenizer->Encode(part.content);
  part.size = static_cast<int64_t>(part.ids.size());
  std::string().swap(part.content);
}

void Corpus::AddSlice(std::shared_ptr<const Part> part, int64_t from, int64_t size) {
  if (size == 0) return;
  slices_.push_back({std::move(part), from, size, size_});
  size_ += size;
}

std::unique_ptr<Corpus> Corpus::HoldOut(double share) {
  CHECK(share > 0 && share < 1);
  constexpr double kLeast = 64;  // tokens: below, the end of a file says little
  const bool many = static_cast<double>(slices_.size()) * share >= 2;
  std::unique_ptr<Corpus> held(new Corpus(vocab_size_));
  held->bytes_are_tokens_ = bytes_are_tokens_;
  const std::vector<Slice> all = std::move(slices_);
  slices_.clear();
  size_ = 0;
  double owed = 0;  // tokens that should have been held out and were not yet
  for (const Slice& s : all) {
    const auto n = static_cast<double>(s.size);
    owed += n * share;
    const bool whole = many && n * share < kLeast;
    const double held_out = whole ? (owed >= n / 2 ? n : 0) : std::clamp(std::round(owed), 0.0, n);
    const auto count = static_cast<int64_t>(held_out);
    owed -= held_out;
    AddSlice(s.part, s.from, s.size - count);
    held->AddSlice(s.part, s.from + s.size - count, count);
  }
  return held;
}

void Corpus::Read(int64_t begin, int64_t count, int32_t* out) const {
  CHECK_GE(begin, 0);
  CHECK_LE(begin + count, size_);
  auto it =
      std::upper_bound(slices_.begin(), slices_.end(), begin, [](int64_t at, const Slice& s) { return at < s.begin; });
  for (--it; count > 0; ++it) {
    const int64_t from = begin - it->begin;
    const int64_t n = std::min(count, it->size - from);
    it->part->Read(it->from + from, n, out);
    begin += n;
    out += n;
    count -= n;
  }
}

std::string Corpus::Describe() const {
  const std::string tokens = FormatCount(size_) + " tokens";
  if (stamps_.empty()) return tokens + " held out";
  int64_t bytes = 0;
  for (const FileStamp& stamp : stamps_) bytes += stamp.bytes;
  std::string kinds;
  for (const auto& [kind, files] : kinds_) {
    const std::string number = kinds_.size() == 1 ? "" : fmt::format("{} ", files);
    kinds += fmt::format("{}{}{}", kinds.empty() ? "" : ", ", number, kind);
  }
  return fmt::format("{} file{} ({}), {}, {}", stamps_.size(), stamps_.size() == 1 ? "" : "s", kinds,
                     FormatBytes(bytes), tokens);
}

void Corpus::CheckUnchanged() const {
  for (const Slice& s : slices_) {
    if (s.part->file) s.part->file->CheckUnchanged();
  }
}

void CheckSameData(const std::vector<FileStamp>& saved, const std::vector<FileStamp>& now, const std::string& where) {
  const auto show = [](const std::vector<FileStamp>& stamps, size_t i) {
    if (i >= stamps.size()) return std::string("no such file");
    return fmt::format("{} ({} bytes, content {:016x})", stamps[i].name, stamps[i].bytes, stamps[i].hash);
  };
  for (size_t i = 0; i < std::max(saved.size(), now.size()); ++i) {
    if (i < saved.size() && i < now.size() && saved[i] == now[i]) continue;
    const std::string number =
        saved.size() == now.size()
            ? ""
            : fmt::format(" of {} instead of {}, the tokenizer's among them", now.size(), saved.size());
    throw UserError({where, fmt::format("the run was trained on other data: file {}{}", i + 1, number), show(saved, i),
                     show(now, i), "a run continues on the data it began with"});
  }
}

}  // namespace taipan
