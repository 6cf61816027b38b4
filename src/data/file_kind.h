#pragma once
// What a data file holds, found by its first bytes, its header and its content; its name decides only what these leave
// open. docs/data.md has the rules in words.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "data/shard.h"

namespace taipan {

enum class DataKind { kText, kJsonLines, kJsonList, kTokens, kPacked };

struct DataFormat {
  DataKind kind = DataKind::kText;
  std::string name = "text";  // for people: "text", "JSONL", "16-bit tokens"
  // Of tokens: little-endian numbers of `width` bytes from byte `offset` to the end.
  int64_t offset = 0, width = 1;
  bool is_signed = false;
  std::optional<ShardHeader> shard = {};  // where the ids end before the file does

  bool is_text() const { return kind != DataKind::kTokens && kind != DataKind::kPacked; }
};

// Bytes that the functions below look at.
inline constexpr int64_t kHeadBytes = int64_t{1} << 16;

// What is no training data, by its name: "a PNG image". "": the bytes may be data.
struct ForeignFile {
  std::string name, hint;
};
// head: the first kHeadBytes of the file, or all where it is shorter.
ForeignFile FindForeign(const std::string& path, std::string_view head);

// size: bytes of the whole file. vocab_size: of the model, or 0 where it is not known; tells 16-, 32- and 64-bit ids
// in a .bin apart. UserError naming the file for what FindForeign finds, for headers that do not fit the file, and for
// content that is not what the name promises.
DataFormat RecogniseData(const std::string& path, std::string_view head, int64_t size, int64_t vocab_size);

// The refusal of a file that is no data.
[[noreturn]] void RefuseForeign(const std::string& path, const ForeignFile& foreign);

// The text of a file or a stream that a command reads whole; what is packed is unpacked. UserError for what is no text
// by its first bytes; under a name that ends in .u8 everything is.
std::string AsText(const std::string& path, std::string content);

// Little-endian whatever the machine, from any address. bytes <= 8.
uint64_t LoadLittle(const char* p, int64_t bytes);

}  // namespace taipan
