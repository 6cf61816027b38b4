#include "data/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/progress.h"

namespace taipan {
namespace {

enum class FileKind { kText, kJsonLines, kU16, kU32 };

FileKind KindOf(const std::string& path) {
  const std::string extension = std::filesystem::path(path).extension().string();
  if (extension == ".jsonl" || extension == ".ndjson") return FileKind::kJsonLines;
  if (extension == ".u16" || extension == ".bin") return FileKind::kU16;
  if (extension == ".u32") return FileKind::kU32;
  return FileKind::kText;
}

// The data files below a folder: hidden and empty ones are left out.
std::vector<std::string> FilesBelow(const std::string& folder) {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error), end;
  while (!error && it != end) {
    const bool hidden = it->path().filename().string().starts_with('.');
    if (hidden && it->is_directory(error)) it.disable_recursion_pending();
    if (!hidden && it->is_regular_file(error) && it->file_size(error) > 0) files.push_back(it->path().string());
    it.increment(error);
  }
  if (error) throw UserError(folder, "cannot list the folder: " + error.message());
  std::sort(files.begin(), files.end());
  return files;
}

bool IsByteTokenizer(const Tokenizer* tokenizer) { return dynamic_cast<const ByteTokenizer*>(tokenizer) != nullptr; }

// Little-endian whatever the machine, from any address.
uint32_t LoadLittle(const char* p, int64_t bytes) {
  uint32_t value = 0;
  for (int64_t i = 0; i < bytes; ++i) value |= static_cast<uint32_t>(static_cast<unsigned char>(p[i])) << (8 * i);
  return value;
}

// The texts of a JSONL file one after the other.
std::string JoinJsonLines(std::string_view all, const std::string& path) {
  std::string text;
  int64_t line_number = 0;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find('\n', begin), all.size());
    std::string_view line = all.substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const std::string where = fmt::format("{}:{}", path, line_number);
    if (json.is_discarded()) throw UserError({where, "not a line of JSON", R"({"text": "..."})", "", ""});
    const bool has_text = json.is_object() && json.contains("text") && json["text"].is_string();
    if (!has_text)
      throw UserError({where, "no string \"text\" on this line", R"({"text": "..."})", json.type_name(), ""});
    if (!text.empty() && text.back() != '\n') text += '\n';
    text += json["text"].get_ref<const std::string&>();
  }
  return text;
}

}  // namespace

// One file: bytes or 16- or 32-bit ids in it, or what was made of its text.
struct Corpus::Part {
  std::string path;
  int64_t begin = 0;               // in the corpus, tokens
  int64_t size = 0;                // tokens
  std::unique_ptr<DataFile> file;  // null: tokens that never were in a file
  bool from_file = true;           // tokens are read from `file`; else from `text` or `ids`
  int64_t width = 1;               // bytes a token in the file, or in `text`
  std::string text;                // used where not empty
  std::vector<int32_t> ids;        // used where not empty

  void Read(int64_t from, int64_t count, int64_t vocab_size, int32_t* out) const {
    std::string buffer;
    const char* bytes = text.data() + from;
    if (from_file) {
      buffer.resize(static_cast<size_t>(count * width));
      file->Read(from * width, count * width, buffer.data());
      bytes = buffer.data();
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t id = !ids.empty() ? ids[static_cast<size_t>(from + i)]
                         : width == 1 ? static_cast<unsigned char>(bytes[i])
                                      : int64_t{LoadLittle(bytes + i * width, width)};
      if (id < 0 || id >= vocab_size) [[unlikely]]
        Reject(from + i, id, vocab_size);
      out[i] = static_cast<int32_t>(id);
    }
  }

  [[noreturn]] void Reject(int64_t at, int64_t id, int64_t vocab_size) const {
    const std::string offset = from_file ? fmt::format(" (byte {})", at * width) : "";
    throw UserError({path, fmt::format("token {}{} is outside the vocabulary", at, offset),
                     fmt::format("an id below {}", vocab_size), std::to_string(id), ""});
  }
};

Corpus::Corpus(const std::vector<std::string>& paths, const Tokenizer* tokenizer, int64_t vocab_size)
    : vocab_size_(vocab_size) {
  for (const std::string& path : paths) {
    if (!PathExists(path)) throw UserError(path, "no such file or folder");
    if (!IsDirectory(path)) {
      AddFile(path, tokenizer);
      continue;
    }
    const std::vector<std::string> files = FilesBelow(path);
    if (files.empty()) throw UserError({path, "the folder holds no data", "at least one file with text", "none", ""});
    for (const std::string& file : files) AddFile(file, tokenizer);
  }
  if (size_ == 0) throw UserError("--data", "no data was given");
}

Corpus::Corpus(std::vector<int32_t> tokens, int64_t vocab_size, const std::string& name) : vocab_size_(vocab_size) {
  auto part = std::make_unique<Part>();
  part->path = name;
  part->size = static_cast<int64_t>(tokens.size());
  part->ids = std::move(tokens);
  part->from_file = false;
  const int64_t bytes = part->size * 4;
  stamps_.push_back({name, bytes, HashContent(reinterpret_cast<const char*>(part->ids.data()), bytes)});
  bytes_are_tokens_ = vocab_size == 256;
  AddPart(std::move(part));
}

Corpus::~Corpus() = default;

bool HoldsText(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    if (!PathExists(path)) continue;
    for (const std::string& file : IsDirectory(path) ? FilesBelow(path) : std::vector<std::string>{path}) {
      const FileKind kind = KindOf(file);
      if (kind == FileKind::kText || kind == FileKind::kJsonLines) return true;
    }
  }
  return false;
}

void Corpus::AddFile(const std::string& path, const Tokenizer* tokenizer) {
  auto part = std::make_unique<Part>();
  part->path = path;
  part->file = std::make_unique<DataFile>(path, memory_);
  if (part->file->size() == 0) throw UserError(path, "the file is empty");
  stamps_.push_back(part->file->stamp());
  // Without a tokenizer a vocabulary of 256 is taken for bytes.
  const bool bytes_are_ids = tokenizer ? IsByteTokenizer(tokenizer) : vocab_size_ == 256;
  switch (KindOf(path)) {
    case FileKind::kU16:
      FillFromTokens(*part, 2, bytes_are_ids);
      break;
    case FileKind::kU32:
      FillFromTokens(*part, 4, bytes_are_ids);
      break;
    case FileKind::kText:
      FillFromText(*part, /*json_lines=*/false, tokenizer);
      break;
    case FileKind::kJsonLines:
      FillFromText(*part, /*json_lines=*/true, tokenizer);
      break;
  }
  AddPart(std::move(part));
}

void Corpus::FillFromTokens(Part& part, int64_t width, bool tokens_are_bytes) {
  const int64_t bytes = part.file->size();
  if (bytes % width != 0) {
    throw UserError({part.path, fmt::format("not a file of {}-bit tokens", width * 8),
                     fmt::format("a multiple of {} bytes", width), fmt::format("{} bytes", bytes), ""});
  }
  part.width = width;
  part.size = bytes / width;
  bytes_are_tokens_ = bytes_are_tokens_ && tokens_are_bytes;
}

void Corpus::FillFromText(Part& part, bool json_lines, const Tokenizer* tokenizer) {
  if (!tokenizer) {
    throw UserError({part.path, "text needs a tokenizer and the model has none", "", "",
                     "give --tokenizer, or token files (.u16, .u32, .bin)"});
  }
  bytes_are_tokens_ = bytes_are_tokens_ && IsByteTokenizer(tokenizer);
  part.size = part.file->size();
  if (IsByteTokenizer(tokenizer) && !json_lines) return;
  part.from_file = false;
  part.text = part.file->Take(memory_);
  if (json_lines) {
    part.text = JoinJsonLines(part.text, part.path);
    if (part.text.empty()) throw UserError(part.path, "the file holds no text");
  }
  part.size = static_cast<int64_t>(part.text.size());
  if (IsByteTokenizer(tokenizer)) return;
  part.ids = tokenizer->Encode(part.text);
  part.size = static_cast<int64_t>(part.ids.size());
  std::string().swap(part.text);
}

void Corpus::AddPart(std::unique_ptr<Part> part) {
  part->begin = size_;
  size_ += part->size;
  parts_.push_back(std::move(part));
}

void Corpus::Read(int64_t begin, int64_t count, int32_t* out) const {
  CHECK_GE(begin, 0);
  CHECK_LE(begin + count, size_);
  auto it = std::upper_bound(parts_.begin(), parts_.end(), begin,
                             [](int64_t at, const std::unique_ptr<Part>& part) { return at < part->begin; });
  for (--it; count > 0; ++it) {
    const Part& part = **it;
    const int64_t from = begin - part.begin;
    const int64_t n = std::min(count, part.size - from);
    part.Read(from, n, vocab_size_, out);
    begin += n;
    out += n;
    count -= n;
  }
}

std::string Corpus::Describe() const {
  int64_t bytes = 0;
  for (const FileStamp& stamp : stamps_) bytes += stamp.bytes;
  return fmt::format("{} file{}, {}, {:.2f} M tokens", parts_.size(), parts_.size() == 1 ? "" : "s", FormatBytes(bytes),
                     static_cast<double>(size_) / 1e6);
}

void Corpus::CheckUnchanged() const {
  for (const auto& part : parts_) {
    if (part->file) part->file->CheckUnchanged();
  }
}

void CheckSameData(const std::vector<FileStamp>& saved, const std::vector<FileStamp>& now, const std::string& where) {
  const auto show = [](const std::vector<FileStamp>& stamps, size_t i) {
    if (i >= stamps.size()) return std::string("no such file");
    return fmt::format("{} ({} bytes, content {:016x})", stamps[i].name, stamps[i].bytes, stamps[i].hash);
  };
  for (size_t i = 0; i < std::max(saved.size(), now.size()); ++i) {
    if (i < saved.size() && i < now.size() && saved[i] == now[i]) continue;
    throw UserError({where, fmt::format("the run was trained on other data: file {}", i + 1), show(saved, i),
                     show(now, i), "a run continues on the data it began with"});
  }
}

}  // namespace taipan
