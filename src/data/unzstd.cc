#include "data/unzstd.h"

#include <zstd.h>

#include "base/error.h"

namespace taipan {
namespace {

constexpr size_t kUnzstdPiece = size_t{1} << 18;  // bytes of output at a time

class Unzstd : public Unpacker {
 public:
  explicit Unzstd(const std::string& path) : path_(path), stream_(ZSTD_createDStream()) {
    CHECK(stream_ != nullptr);
    ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, ZSTD_dParam_getBounds(ZSTD_d_windowLogMax).upperBound);
  }
  ~Unzstd() override { ZSTD_freeDStream(stream_); }
  Unzstd(const Unzstd&) = delete;
  Unzstd& operator=(const Unzstd&) = delete;

  void Append(std::string_view packed, std::string& out) override {
    ZSTD_inBuffer in{packed.data(), packed.size(), 0};
    bool full = false;  // more output may be waiting
    while (in.pos < in.size || full) {
      ZSTD_outBuffer room{buffer_.data(), kUnzstdPiece, 0};
      const size_t left = ZSTD_decompressStream(stream_, &room, &in);
      out.append(buffer_.data(), room.pos);
      if (ZSTD_isError(left)) {
        throw UserError({.where = path_,
                         .problem = "the Zstandard file is damaged",
                         .found = ZSTD_getErrorName(left),
                         .hint = "zstd -t tests it"});
      }
      at_end_ = left == 0;
      full = !at_end_ && room.pos == room.size;
    }
  }
  bool AtEnd() const override { return at_end_; }

 private:
  const std::string path_;
  ZSTD_DStream* const stream_;
  std::string buffer_ = std::string(kUnzstdPiece, '\0');
  bool at_end_ = false;  // of a frame; another may follow
};

}  // namespace

std::unique_ptr<Unpacker> NewUnzstd(const std::string& path) { return std::make_unique<Unzstd>(path); }

}  // namespace taipan
