#include "data/file_kind.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/token_header.h"
#include "data/unpack.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

using std::string_view_literals::operator""sv;

struct Signature {
  const char* name;
  std::string_view bytes;       // at `offset`
  std::string_view extensions;  // that promise this kind: ".a .b "
  const char* hint = "";
  size_t offset = 0;
  bool of_text = false;  // the bytes are found in files that are text all through, too
};

const char* const kUnpack = "unpack it first";
const char* const kAsLines = "write its texts as JSONL, {\"text\": \"...\"} a line";

// At least four bytes each, so that ids which begin a file of tokens do not look like one by accident.
const Signature kSignatures[] = {
    {"an xz archive",
     "\xfd"
     "7zXZ\0"sv,
     ".xz ", "unpack it with xz -d"},
    {"a bzip2 archive", "1AY&SY"sv, ".bz2 ", "unpack it with bzip2 -d", 4},
    {"an LZ4 archive", "\x04\x22\x4d\x18"sv, ".lz4 ", "unpack it with lz4 -d"},
    {"a zip archive (or what is made of one: .npz, .pt, .docx)", "PK\x03\x04"sv,
     ".zip .npz .pt .pth .ckpt .docx .epub ", kUnpack},
    {"an empty zip archive", "PK\x05\x06"sv, ""},
    {"a 7z archive", "7z\xbc\xaf\x27\x1c"sv, ".7z ", kUnpack},
    {"a RAR archive", "Rar!\x1a\x07"sv, ".rar ", kUnpack},
    {"a tar archive", "ustar"sv, ".tar .tgz ", "unpack it with tar -x", 257},
    {"a Parquet file", "PAR1"sv, ".parquet ", kAsLines},
    {"an Arrow file", "ARROW1"sv, ".arrow .feather ", kAsLines},
    {"a Feather file", "FEA1"sv, "", kAsLines},
    {"an ORC file", "ORC\x0a"sv, ".orc ", kAsLines},
    {"an Avro file", "Obj\x01"sv, ".avro ", kAsLines},
    {"an HDF5 file", "\x89HDF\r\n\x1a\n"sv, ".h5 .hdf5 ", kAsLines},
    {"an SQLite database", "SQLite format 3\0"sv, ".sqlite .sqlite3 .db ", kAsLines},
    {"a Megatron index", "MMIDIDX\0"sv, "", "write the ids as .u16 or .u32"},
    {"a PNG image", "\x89PNG\r\n\x1a\n"sv, ".png "},
    {"a JPEG image", "\xff\xd8\xff\xe0"sv, ".jpg .jpeg "},
    {"a JPEG image", "\xff\xd8\xff\xe1"sv, ""},
    {"a JPEG image", "\xff\xd8\xff\xdb"sv, ""},
    {"a GIF image", "GIF87a"sv, ".gif "},
    {"a GIF image", "GIF89a"sv, ""},
    {"a TIFF image", "II*\0"sv, ".tif .tiff "},
    {"a RIFF file (WAV, AVI or WebP)", "RIFF"sv, ".wav .avi .webp "},
    {"an Ogg file", "OggS"sv, ".ogg .opus "},
    {"a FLAC file", "fLaC"sv, ".flac "},
    {"an MP3 file", "ID3\x03"sv, ".mp3 "},
    {"an MP4 file", "ftyp"sv, ".mp4 .m4a .mov ", "", 4},
    {"a PDF document", "%PDF-"sv, ".pdf ", "pdftotext writes its text", 0, true},
    {"a document of an old Office program", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"sv, ".xls .ppt "},
    {"an ELF program or library",
     "\x7f"
     "ELF"sv,
     ".so .o .elf "},
    {"a WebAssembly module", "\0asm"sv, ".wasm "},
    {"Java byte code", "\xca\xfe\xba\xbe"sv, ".class "},
    {"a GGUF model", "GGUF"sv, ".gguf "},
    {"UTF-32 text", "\xff\xfe\0\0"sv, "", "iconv -f UTF-32 -t UTF-8 converts it"},
    {"UTF-32 text", "\0\0\xfe\xff"sv, "", "iconv -f UTF-32 -t UTF-8 converts it"},
    {"a Git LFS pointer, which only names the data", "version https://git-lfs.github.com/spec/"sv, "",
     "git lfs pull fetches the data", 0, true},
};

std::string ExtensionOf(const std::string& path) {
  std::string extension = std::filesystem::path(path).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension;
}

// Bytes an id by the file's name, -1: .bin, which the content decides, 0: no token file.
int64_t NamedWidth(const std::string& extension) {
  if (extension == ".u8") return 1;
  if (extension == ".u16") return 2;
  if (extension == ".u32") return 4;
  return extension == ".bin" ? -1 : 0;
}

bool IsPlainText(std::string_view head) {
  const auto is_text = [](unsigned char c) { return c >= 32 || (c >= 9 && c <= 13); };
  return ValidUtf8Size(head) + 3 >= head.size() && std::all_of(head.begin(), head.end(), is_text);
}

ForeignFile FindSignature(const std::string& extension, std::string_view head) {
  const bool text = IsPlainText(head);  // which may begin with the letters RIFF or GGUF
  for (const Signature& s : kSignatures) {
    if (text && !s.of_text) continue;
    if (head.size() >= s.offset && head.substr(s.offset).starts_with(s.bytes)) return {s.name, s.hint};
  }
  if (head.size() > 9 && head.substr(8, 2) == "{\"" && LoadLittle(head.data(), 8) < uint64_t{1} << 32) {
    return {"a safetensors file", ""};
  }
  for (const Signature& s : kSignatures) {
    if (extension.empty() || s.extensions.find(extension + " ") == std::string_view::npos) continue;
    if (extension == ".arrow" && head.starts_with("\xff\xff\xff\xff"sv)) return {"an Arrow stream", kAsLines};
    return {fmt::format("the name promises {}, the content is none", s.name), s.hint};
  }
  if (extension == ".npy") {
    return {"the name promises a NumPy array, the content is none", ""};
  }
  return {};
}

// Kinds without a signature that a text could not begin with.
ForeignFile FindPromise(const std::string& extension) {
  static const std::pair<const char*, const char*> kNames[] = {{".pkl", "a Python pickle"},
                                                               {".pickle", "a Python pickle"},
                                                               {".safetensors", "a safetensors file"},
                                                               {".exe", "a program"},
                                                               {".dll", "a library"}};
  for (const auto& [end, name] : kNames) {
    if (extension == end) return {fmt::format("the name promises {}, the content is text", name), ""};
  }
  return {};
}

// Signatures of two bytes and statistics: for files whose name does not promise raw numbers.
ForeignFile FindBinary(std::string_view head) {
  const char* const convert = "iconv -f UTF-16 -t UTF-8 converts it";
  if (head.starts_with("\xff\xfe"sv) || head.starts_with("\xfe\xff"sv)) return {"UTF-16 text", convert};
  if (head.size() > 3 && head[0] == '\x80' && head[1] >= 2 && head[1] <= 5) return {"a Python pickle", kAsLines};
  std::array<size_t, 2> zeros = {};
  size_t controls = 0;
  for (size_t i = 0; i < head.size(); ++i) {
    const auto byte = static_cast<unsigned char>(head[i]);
    zeros[i % 2] += byte == 0;
    controls += byte < 32 && !(byte >= 7 && byte <= 13) && byte != 27;
  }
  if (zeros[0] + zeros[1] > 0) {
    const bool every_second = (zeros[0] == 0) != (zeros[1] == 0) && (zeros[0] + zeros[1]) * 4 > head.size();
    if (every_second) return {"UTF-16 text without a byte order mark, or 16-bit tokens", convert};
    return {"binary data (it holds NUL bytes)", ""};
  }
  // Random bytes have one control character in ten; text in no encoding has more than a few.
  if (controls * 50 > head.size() && ValidUtf8Size(head) + 3 < head.size()) return {"binary data", ""};
  return {};
}

constexpr std::string_view kBlanks = " \t\r\n";

std::string_view WithoutBlanks(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  return text;
}

// How a text that opens with { goes on.
struct FirstObject {
  bool whole_line = false;  // an object ends where the first line does, or the line is longer than what is seen
  bool has_text = false;    // a string "text" in it, or a list "messages"
  bool more = false;        // another line follows
};
FirstObject ReadFirstObject(std::string_view text) {
  FirstObject first;
  const size_t end = std::min(text.find('\n'), text.size());
  if (end == text.size() && static_cast<int64_t>(text.size()) > kHeadBytes / 2) {
    const std::string_view inside = WithoutBlanks(text.substr(1));
    const bool has_text = inside.starts_with("\"text\"") || inside.starts_with("\"messages\"");
    return {.whole_line = true, .has_text = has_text, .more = true};
  }
  const auto json = nlohmann::json::parse(text.substr(0, end), nullptr, /*allow_exceptions=*/false);
  first.whole_line = json.is_object();
  first.has_text = json.is_object() && ((json.contains("text") && json["text"].is_string()) ||
                                        (json.contains("messages") && json["messages"].is_array()));
  first.more = text.find_first_not_of(kBlanks, end) != std::string_view::npos;
  return first;
}

// A .json that is neither a list nor lines.
ForeignFile FindJsonObject(std::string_view head) {
  const std::string_view text = WithoutBlanks(head);
  if (text.starts_with('[')) return {};
  if (!text.starts_with('{')) return {"the name promises JSON, the content is none", ""};
  const FirstObject first = ReadFirstObject(text);
  if (first.whole_line && (first.more || first.has_text)) return {};
  return {"a single JSON object", kAsLines};
}

// Objects with a text are JSON, whatever the file is called; a name decides about other objects.
DataFormat RecogniseText(const std::string& extension, std::string_view head) {
  const DataFormat lines{.kind = DataKind::kJsonLines, .name = "JSONL"};
  const DataFormat list{.kind = DataKind::kJsonList, .name = "JSON list"};
  const std::string_view text = WithoutBlanks(head);
  const bool named_lines = extension == ".jsonl" || extension == ".ndjson", named = named_lines || extension == ".json";
  if (text.starts_with('[')) {
    const std::string_view first = WithoutBlanks(text.substr(1));
    return named || (first.starts_with('{') && first.find("\"text\"") != std::string_view::npos) ? list : DataFormat{};
  }
  return named || (text.starts_with('{') && ReadFirstObject(text).has_text) ? lines : DataFormat{};
}

// Ids of more bits than the name says, or than nanoGPT's .bin has, show by the zeros of their upper halves: the widest
// numbers that are all below the vocabulary are the ids.
int64_t WidthOfIds(std::string_view head, int64_t size, int64_t vocab_size) {
  for (int64_t width : {8, 4}) {
    const auto count = static_cast<int64_t>(head.size()) / width;
    if (size % width != 0 || count < 8) continue;
    bool below = true;
    uint64_t any = 0;
    for (int64_t i = 0; i < count && below; ++i) {
      const uint64_t id = LoadLittle(head.data() + i * width, width);
      below = id < static_cast<uint64_t>(vocab_size);
      any |= id;
    }
    if (below && any != 0) return width;
  }
  return 2;
}

DataFormat RecogniseTokens(const std::string& path, int64_t width, std::string_view head, int64_t size,
                           int64_t vocab_size) {
  constexpr size_t kEnough = 64;  // bytes: fewer may be text by accident
  if (head.size() >= kEnough && IsPlainText(head)) {
    throw UserError(
        {path, "looks like text", "token ids, as the name says", "text", "text may have any other name, such as .txt"});
  }
  const int64_t found = vocab_size > 0 ? WidthOfIds(head, size, vocab_size) : 2;
  if (width > 0 && found > width) {
    throw UserError({path, fmt::format("looks like {}-bit token ids", found * 8),
                     fmt::format("{}-bit token ids, as the name says", width * 8),
                     "numbers of which every second one is small or 0",
                     "call the file .bin, which may hold all widths"});
  }
  if (width < 0) width = found;
  if (size % width != 0) {
    throw UserError({path, fmt::format("not a file of {}-bit tokens", width * 8),
                     fmt::format("a multiple of {} bytes", width), fmt::format("{} bytes", size)});
  }
  return {.kind = DataKind::kTokens, .name = fmt::format("{}-bit tokens", width * 8), .width = width};
}

[[noreturn]] void Refuse(const std::string& path, const ForeignFile& foreign, const std::string& expected) {
  const bool binary = foreign.name.starts_with("binary");
  throw UserError(
      {.where = path,
       .problem = (foreign.name.starts_with("the name") ? "" : "looks like ") + foreign.name,
       .expected = expected,
       .hint = binary ? "raw bytes as they are count as data under a name that ends in .u8" : foreign.hint});
}

}  // namespace

uint64_t LoadLittle(const char* p, int64_t bytes) {
  uint64_t value = 0;
  for (int64_t i = 0; i < bytes; ++i) value |= static_cast<uint64_t>(static_cast<unsigned char>(p[i])) << (8 * i);
  return value;
}

ForeignFile FindForeign(const std::string& path, std::string_view head) {
  const std::string extension = ExtensionOf(path);
  const int64_t width = NamedWidth(extension);
  if (width == 1 || PackingOf(head) != Packing::kNone || IsNumpyArray(head) || IsLlmcShard(head) || IsShard(head)) {
    return {};
  }
  if (extension == ".gz") return {"the name promises a gzip file, the content is none", ""};
  if (extension == ".zst" || extension == ".zstd")
    return {"the name promises a Zstandard file, the content is none", ""};
  ForeignFile found = FindSignature(extension, head);
  if (found.name.empty() && width == 0) found = FindBinary(head);
  if (found.name.empty() && extension == ".json") found = FindJsonObject(head);
  if (found.name.empty()) found = FindPromise(extension);
  return found;
}

void RefuseForeign(const std::string& path, const ForeignFile& foreign) {
  Refuse(path, foreign, "UTF-8 text, JSONL, gzip or Zstandard of these, or token ids (.u8, .u16, .u32, .bin, .npy)");
}

std::string AsText(const std::string& path, std::string content) {
  if (ExtensionOf(path) == ".u8") return content;
  if (PackingOf(content) != Packing::kNone) content = Unpack(path, content, std::numeric_limits<int64_t>::max());
  const std::string_view head = std::string_view(content).substr(0, static_cast<size_t>(kHeadBytes));
  ForeignFile foreign =
      PackingOf(head) != Packing::kNone ? ForeignFile{"a packed file in another", kUnpack} : FindForeign("", head);
  if (IsNumpyArray(head) || IsLlmcShard(head) || IsShard(head)) foreign = {"a file of token ids", ""};
  if (!foreign.name.empty()) Refuse(path, foreign, "UTF-8 text");
  return content;
}

DataFormat RecogniseData(const std::string& path, std::string_view head, int64_t size, int64_t vocab_size) {
  const std::string extension = ExtensionOf(path);
  const int64_t width = NamedWidth(extension);
  if (width == 1) return {.kind = DataKind::kTokens, .name = "8-bit tokens"};
  if (const Packing packing = PackingOf(head); packing != Packing::kNone) {
    return {.kind = DataKind::kPacked, .name = NameOf(packing)};
  }
  if (IsNumpyArray(head)) return ReadNumpyHeader(path, head, size);
  if (IsLlmcShard(head)) return ReadLlmcHeader(path, head, size);
  if (IsShard(head)) {
    const ShardHeader header = ReadShardHeader(path, head, size);
    return {.kind = DataKind::kTokens,
            .name = "shard",
            .offset = header.ids_begin(),
            .width = header.width,
            .shard = header};
  }
  if (const ForeignFile foreign = FindForeign(path, head); !foreign.name.empty()) RefuseForeign(path, foreign);
  return width != 0 ? RecogniseTokens(path, width, head, size, vocab_size) : RecogniseText(extension, head);
}

}  // namespace taipan
