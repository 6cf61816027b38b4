#include "data/document_order.h"

#include <algorithm>

#include "base/error.h"
#include "base/rng.h"

namespace taipan {
namespace {

constexpr int64_t kGroup = 256;  // documents

int64_t Permuted(const RandomKey& key, int64_t i, int64_t n) {
  return static_cast<int64_t>(RandomPermutation(key, static_cast<uint64_t>(i), static_cast<uint64_t>(n)));
}

}  // namespace

DocumentOrder::DocumentOrder(const Corpus& corpus, uint64_t seed) : corpus_(corpus), seed_(seed) {
  for (int64_t first = 0; first < corpus.documents(); first += kGroup) {
    int64_t tokens = 0;
    for (const DocumentSpan& document : corpus.Documents(first, std::min(kGroup, corpus.documents() - first))) {
      tokens += document.length;
    }
    tokens_.push_back(tokens);
  }
}

int64_t DocumentOrder::GroupAt(int64_t epoch, int64_t place) const {
  return Permuted({seed_, kDocumentStream, static_cast<uint32_t>(epoch)}, place, static_cast<int64_t>(tokens_.size()));
}

void DocumentOrder::Look(int64_t epoch) const {
  if (epoch == epoch_) return;
  first_.assign(1, 0);
  for (size_t place = 0; place < tokens_.size(); ++place) {
    first_.push_back(first_.back() + tokens_[static_cast<size_t>(GroupAt(epoch, static_cast<int64_t>(place)))]);
  }
  epoch_ = epoch;
}

std::vector<DocumentSpan> DocumentOrder::Documents(int64_t epoch, int64_t group) const {
  const int64_t first = group * kGroup;
  const std::vector<DocumentSpan> all = corpus_.Documents(first, std::min(kGroup, corpus_.documents() - first));
  RandomKey key{seed_, kDocumentStream + 1, static_cast<uint32_t>(epoch)};
  const std::array<uint32_t, 4> bits = RandomBits(key, static_cast<uint64_t>(group));
  key.seed = static_cast<uint64_t>(bits[0]) << 32 | bits[1];
  std::vector<DocumentSpan> permuted;
  for (size_t i = 0; i < all.size(); ++i) {
    permuted.push_back(
        all[static_cast<size_t>(Permuted(key, static_cast<int64_t>(i), static_cast<int64_t>(all.size())))]);
  }
  return permuted;
}

void DocumentOrder::Read(int64_t epoch, int64_t begin, int64_t count, int32_t* out) const {
  Look(epoch);
  CHECK(begin >= 0 && begin + count <= first_.back());
  int64_t place = std::upper_bound(first_.begin(), first_.end(), begin) - first_.begin() - 1;
  for (; count > 0; ++place) {
    int64_t at = first_[static_cast<size_t>(place)];
    for (const DocumentSpan& document : Documents(epoch, GroupAt(epoch, place))) {
      const int64_t skip = begin - at, n = std::min(count, document.length - skip);
      at += document.length;
      if (n <= 0) continue;
      corpus_.Read(document.begin + skip, n, out);
      begin += n;
      out += n;
      count -= n;
      if (count == 0) return;
    }
  }
}

}  // namespace taipan
