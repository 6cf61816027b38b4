#pragma once
// A folder of shards and its manifest.json, which says what they are, what they were made of, and how far that is.

#include <optional>
#include <string>
#include <vector>

#include "data/data_file.h"
#include "data/document_reader.h"

namespace taipan {

struct ShardManifest {
  std::string tokenizer;       // digest, 16 hexadecimal digits
  std::string tokenizer_name;  // for people
  int64_t vocab_size = 0, width = 2, shard_tokens = 0;
  std::optional<int64_t> eos;
  bool complete = false;
  std::vector<FileStamp> sources;
  DocumentPosition next;  // what the shards do not hold yet
  struct Shard {
    std::string file;
    int64_t tokens = 0, documents = 0;
    std::string checksum;
  };
  std::vector<Shard> shards;

  int64_t tokens() const;
  int64_t documents() const;
};

bool IsShardFolder(const std::string& path);
ShardManifest ReadManifest(const std::string& folder);
void WriteManifest(const ShardManifest& manifest, const std::string& folder);

// The shards in their order. UserError for a folder that is not complete, and for a shard that is missing.
std::vector<std::string> ShardsOf(const std::string& folder);

}  // namespace taipan
