#pragma once
// Files that are packed: gzip and Zstandard, found by their first bytes.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace taipan {

enum class Packing { kNone, kGzip, kZstd };
Packing PackingOf(std::string_view head);
std::string NameOf(Packing packing);  // for people: "gzip", "Zstandard"
// The name without the ending that says how the file is packed.
std::string WithoutPacking(const std::string& path);

// A packed file piece by piece, its members one after the other; checksums are verified.
class Unpacker {
 public:
  virtual ~Unpacker() = default;
  // Appends what the next bytes of the file give. UserError naming the file for damaged ones.
  virtual void Append(std::string_view packed, std::string& out) = 0;
  // Whether the file may end here.
  virtual bool AtEnd() const = 0;
};
std::unique_ptr<Unpacker> NewUnpacker(Packing packing, const std::string& path);
[[noreturn]] void RefuseCut(Packing packing, const std::string& path, int64_t bytes);

// All of a packed file's content. UserError naming the path for damaged or cut files, and where more than `most` bytes
// would come out.
std::string Unpack(const std::string& path, std::string_view packed, int64_t most);
// The first bytes of the content, at most `bytes`, of the first bytes of a file.
std::string UnpackHead(std::string_view packed, int64_t bytes);

}  // namespace taipan
