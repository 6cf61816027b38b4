#include "data/windows.h"

#include "base/error.h"
#include "base/rng.h"

namespace taipan {

WindowLoader::WindowLoader(const Corpus& corpus, int64_t context, int64_t batch_size, WindowOrder order, uint64_t seed)
    : corpus_(corpus), context_(context), batch_size_(batch_size), order_(order), seed_(seed) {
  CHECK_GE(context, 1);
  CHECK_GE(batch_size, 1);
  windows_ = (corpus.size() - 1) / context;
  if (windows_ < 1) {
    throw UserError({corpus.stamps().empty() ? "data" : corpus.stamps()[0].name, "the data is shorter than one context",
                     fmt::format("at least {} tokens (the context and one more)", context + 1),
                     fmt::format("{} tokens", corpus.size()), "shorten --context or add data"});
  }
  if (order == WindowOrder::kDocuments) documents_.emplace(corpus, seed);
}

int64_t WindowLoader::WindowStart(int64_t step, int64_t row) const {
  CHECK_GE(step, 0);
  CHECK(row >= 0 && row < batch_size_);
  const int64_t index = step * batch_size_ + row;
  const int64_t epoch = index / windows_;
  int64_t window = index % windows_;
  if (order_ != WindowOrder::kSequential) {
    const RandomKey key{.seed = seed_, .stream = kShuffleStream, .step = static_cast<uint32_t>(epoch)};
    window =
        static_cast<int64_t>(RandomPermutation(key, static_cast<uint64_t>(window), static_cast<uint64_t>(windows_)));
  }
  return window * context_;
}

void WindowLoader::Read(int64_t step, int64_t row, int32_t* out) const {
  const int64_t begin = WindowStart(step, row);
  if (!documents_) return corpus_.Read(begin, context_ + 1, out);
  documents_->Read((step * batch_size_ + row) / windows_, begin, context_ + 1, out);
}

}  // namespace taipan
