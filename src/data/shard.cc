#include "data/shard.h"

#include <fmt/format.h>

#include <cstring>

#include "base/content_hash.h"
#include "base/error.h"
#include "base/files.h"
#include "data/file_kind.h"

namespace taipan {
namespace {

using std::string_view_literals::operator""sv;

constexpr std::string_view kMagic = "TPNSHARD"sv;
constexpr int64_t kVersion = 1, kHeaderBytes = 128;

int64_t RoundUp(int64_t bytes) { return (bytes + 7) / 8 * 8; }

void AppendLittle(std::string& out, uint64_t value, int64_t bytes) {
  for (int64_t i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
}

std::string HeaderBytes(const ShardHeader& h) {
  std::string bytes(kMagic);
  AppendLittle(bytes, kVersion, 4);
  AppendLittle(bytes, static_cast<uint64_t>(h.width), 4);
  AppendLittle(bytes, h.tokenizer, 8);
  AppendLittle(bytes, static_cast<uint64_t>(h.vocab_size), 8);
  AppendLittle(bytes, static_cast<uint64_t>(h.eos ? int64_t{*h.eos} : -1), 8);
  AppendLittle(bytes, static_cast<uint64_t>(h.tokens), 8);
  AppendLittle(bytes, static_cast<uint64_t>(h.documents), 8);
  AppendLittle(bytes, h.weighted ? 1 : 0, 8);
  AppendLittle(bytes, h.checksum, 8);
  bytes.resize(kHeaderBytes, '\0');
  return bytes;
}

// A text in which tokenizers differ: words, numbers, spaces, line ends, letters beyond ASCII, bytes that are no text.
constexpr std::string_view kProbe =
    "The quick brown fox don't jump over 12345 lazy dogs.  Two  spaces,\ttabs\n\nand\r\nlines; "
    "caf\xc3\xa9 na\xc3\xafve \xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 \xe4\xbd\xa0\xe5\xa5\xbd "
    "\xf0\x9f\x99\x82 internationalization unbelievably co-operate x_y z = f(a, b) != {\"k\": [1.5e-3]} <|endoftext|>"
    "</s> \xff\xfe end "sv;

}  // namespace

int64_t ShardHeader::ids_begin() const { return kHeaderBytes; }
int64_t ShardHeader::weights_begin() const { return kHeaderBytes + RoundUp(tokens * width); }
int64_t ShardHeader::documents_begin() const { return weights_begin() + (weighted ? RoundUp(tokens * 4) : 0); }
int64_t ShardHeader::file_size() const { return documents_begin() + documents * 8; }

bool IsShard(std::string_view head) { return head.size() >= kHeaderBytes && head.starts_with(kMagic); }

ShardHeader ReadShardHeader(const std::string& path, std::string_view head, int64_t size) {
  const auto number = [&](int64_t at, int64_t bytes) { return LoadLittle(head.data() + at, bytes); };
  const auto count = [&](int64_t at) { return static_cast<int64_t>(number(at, 8)); };
  if (number(8, 4) != kVersion) {
    throw UserError({path, "a shard of another version", std::to_string(kVersion), std::to_string(number(8, 4)),
                     "taipan tokenize makes it again"});
  }
  ShardHeader h;
  h.width = static_cast<int64_t>(number(12, 4));
  h.tokenizer = number(16, 8);
  h.vocab_size = count(24);
  if (count(32) >= 0) h.eos = static_cast<int32_t>(count(32));
  h.tokens = count(40);
  h.documents = count(48);
  h.weighted = number(56, 8) == 1;
  h.checksum = number(64, 8);
  const bool sound = (h.width == 2 || h.width == 4) && h.tokens > 0 && h.tokens <= size && h.documents > 0 &&
                     h.documents <= h.tokens && h.vocab_size > 0 && count(32) < h.vocab_size;
  if (!sound || h.file_size() != size) {
    throw UserError({path, "the header of the shard does not fit the file: it is cut or damaged",
                     sound ? fmt::format("{} bytes", h.file_size()) : "", fmt::format("{} bytes", size)});
  }
  return h;
}

void ShardBuilder::Add(const std::vector<int32_t>& ids, const std::vector<float>& weights) {
  CHECK(!ids.empty());
  documents_.push_back(tokens());
  if (!weights.empty() && weights_.empty()) weights_.assign(static_cast<size_t>(tokens()), 1.0f);
  for (const int32_t id : ids) AppendLittle(ids_, static_cast<uint64_t>(id), header_.width);
  if (!weights.empty()) {
    weights_.insert(weights_.end(), weights.begin(), weights.end());
  } else if (!weights_.empty()) {
    weights_.resize(static_cast<size_t>(tokens()), 1.0f);
  }
}

ShardHeader ShardBuilder::Write(const std::string& path) {
  ShardHeader header = header_;
  header.tokens = tokens();
  header.documents = documents();
  header.weighted = !weights_.empty();
  ids_.resize(static_cast<size_t>(RoundUp(static_cast<int64_t>(ids_.size()))), '\0');
  std::string weights, documents;
  for (const float weight : weights_) {
    uint32_t bits;
    std::memcpy(&bits, &weight, 4);
    AppendLittle(weights, bits, 4);
  }
  weights.resize(static_cast<size_t>(RoundUp(static_cast<int64_t>(weights.size()))), '\0');
  for (const int64_t begin : documents_) AppendLittle(documents, static_cast<uint64_t>(begin), 8);
  ContentHash hash;
  for (const std::string* part : {&ids_, &weights, &documents}) {
    hash.Add(part->data(), static_cast<int64_t>(part->size()));
  }
  header.checksum = hash.Finish();
  AtomicFile file(path);
  file.Write(HeaderBytes(header));
  for (const std::string* part : {&ids_, &weights, &documents}) file.Write(*part);
  file.Commit();
  ids_.clear();
  weights_.clear();
  documents_.clear();
  return header;
}

uint64_t TokenizerDigest(const Tokenizer& tokenizer) {
  ContentHash hash;
  const auto add = [&](std::string_view bytes, char kind) {
    const auto size = static_cast<int64_t>(bytes.size());
    hash.Add(&size, sizeof(size));
    hash.Add(bytes.data(), size);
    hash.Add(&kind, 1);
  };
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto token = static_cast<int32_t>(id);
    add(tokenizer.TokenBytes(token), tokenizer.IsSpecial(token) ? 's' : tokenizer.IsAdded(token) ? 'a' : 't');
  }
  for (const int32_t id : tokenizer.Encode(kProbe)) hash.Add(&id, sizeof(id));
  return hash.Finish();
}

}  // namespace taipan
