#pragma once
// Text to shards of token ids, in parallel; what was stopped goes on.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/shard_folder.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace taipan {

struct TokenizeRequest {
  std::vector<std::string> data;  // as FindData takes them
  const Tokenizer* tokenizer = nullptr;
  std::string tokenizer_name;                                        // for people
  std::vector<std::pair<std::string, std::string>> tokenizer_files;  // name and content, kept beside the shards
  std::optional<int32_t> eos;
  const ChatTemplate* chat = nullptr;       // of "messages"
  int64_t shard_tokens = int64_t{1} << 26;  // a shard ends with the document that would exceed them
  std::string out;
};

// Writes the shards and their manifest into the folder, or goes on where the same request was stopped; a complete
// folder is left as it is. The bytes do not depend on threads or on stops. UserError for bad input, and for a folder
// that holds something else.
ShardManifest TokenizeData(const TokenizeRequest& request);

}  // namespace taipan
