#pragma once
// Headers of files of token ids: NumPy arrays and the shards of llm.c.

#include "data/file_kind.h"

namespace taipan {

bool IsNumpyArray(std::string_view head);
bool IsLlmcShard(std::string_view head);  // the two magic numbers of ids, 16 and 32 bits

// size: of the whole file. UserError naming the path for a header of something else than ids, or that does not fit the
// size.
DataFormat ReadNumpyHeader(const std::string& path, std::string_view head, int64_t size);
DataFormat ReadLlmcHeader(const std::string& path, std::string_view head, int64_t size);

}  // namespace taipan
