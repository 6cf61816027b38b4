#pragma once
// A text of any length for a generator: encoded as it comes, read in whole pieces.

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "infer/generator.h"
#include "text/tokenizer.h"

namespace taipan {

class TextFeed {
 public:
  // Both must outlive it. enough: bytes before some are encoded.
  TextFeed(const Tokenizer& tokenizer, const EncodeOptions& options, Generator& generator,
           size_t enough = size_t{1} << 14);

  // The text is the whole of which the generator has read the beginning: its tokens are skipped, and compared by their
  // digest. Before the first Append.
  void SkipRead() { skip_ = generator_.state().position; }
  // False once the generator was told to stop.
  bool Append(std::string_view bytes) { return Feed(stream_.Append(bytes), /*last=*/false); }
  // UserError naming `where` where not all of what is to be skipped has come.
  bool Finish(const std::string& where);

  int64_t tokens() const { return tokens_; }                     // of the text so far, those that were skipped too
  std::optional<int32_t> last() const { return last_; }          // that was read or skipped
  std::span<const int32_t> opening() const { return opening_; }  // its first two

 private:
  bool Feed(std::vector<int32_t> ids, bool last);
  size_t Skip(const std::vector<int32_t>& ids);
  bool Read(size_t count, std::optional<int32_t> next);

  Generator& generator_;
  EncodeStream stream_;
  std::vector<int32_t> waiting_, opening_;
  std::optional<int32_t> last_;
  int64_t tokens_ = 0, skip_ = 0, skipped_ = 0;
  uint64_t digest_ = kNoTokensDigest;
};

}  // namespace taipan
