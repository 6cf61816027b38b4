#include "data/shard_folder.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"
#include "data/shard.h"

namespace taipan {
namespace {

constexpr const char* kFormat = "taipan shards 1";

// As the file has it: a column each.
struct Columns {
  std::string format = kFormat, tokenizer, tokenizer_name;
  int64_t vocab_size = 0, width = 2, shard_tokens = 0;
  std::optional<int64_t> eos;
  bool complete = false;
  int64_t next_file = 0, next_document = 0;
  std::vector<std::string> sources, source_hashes, shards, checksums;
  std::vector<double> source_bytes, tokens, documents;  // whole numbers below 2^53
};
void VisitFields(Columns& c, const FieldVisitor& visit) {
  visit({.name = "format", .required = true, .choices = {kFormat}}, &c.format);
  visit({.name = "tokenizer", .required = true}, &c.tokenizer);
  visit({.name = "tokenizer_name"}, &c.tokenizer_name);
  visit({.name = "vocab_size", .required = true, .range = AtLeast(1)}, &c.vocab_size);
  visit({.name = "id_bytes", .required = true, .range = Between(2, 4)}, &c.width);
  visit({.name = "shard_tokens", .required = true, .range = AtLeast(1)}, &c.shard_tokens);
  visit({.name = "eos"}, &c.eos);
  visit({.name = "complete", .required = true}, &c.complete);
  visit({.name = "next_source", .required = true, .range = AtLeast(0)}, &c.next_file);
  visit({.name = "next_document", .required = true, .range = AtLeast(0)}, &c.next_document);
  visit({.name = "sources", .required = true}, &c.sources);
  visit({.name = "source_bytes", .required = true}, &c.source_bytes);
  visit({.name = "source_hashes", .required = true}, &c.source_hashes);
  visit({.name = "shards", .required = true}, &c.shards);
  visit({.name = "tokens", .required = true}, &c.tokens);
  visit({.name = "documents", .required = true}, &c.documents);
  visit({.name = "checksums", .required = true}, &c.checksums);
}

std::string PathOf(const std::string& folder) { return folder + "/manifest.json"; }

}  // namespace

int64_t ShardManifest::tokens() const {
  int64_t sum = 0;
  for (const Shard& shard : shards) sum += shard.tokens;
  return sum;
}

int64_t ShardManifest::documents() const {
  int64_t sum = 0;
  for (const Shard& shard : shards) sum += shard.documents;
  return sum;
}

bool IsShardFolder(const std::string& path) {
  return IsDirectory(path) && PathExists(PathOf(path)) &&
         ReadFile(PathOf(path)).find("\"taipan shards") != std::string::npos;
}

ShardManifest ReadManifest(const std::string& folder) {
  Columns c;
  ReadFields(ParseJson(ReadFile(PathOf(folder)), PathOf(folder)), PathOf(folder), c);
  if (c.sources.size() != c.source_bytes.size() || c.sources.size() != c.source_hashes.size() ||
      c.shards.size() != c.tokens.size() || c.shards.size() != c.documents.size() ||
      c.shards.size() != c.checksums.size()) {
    throw UserError(PathOf(folder), "not a manifest of shards: lists of different lengths");
  }
  ShardManifest m;
  m.tokenizer = c.tokenizer;
  m.tokenizer_name = c.tokenizer_name;
  m.vocab_size = c.vocab_size;
  m.width = c.width;
  m.shard_tokens = c.shard_tokens;
  m.eos = c.eos;
  m.complete = c.complete;
  m.next = {c.next_file, c.next_document};
  for (size_t i = 0; i < c.sources.size(); ++i) {
    m.sources.push_back({c.sources[i], static_cast<int64_t>(c.source_bytes[i]),
                         std::strtoull(c.source_hashes[i].c_str(), nullptr, 16)});
  }
  for (size_t i = 0; i < c.shards.size(); ++i) {
    m.shards.push_back(
        {c.shards[i], static_cast<int64_t>(c.tokens[i]), static_cast<int64_t>(c.documents[i]), c.checksums[i]});
  }
  return m;
}

void WriteManifest(const ShardManifest& m, const std::string& folder) {
  Columns c;
  c.tokenizer = m.tokenizer;
  c.tokenizer_name = m.tokenizer_name;
  c.vocab_size = m.vocab_size;
  c.width = m.width;
  c.shard_tokens = m.shard_tokens;
  c.eos = m.eos;
  c.complete = m.complete;
  c.next_file = m.next.file;
  c.next_document = m.next.document;
  for (const FileStamp& stamp : m.sources) {
    c.sources.push_back(stamp.name);
    c.source_bytes.push_back(static_cast<double>(stamp.bytes));
    c.source_hashes.push_back(fmt::format("{:016x}", stamp.hash));
  }
  for (const ShardManifest::Shard& shard : m.shards) {
    c.shards.push_back(shard.file);
    c.tokens.push_back(static_cast<double>(shard.tokens));
    c.documents.push_back(static_cast<double>(shard.documents));
    c.checksums.push_back(shard.checksum);
  }
  WriteFileAtomically(PathOf(folder), WriteFields(c));
}

namespace {

// Another shard under this name may be whole and made by the same tokenizer.
void CheckIsTheOne(const std::string& path, const ShardManifest::Shard& shard) {
  std::string head(256, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(file.gcount()));
  std::string found = "no shard";
  if (IsShard(head)) {
    const auto size = static_cast<int64_t>(std::filesystem::file_size(path));
    found = fmt::format("checksum {:016x}", ReadShardHeader(path, head, size).checksum);
  }
  const std::string expected = "checksum " + shard.checksum;
  if (found == expected) return;
  throw UserError({path, "not the shard that the manifest names", expected, found, "taipan tokenize makes it again"});
}

}  // namespace

std::vector<std::string> ShardsOf(const std::string& folder) {
  const ShardManifest manifest = ReadManifest(folder);
  if (!manifest.complete) {
    throw UserError({.where = folder,
                     .problem = "the shards are not complete: taipan tokenize was stopped",
                     .hint = "the same taipan tokenize command goes on"});
  }
  std::vector<std::string> files;
  for (const ShardManifest::Shard& shard : manifest.shards) {
    files.push_back(folder + "/" + shard.file);
    if (!PathExists(files.back())) throw UserError(files.back(), "the manifest names this shard and it is missing");
    CheckIsTheOne(files.back(), shard);
  }
  return files;
}

}  // namespace taipan
