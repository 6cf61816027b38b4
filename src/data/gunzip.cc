#include "data/gunzip.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>

#include "base/error.h"
#include "base/progress.h"

namespace taipan {
namespace {

enum class Ending { kComplete, kCut, kDamaged, kFull };

// The content of the members, until it has `most` bytes.
Ending InflateMembers(std::string_view packed, int64_t most, std::string& out) {
  constexpr size_t kPiece = size_t{1} << 20;
  z_stream stream = {};
  size_t have = 0;                                 // bytes of out
  CHECK_EQ(inflateInit2(&stream, 15 + 16), Z_OK);  // the largest window, a gzip header
  struct End {
    z_stream& stream;
    std::string& out;
    size_t& have;
    ~End() {
      inflateEnd(&stream);
      out.resize(have);
    }
  } end{stream, out, have};
  size_t taken = 0;
  for (;;) {
    if (have == static_cast<size_t>(most)) return Ending::kFull;
    if (have == out.size()) out.resize(std::min(have + kPiece, static_cast<size_t>(most)));
    const size_t room = out.size() - have;
    const size_t given = std::min(packed.size() - taken, size_t{1} << 30);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data() + taken));
    stream.avail_in = static_cast<uInt>(given);
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + have);
    stream.avail_out = static_cast<uInt>(room);
    const int status = inflate(&stream, Z_NO_FLUSH);
    taken += given - stream.avail_in;
    have += room - stream.avail_out;
    if (status == Z_STREAM_END) {
      // Another member may follow; gzip itself overlooks zeros after the last one.
      taken = std::min(packed.find_first_not_of('\0', taken), packed.size());
      if (taken == packed.size()) return Ending::kComplete;
      CHECK_EQ(inflateReset(&stream), Z_OK);
    } else if (status == Z_BUF_ERROR || (status == Z_OK && taken == packed.size() && stream.avail_out > 0)) {
      return Ending::kCut;
    } else if (status != Z_OK) {
      return Ending::kDamaged;
    }
  }
}

}  // namespace

std::string Gunzip(const std::string& path, std::string_view packed, int64_t most) {
  std::string out;
  switch (InflateMembers(packed, most, out)) {
    case Ending::kComplete:
      return out;
    case Ending::kCut:
      throw UserError({.where = path,
                       .problem = "the gzip file is cut",
                       .found = fmt::format("its end after {}", FormatBytes(packed.size())),
                       .hint = "gzip -t tests it"});
    case Ending::kDamaged:
      throw UserError({.where = path, .problem = "the gzip file is damaged", .hint = "gzip -t tests it"});
    case Ending::kFull:
      break;
  }
  throw UserError({path, "the unpacked data does not fit into memory", "at most " + FormatBytes(most), "more",
                   "unpack the file: what is not packed is read piece by piece"});
}

std::string GunzipHead(std::string_view packed, int64_t bytes) {
  std::string out;
  InflateMembers(packed, bytes, out);
  return out;
}

}  // namespace taipan
