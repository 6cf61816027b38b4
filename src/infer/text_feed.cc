#include "infer/text_feed.h"

#include <algorithm>

namespace taipan {

TextFeed::TextFeed(const Tokenizer& tokenizer, const EncodeOptions& options, Generator& generator, size_t enough)
    : generator_(generator), stream_(tokenizer, options, enough) {}

bool TextFeed::Finish(const std::string& where) {
  const bool goes_on = Feed(stream_.Finish(), /*last=*/true);
  if (skipped_ < skip_) {
    throw UserError({where, "the text is shorter than what the state has read",
                     fmt::format("{} tokens at least", skip_), std::to_string(skipped_),
                     "without --resume it is read as more of the same text"});
  }
  return goes_on;
}

// How many of the ids are skipped.
size_t TextFeed::Skip(const std::vector<int32_t>& ids) {
  const auto count = static_cast<size_t>(std::min<int64_t>(skip_ - skipped_, static_cast<int64_t>(ids.size())));
  if (count == 0) return 0;
  digest_ = DigestTokens(std::span(ids).first(count), digest_);
  skipped_ += static_cast<int64_t>(count);
  last_ = ids[count - 1];
  if (skipped_ == skip_ && digest_ != generator_.token_digest()) {
    throw UserError({"prompt", "the state has read another text", fmt::format("the same first {} tokens", skip_),
                     "others", "without --resume a text is read as more of what the state has read"});
  }
  return count;
}

// Whole pieces, counted from the sequence's start: where a text is cut then changes no bit. The token behind them
// stays, so that it can be scored with them.
bool TextFeed::Feed(std::vector<int32_t> ids, bool last) {
  tokens_ += static_cast<int64_t>(ids.size());
  for (size_t i = 0; i < ids.size() && opening_.size() < 2; ++i) opening_.push_back(ids[i]);
  waiting_.insert(waiting_.end(), ids.begin() + static_cast<std::ptrdiff_t>(Skip(ids)), ids.end());
  const auto have = static_cast<int64_t>(waiting_.size());
  if (last) return Read(waiting_.size(), std::nullopt);
  const int64_t position = generator_.state().position, piece = generator_.piece();
  const int64_t count = have > 0 ? (position + have - 1) / piece * piece - position : 0;
  if (count <= 0) return true;
  return Read(static_cast<size_t>(count), waiting_[static_cast<size_t>(count)]);
}

bool TextFeed::Read(size_t count, std::optional<int32_t> next) {
  if (count == 0) return true;
  if (next) generator_.ExpectNext(*next);
  const auto read = static_cast<size_t>(generator_.Read(std::span(waiting_).first(count)));
  if (read > 0) last_ = waiting_[read - 1];
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(read));
  return read == count;
}

}  // namespace taipan
