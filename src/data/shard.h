#pragma once
// Files of token ids with everything that their reader needs to know (docs/data.md has the layout): which tokenizer
// made them, where documents begin, a checksum.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace taipan {

struct ShardHeader {
  int64_t width = 2;           // bytes an id
  uint64_t tokenizer = 0;      // TokenizerDigest
  int64_t vocab_size = 0;      // of that tokenizer
  std::optional<int32_t> eos;  // behind every document
  int64_t tokens = 0, documents = 0;
  bool weighted = false;  // a weight of the loss a token
  uint64_t checksum = 0;  // ContentHash of everything behind the header

  int64_t ids_begin() const;
  int64_t weights_begin() const;    // f32
  int64_t documents_begin() const;  // the first token of each, 64 bits
  int64_t file_size() const;
};

bool IsShard(std::string_view head);
// UserError naming the path for another version, and for a header that does not fit the size of the file.
ShardHeader ReadShardHeader(const std::string& path, std::string_view head, int64_t size);

// Documents that are collected to become a shard.
class ShardBuilder {
 public:
  // header: width, tokenizer, vocab_size and eos count.
  explicit ShardBuilder(const ShardHeader& header) : header_(header) {}
  // weights: a token each, or empty: all 1.
  void Add(const std::vector<int32_t>& ids, const std::vector<float>& weights);
  int64_t tokens() const { return static_cast<int64_t>(ids_.size()) / header_.width; }
  int64_t documents() const { return static_cast<int64_t>(documents_.size()); }
  // Writes them and begins anew; the header that was written.
  ShardHeader Write(const std::string& path);

 private:
  ShardHeader header_;
  std::string ids_;
  std::vector<float> weights_;  // empty: all 1
  std::vector<int64_t> documents_;
};

// Of what a tokenizer does, not of its files: the bytes and the kind of every token, and the ids of a text with some of
// everything.
uint64_t TokenizerDigest(const Tokenizer& tokenizer);

}  // namespace taipan
