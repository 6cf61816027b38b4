#include "data/corpus_part.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"
#include "base/logging.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "data/json_texts.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

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

bool IsByteTokenizer(const Tokenizer* tokenizer) { return dynamic_cast<const ByteTokenizer*>(tokenizer) != nullptr; }

const char* CorpusPart::Bytes(int64_t begin, int64_t count, std::string& buffer) const {
  if (!from_file) return content.data() + begin;
  buffer.resize(static_cast<size_t>(count));
  file->Read(begin, count, buffer.data());
  return buffer.data();
}

void CorpusPart::Read(int64_t from, int64_t count, int32_t* out) const {
  if (end && from + count == size && count > 0) out[--count] = *end;
  if (!ids.empty()) {
    std::copy_n(ids.begin() + from, count, out);
    return;
  }
  std::string buffer;
  const char* bytes = Bytes(format.offset + from * format.width, count * format.width, buffer);
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<int32_t>(LoadLittle(bytes + i * format.width, format.width));
}

void CorpusPart::Check(int64_t vocab_size) const {
  constexpr int64_t kPiece = int64_t{4} << 20, kLong = int64_t{256} << 20;  // bytes
  const int64_t last = content_size(), width = format.width;
  std::optional<ProgressLine> progress;
  if (last > kLong) progress.emplace();
  std::string buffer;
  for (int64_t at = format.offset; at < last; at += kPiece) {
    const int64_t bytes = std::min(kPiece, last - at), count = bytes / width;
    const char* p = Bytes(at, bytes, buffer);
    if (progress) progress->Update(fmt::format("checks {}: {} of {}", path, FormatBytes(at), FormatBytes(last)));
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

void CorpusPart::RejectId(int64_t at, uint64_t id, int64_t vocab_size) const {
  const std::string offset = from_file ? fmt::format(" (byte {})", format.offset + at * format.width) : "";
  const int64_t shift = 64 - 8 * format.width;
  const bool negative = format.is_signed && static_cast<int64_t>(id << shift) < 0;
  throw UserError({path, fmt::format("token {}{} is outside the vocabulary", at, offset),
                   fmt::format("an id below {}", vocab_size),
                   negative ? std::to_string(static_cast<int64_t>(id << shift) >> shift) : std::to_string(id),
                   file ? "read as " + format.name : ""});
}

void CorpusPart::Recognise(const std::string& name, int64_t vocab_size) {
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

std::string CorpusPart::TakeContent(int64_t& memory) {
  if (!from_file) return std::move(content);
  from_file = false;
  return file->Take(memory);
}

void CorpusPart::FillFromText(const Tokenizer& tokenizer, std::optional<int32_t> eos, int64_t vocab_size,
                              int64_t& memory) {
  const bool bytes = IsByteTokenizer(&tokenizer);
  if (format.kind != DataKind::kText) {
    std::vector<std::string> texts;
    ForEachJsonText(TakeContent(memory), format.kind, path,
                    [&](std::string text) { texts.push_back(std::move(text)); });
    eos ? Separate(texts, tokenizer, *eos) : Join(texts, tokenizer);
    if (size == 0) throw UserError(path, "the file holds no text");
    return;
  }
  if (!bytes) content = TakeContent(memory);
  Check(vocab_size);
  documents = {0};
  end = eos;
  if (!bytes) {
    ids = tokenizer.Encode(content);
    std::string().swap(content);
  }
  size = (bytes ? content_size() : static_cast<int64_t>(ids.size())) + (end ? 1 : 0);
}

void CorpusPart::Join(const std::vector<std::string>& texts, const Tokenizer& tokenizer) {
  content.clear();
  for (const std::string& text : texts) {
    if (!content.empty() && content.back() != '\n') content += '\n';
    content += text;
  }
  documents = {0};
  size = static_cast<int64_t>(content.size());
  if (IsByteTokenizer(&tokenizer)) return;
  ids = tokenizer.Encode(content);
  size = static_cast<int64_t>(ids.size());
  std::string().swap(content);
}

void CorpusPart::Separate(const std::vector<std::string>& texts, const Tokenizer& tokenizer, int32_t eos) {
  const bool bytes = IsByteTokenizer(&tokenizer);
  std::vector<std::vector<int32_t>> encoded(bytes ? 0 : texts.size());
  ParallelFor(static_cast<int64_t>(encoded.size()),
              [&](int64_t i) { encoded[static_cast<size_t>(i)] = tokenizer.Encode(texts[static_cast<size_t>(i)]); });
  content.clear();
  for (size_t i = 0; i < texts.size(); ++i) {
    if (bytes ? texts[i].empty() : encoded[i].empty()) continue;
    documents.push_back(size);
    if (bytes) {
      content += texts[i] + static_cast<char>(eos);
    } else {
      ids.insert(ids.end(), encoded[i].begin(), encoded[i].end());
      ids.push_back(eos);
      std::vector<int32_t>().swap(encoded[i]);
    }
    size = static_cast<int64_t>(bytes ? content.size() : ids.size());
  }
  const size_t empty = texts.size() - documents.size();
  if (empty > 0) LogInfo("{}: {} of {} texts are empty and left out", path, empty, texts.size());
}

}  // namespace taipan
