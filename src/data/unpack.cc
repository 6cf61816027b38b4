#include "data/unpack.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/progress.h"
#include "data/gunzip.h"
#include "data/unzstd.h"

namespace taipan {
namespace {

using std::string_view_literals::operator""sv;

constexpr size_t kPackedPiece = size_t{1} << 16;  // bytes of a packed file at a time

}  // namespace

Packing PackingOf(std::string_view head) {
  if (head.size() >= 10 && head.starts_with("\x1f\x8b\x08"sv) && (head[3] & 0xe0) == 0) return Packing::kGzip;
  return head.starts_with("\x28\xb5\x2f\xfd"sv) ? Packing::kZstd : Packing::kNone;
}

std::string NameOf(Packing packing) { return packing == Packing::kGzip ? "gzip" : "Zstandard"; }

std::string WithoutPacking(const std::string& path) {
  for (const char* end : {".gz", ".zst", ".zstd"}) {
    const std::string_view ending = end;
    if (path.size() <= ending.size()) continue;
    const bool same = std::equal(ending.rbegin(), ending.rend(), path.rbegin(),
                                 [](char a, char b) { return a == std::tolower(static_cast<unsigned char>(b)); });
    if (same) return path.substr(0, path.size() - ending.size());
  }
  return path;
}

std::unique_ptr<Unpacker> NewUnpacker(Packing packing, const std::string& path) {
  CHECK(packing != Packing::kNone);
  return packing == Packing::kGzip ? NewGunzip(path) : NewUnzstd(path);
}

void RefuseCut(Packing packing, const std::string& path, int64_t bytes) {
  throw UserError({.where = path,
                   .problem = fmt::format("the {} file is cut", NameOf(packing)),
                   .found = fmt::format("its end after {}", FormatBytes(bytes)),
                   .hint = packing == Packing::kGzip ? "gzip -t tests it" : "zstd -t tests it"});
}

std::string Unpack(const std::string& path, std::string_view packed, int64_t most) {
  const Packing packing = PackingOf(packed);
  const std::unique_ptr<Unpacker> unpacker = NewUnpacker(packing, path);
  std::string out;
  for (size_t at = 0; at < packed.size(); at += kPackedPiece) {
    unpacker->Append(packed.substr(at, kPackedPiece), out);
    if (static_cast<int64_t>(out.size()) <= most) continue;
    throw UserError({path, "the unpacked data does not fit into memory", "at most " + FormatBytes(most), "more",
                     "unpack the file: what is not packed is read piece by piece"});
  }
  if (!unpacker->AtEnd()) RefuseCut(packing, path, static_cast<int64_t>(packed.size()));
  return out;
}

std::string UnpackHead(std::string_view packed, int64_t bytes) {
  const auto most = static_cast<size_t>(bytes);
  const Packing packing = PackingOf(packed);
  std::string out;
  if (packing == Packing::kNone) return out;
  try {
    const std::unique_ptr<Unpacker> unpacker = NewUnpacker(packing, "");
    for (size_t at = 0; at < packed.size() && out.size() < most; at += kPackedPiece) {
      unpacker->Append(packed.substr(at, kPackedPiece), out);
    }
  } catch (const UserError&) {
    // what came before counts
  }
  out.resize(std::min(out.size(), most));
  return out;
}

}  // namespace taipan
