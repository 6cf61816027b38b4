#include "data/gunzip.h"

#include <zlib.h>

#include <algorithm>

#include "base/error.h"

namespace taipan {
namespace {

constexpr size_t kGunzipPiece = size_t{1} << 18;  // bytes of output at a time

class Gunzip : public Unpacker {
 public:
  explicit Gunzip(const std::string& path) : path_(path) {
    CHECK_EQ(inflateInit2(&stream_, 15 + 16), Z_OK);  // the largest window, a gzip header
  }
  ~Gunzip() override { inflateEnd(&stream_); }
  Gunzip(const Gunzip&) = delete;
  Gunzip& operator=(const Gunzip&) = delete;

  void Append(std::string_view packed, std::string& out) override {
    while (!packed.empty()) {
      if (at_end_) {
        // Another member may follow; gzip itself overlooks zeros after the last one.
        packed.remove_prefix(std::min(packed.find_first_not_of('\0'), packed.size()));
        if (packed.empty()) return;
        CHECK_EQ(inflateReset(&stream_), Z_OK);
        at_end_ = false;
      }
      packed.remove_prefix(Inflate(packed.substr(0, size_t{1} << 30), out));
    }
  }
  bool AtEnd() const override { return at_end_; }

 private:
  // Until the member ends or the bytes are used up; how many were.
  size_t Inflate(std::string_view packed, std::string& out) {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream_.avail_in = static_cast<uInt>(packed.size());
    for (;;) {
      stream_.next_out = reinterpret_cast<Bytef*>(buffer_.data());
      stream_.avail_out = static_cast<uInt>(kGunzipPiece);
      const int status = inflate(&stream_, Z_NO_FLUSH);
      out.append(buffer_.data(), kGunzipPiece - stream_.avail_out);
      at_end_ = status == Z_STREAM_END;
      if (!at_end_ && status != Z_OK && status != Z_BUF_ERROR) {
        throw UserError({.where = path_, .problem = "the gzip file is damaged", .hint = "gzip -t tests it"});
      }
      if (at_end_ || stream_.avail_out > 0) return packed.size() - stream_.avail_in;
    }
  }

  const std::string path_;
  z_stream stream_ = {};
  std::string buffer_ = std::string(kGunzipPiece, '\0');
  bool at_end_ = false;
};

}  // namespace

std::unique_ptr<Unpacker> NewGunzip(const std::string& path) { return std::make_unique<Gunzip>(path); }

}  // namespace taipan
