#include "text/sentencepiece/sentencepiece_bpe.h"

#include <algorithm>

namespace taipan {
namespace {

// Where the first word ends: spaces, then everything up to the next space.
size_t WordSize(std::string_view pieces) {
  size_t i = 0;
  while (pieces.substr(i).starts_with(kSpacePiece)) i += kSpacePiece.size();
  return std::min(pieces.find(kSpacePiece, i), pieces.size());
}

}  // namespace

std::string PieceText(std::string_view piece) {
  std::string text;
  while (!piece.empty()) {
    const bool space = piece.starts_with(kSpacePiece);
    text += space ? ' ' : piece[0];
    piece.remove_prefix(space ? kSpacePiece.size() : 1);
  }
  return text;
}

std::vector<int32_t> RanksByScore(const std::vector<std::optional<float>>& scores) {
  std::vector<float> order;
  for (const std::optional<float>& score : scores) {
    if (score.has_value()) order.push_back(*score);
  }
  std::sort(order.begin(), order.end(), std::greater<>());
  std::vector<int32_t> ranks(scores.size(), -1);
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!scores[i].has_value()) continue;
    const auto place = std::lower_bound(order.begin(), order.end(), *scores[i], std::greater<>());
    ranks[i] = static_cast<int32_t>(place - order.begin());
  }
  return ranks;
}

bool SpacesOpenPieces(const Bpe& bpe) {
  return std::all_of(bpe.tokens().begin(), bpe.tokens().end(),
                     [](const std::string& piece) { return WordSize(piece) == piece.size(); });
}

void EncodePieces(const Bpe& bpe, bool spaces_open_pieces, std::string_view text, bool space_before,
                  std::vector<int32_t>& ids) {
  std::string pieces;
  pieces.reserve(text.size() + text.size() / 2);
  if (space_before) pieces += kSpacePiece;
  for (const char c : text) c == ' ' ? pieces.append(kSpacePiece) : pieces.append(1, c);
  for (std::string_view rest = pieces; !rest.empty();) {
    const size_t size = spaces_open_pieces ? WordSize(rest) : rest.size();
    bpe.Encode(rest.substr(0, size), ids);
    rest.remove_prefix(size);
  }
}

}  // namespace taipan
