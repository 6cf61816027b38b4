#pragma once
// The documents of a corpus in a random order, another one each epoch, as one text: what stands beside what changes.

#include <cstdint>
#include <vector>

#include "data/corpus.h"

namespace taipan {

// Groups of neighbouring documents are in a random order, and so are the documents of a group: with nothing in memory
// but a number for each group, and reads that stay close together. A function of the seed and the epoch. For one
// thread.
class DocumentOrder {
 public:
  // The corpus must outlive it.
  DocumentOrder(const Corpus& corpus, uint64_t seed);

  // Tokens [begin, begin + count) of the epoch's text, which is as long as the corpus.
  void Read(int64_t epoch, int64_t begin, int64_t count, int32_t* out) const;

 private:
  int64_t GroupAt(int64_t epoch, int64_t place) const;
  void Look(int64_t epoch) const;
  std::vector<DocumentSpan> Documents(int64_t epoch, int64_t group) const;

  const Corpus& corpus_;
  uint64_t seed_;
  std::vector<int64_t> tokens_;         // of each group
  mutable int64_t epoch_ = -1;          // the one that was read last
  mutable std::vector<int64_t> first_;  // of it: the first token of each place, and the end
};

}  // namespace taipan
