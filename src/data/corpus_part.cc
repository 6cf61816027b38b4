#include "data/corpus_part.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/content_hash.h"
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

std::vector<int64_t> CorpusPart::DocumentBegins(int64_t first, int64_t count) const {
  std::vector<int64_t> begins(static_cast<size_t>(count), size);
  const int64_t there = std::min(count, document_count() - first);
  if (!format.shard) {
    std::copy_n(documents.begin() + first, there, begins.begin());
    return begins;
  }
  std::string buffer;
  const char* const bytes = Bytes(format.shard->documents_begin() + 8 * first, 8 * there, buffer);
  for (int64_t i = 0; i < there; ++i)
    begins[static_cast<size_t>(i)] = static_cast<int64_t>(LoadLittle(bytes + 8 * i, 8));
  return begins;
}

int64_t CorpusPart::DocumentAt(int64_t token) const {
  int64_t low = 0, high = document_count();  // the answer is in [low, high)
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (DocumentBegins(middle, 1)[0] <= token ? low : high) = middle;
  }
  return low;
}

void CorpusPart::ReadWeights(int64_t from, int64_t count, float* out) const {
  if (!weighted()) {
    std::fill_n(out, count, 1.0f);
  } else if (!format.shard) {
    std::copy_n(weights.begin() + from, count, out);
  } else {
    std::string buffer;
    const char* const bytes = Bytes(format.shard->weights_begin() + 4 * from, 4 * count, buffer);
    for (int64_t i = 0; i < count; ++i) {
      out[i] = std::bit_cast<float>(static_cast<uint32_t>(LoadLittle(bytes + 4 * i, 4)));
    }
  }
}

void CorpusPart::FindDocuments(int32_t eos) {
  constexpr int64_t kPiece = int64_t{1} << 20;  // ids
  std::vector<int32_t> read(static_cast<size_t>(std::min(kPiece, size)));
  documents = {0};
  for (int64_t at = 0; at < size; at += kPiece) {
    const int64_t count = std::min(kPiece, size - at);
    Read(at, count, read.data());
    for (int64_t i = 0; i < count; ++i) {
      if (read[static_cast<size_t>(i)] == eos && at + i + 1 < size) documents.push_back(at + i + 1);
    }
  }
}

void CorpusPart::Check(int64_t vocab_size) const {
  constexpr int64_t kPiece = int64_t{4} << 20, kLong = int64_t{256} << 20;  // bytes
  const int64_t last = ids_end(), width = format.width;
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

void CorpusPart::CheckShard() const {
  constexpr int64_t kPiece = int64_t{4} << 20;  // bytes
  ContentHash hash;
  std::string buffer;
  for (int64_t at = format.offset; at < content_size(); at += kPiece) {
    const int64_t bytes = std::min(kPiece, content_size() - at);
    hash.Add(Bytes(at, bytes, buffer), bytes);
  }
  const uint64_t found = hash.Finish();
  if (found != format.shard->checksum) {
    throw UserError({path, "the shard is damaged: its content has another checksum than it was written with",
                     fmt::format("{:016x}", format.shard->checksum), fmt::format("{:016x}", found),
                     "taipan tokenize makes it again"});
  }
  CheckDocuments();
}

void CorpusPart::CheckDocuments() const {
  constexpr int64_t kPiece = int64_t{1} << 16;  // documents
  for (int64_t first = 0; first < document_count(); first += kPiece) {
    const std::vector<int64_t> begins = DocumentBegins(first, std::min(kPiece, document_count() - first) + 1);
    for (size_t i = 0; i + 1 < begins.size(); ++i) {
      const int64_t number = first + static_cast<int64_t>(i);
      const bool at_start = number > 0 || begins[i] == 0;
      if (at_start && begins[i] < begins[i + 1] && begins[i + 1] <= size) continue;
      throw UserError({path, fmt::format("document {} of the shard has no tokens", number),
                       fmt::format("documents that follow each other from token 0 to {}", size),
                       fmt::format("one from {} to {}", begins[i], begins[i + 1]), "taipan tokenize makes it again"});
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

void CorpusPart::FillFromText(const Tokenizer& tokenizer, const CorpusOptions& options, int64_t vocab_size,
                              int64_t& memory) {
  const bool bytes = IsByteTokenizer(&tokenizer);
  if (format.kind != DataKind::kText) {
    const std::string json = TakeContent(memory);
    content.clear();
    if (options.eos || options.separate) {
      Separate(json, tokenizer, DocumentEncoder(tokenizer, options.eos, options.chat));
    } else {
      Join(json, tokenizer);
    }
    if (size == 0) throw UserError(path, "the file holds no text");
    return;
  }
  if (!bytes) content = TakeContent(memory);
  Check(vocab_size);
  documents = {0};
  end = options.eos;
  if (!bytes) {
    ids = EncodeParallel(tokenizer, content);
    std::string().swap(content);
  }
  size = (bytes ? content_size() : static_cast<int64_t>(ids.size())) + (end ? 1 : 0);
}

// One text, a line feed between two where the first does not end in one.
void CorpusPart::Join(std::string_view json, const Tokenizer& tokenizer) {
  ForEachObject(json, format.kind, path, [&](const nlohmann::json& object, const std::string& where) {
    if (!content.empty() && content.back() != '\n') content += '\n';
    content += TextOf(object, where);
    for (const char* key : {"loss_mask", "loss_weight"}) {
      if (!object.contains(key)) continue;
      throw UserError({.where = where,
                       .problem = fmt::format("\"{}\" cannot be kept where texts are joined", key),
                       .hint = "--packing documents"});
    }
  });
  documents = {0};
  size = static_cast<int64_t>(content.size());
  if (IsByteTokenizer(&tokenizer)) return;
  ids = EncodeParallel(tokenizer, content);
  size = static_cast<int64_t>(ids.size());
  std::string().swap(content);
}

void CorpusPart::Separate(std::string_view json, const Tokenizer& tokenizer, const DocumentEncoder& encoder) {
  constexpr size_t kBatch = 4096;  // objects, side by side
  std::vector<std::pair<nlohmann::json, std::string>> batch;
  int64_t texts = 0;
  const auto encode = [&] {
    std::vector<EncodedDocument> encoded(batch.size());
    ParallelFor(static_cast<int64_t>(batch.size()), [&](int64_t i) {
      const auto& [object, where] = batch[static_cast<size_t>(i)];
      encoded[static_cast<size_t>(i)] = encoder.Object(object, where);
    });
    for (const EncodedDocument& document : encoded) Append(document, IsByteTokenizer(&tokenizer));
    texts += static_cast<int64_t>(batch.size());
    batch.clear();
  };
  ForEachObject(json, format.kind, path, [&](nlohmann::json object, const std::string& where) {
    batch.emplace_back(std::move(object), where);
    if (batch.size() == kBatch) encode();
  });
  encode();
  const int64_t empty = texts - static_cast<int64_t>(documents.size());
  if (empty > 0) LogInfo("{}: {} of {} texts are empty and left out", path, empty, texts);
}

void CorpusPart::Append(const EncodedDocument& document, bool bytes) {
  if (document.ids.empty()) return;
  documents.push_back(size);
  if (!document.weights.empty() && weights.empty()) weights.assign(static_cast<size_t>(size), 1.0f);
  if (bytes) {
    for (const int32_t id : document.ids) content += static_cast<char>(id);
  } else {
    ids.insert(ids.end(), document.ids.begin(), document.ids.end());
  }
  size += static_cast<int64_t>(document.ids.size());
  weights.insert(weights.end(), document.weights.begin(), document.weights.end());
  if (!weights.empty()) weights.resize(static_cast<size_t>(size), 1.0f);
}

}  // namespace taipan
