#include "data/packing.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/parallel.h"
#include "base/rng.h"

namespace taipan {
namespace {

constexpr int64_t kPackedAtOnce = 256;  // documents: one row is found by packing them again

int64_t Inputs(const PackedRow& row) {
  int64_t inputs = 0;
  for (const Piece& piece : row) inputs += piece.inputs;
  return inputs;
}

}  // namespace

std::vector<PackedRow> PackBestFit(const std::vector<Piece>& pieces, int64_t capacity) {
  std::vector<Piece> sorted = pieces;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Piece& a, const Piece& b) { return a.inputs > b.inputs; });
  std::vector<PackedRow> rows;
  std::multimap<int64_t, size_t> room;  // of rows; of equal ones the oldest comes first
  for (const Piece& piece : sorted) {
    CHECK(piece.inputs >= 1 && piece.inputs <= capacity);
    const auto best = room.lower_bound(piece.inputs);
    size_t row = rows.size();
    int64_t left = capacity;
    if (best == room.end()) {
      rows.emplace_back();
    } else {
      left = best->first;
      row = best->second;
      room.erase(best);
    }
    rows[row].push_back(piece);
    if (left > piece.inputs) room.emplace(left - piece.inputs, row);
  }
  for (PackedRow& row : rows) {
    std::sort(row.begin(), row.end(), [](const Piece& a, const Piece& b) { return a.begin < b.begin; });
  }
  return rows;
}

std::vector<Piece> PiecesBetween(const Corpus& corpus, int64_t begin, int64_t count) {
  std::vector<Piece> pieces;
  for (int64_t number = corpus.DocumentAt(begin); number < corpus.documents(); ++number) {
    const DocumentSpan document = corpus.Documents(number, 1)[0];
    if (document.begin >= begin + count) break;
    const int64_t from = std::max(begin, document.begin);
    const int64_t inputs = std::min(begin + count, document.begin + document.length - 1) - from;
    if (inputs > 0) pieces.push_back({from, inputs});
  }
  return pieces;
}

PackedRows::PackedRows(const Corpus& corpus, int64_t context, WindowOrder order, uint64_t seed)
    : corpus_(corpus), context_(context), order_(order), seed_(seed) {
  CHECK_GE(context, 1);
  const int64_t groups = (corpus.documents() + kPackedAtOnce - 1) / kPackedAtOnce;
  std::vector<int64_t> tokens(static_cast<size_t>(groups));
  first_row_.assign(static_cast<size_t>(groups) + 1, 0);
  ParallelFor(groups, [&](int64_t group) {
    const std::vector<PackedRow> rows = Pack(group);
    first_row_[static_cast<size_t>(group) + 1] = static_cast<int64_t>(rows.size());
    for (const PackedRow& row : rows) tokens[static_cast<size_t>(group)] += Inputs(row);
  });
  for (size_t group = 0; group < tokens.size(); ++group) {
    first_row_[group + 1] += first_row_[group];
    tokens_ += tokens[group];
  }
  if (rows() > 0) return;
  throw UserError({corpus.stamps().empty() ? "data" : corpus.stamps()[0].name, "no document can be trained on",
                   corpus.weighted() ? "a document with a labelled token" : "a document of at least two tokens",
                   fmt::format("{} documents", corpus.documents())});
}

double PackedRows::padding() const {
  return 1 - static_cast<double>(tokens_) / (static_cast<double>(rows()) * static_cast<double>(context_));
}

bool PackedRows::Labelled(const Piece& piece) const {
  if (!corpus_.weighted()) return true;
  std::vector<float> weights(static_cast<size_t>(piece.inputs));
  corpus_.ReadWeights(piece.begin + 1, piece.inputs, weights.data());
  return std::any_of(weights.begin(), weights.end(), [](float w) { return w > 0; });
}

// Whole contexts first, then what documents leave.
std::vector<PackedRow> PackedRows::Pack(int64_t group) const {
  const int64_t first = group * kPackedAtOnce, count = std::min(kPackedAtOnce, corpus_.documents() - first);
  std::vector<PackedRow> rows;
  std::vector<Piece> rests;
  for (const DocumentSpan& document : corpus_.Documents(first, count)) {
    for (int64_t at = 0; at < document.length - 1; at += context_) {
      const Piece piece{document.begin + at, std::min(context_, document.length - 1 - at)};
      if (!Labelled(piece)) continue;
      piece.inputs == context_ ? rows.push_back({piece}) : rests.push_back(piece);
    }
  }
  std::vector<PackedRow> packed = PackBestFit(rests, context_);
  std::move(packed.begin(), packed.end(), std::back_inserter(rows));
  return rows;
}

PackedRow PackedRows::Row(int64_t index) const {
  CHECK_GE(index, 0);
  const int64_t epoch = index / rows();
  int64_t row = index % rows();
  if (order_ == WindowOrder::kShuffled) {
    const RandomKey key{.seed = seed_, .stream = kShuffleStream, .step = static_cast<uint32_t>(epoch)};
    row = static_cast<int64_t>(RandomPermutation(key, static_cast<uint64_t>(row), static_cast<uint64_t>(rows())));
  }
  const auto group = std::upper_bound(first_row_.begin(), first_row_.end(), row) - first_row_.begin() - 1;
  return std::move(Pack(group)[static_cast<size_t>(row - first_row_[static_cast<size_t>(group)])]);
}

}  // namespace taipan
