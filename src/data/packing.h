#pragma once
// Rows of whole documents: each begins afresh, and several share a row where they fit.

#include <cstdint>
#include <string>
#include <vector>

#include "data/corpus.h"
#include "data/windows.h"

namespace taipan {

// How documents become rows of a step: joined to one text that is cut into windows, or each by itself.
enum class DocumentPacking { kJoin, kDocuments };
inline std::vector<std::string> NamesOf(DocumentPacking) { return {"join", "documents"}; }

// Inputs [begin, begin + inputs) of the corpus; the token behind each is its target, and of the same document.
struct Piece {
  int64_t begin = 0, inputs = 0;
  bool operator==(const Piece&) const = default;
};
using PackedRow = std::vector<Piece>;

// The longest first, each into the row whose room it fills best; none is longer than the capacity. Within a row pieces
// stand in the order of the corpus.
std::vector<PackedRow> PackBestFit(const std::vector<Piece>& pieces, int64_t capacity);

// What of documents lies among the inputs [begin, begin + count), a piece a document.
std::vector<Piece> PiecesBetween(const Corpus& corpus, int64_t begin, int64_t count);

// All rows of a corpus. A document that is longer than a context is cut into contexts and a rest; pieces of a few
// hundred neighbours are packed together, so that a row is found again from its number alone, with nothing of the
// corpus in memory but a number for each group of neighbours.
class PackedRows {
 public:
  // UserError where no document has two tokens, or none a label. The corpus must outlive it.
  PackedRows(const Corpus& corpus, int64_t context, WindowOrder order, uint64_t seed);

  int64_t rows() const { return first_row_.back(); }  // an epoch
  double padding() const;                             // share of the places in rows that no token takes
  // index: counts rows over all epochs. Each epoch has every row once, in an order of its own where shuffled.
  PackedRow Row(int64_t index) const;

 private:
  std::vector<PackedRow> Pack(int64_t group) const;
  bool Labelled(const Piece& piece) const;

  const Corpus& corpus_;
  int64_t context_;
  WindowOrder order_;
  uint64_t seed_;
  std::vector<int64_t> first_row_;  // of each group, and the end
  int64_t tokens_ = 0;              // inputs of all rows
};

}  // namespace taipan
