#pragma once
// SentencePiece's byte-pair encoding with our own merges: pieces merge by falling score, a space is spelled U+2581.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/bpe/bpe.h"

namespace taipan {

inline constexpr std::string_view kSpacePiece = "\xE2\x96\x81";  // U+2581

// The text that a piece stands for: with spaces for U+2581.
std::string PieceText(std::string_view piece);

// Ranks for Bpe::FromRanks: falling scores, equal ones equal (then the leftmost merges first); -1 where there is none.
// No score is NaN.
std::vector<int32_t> RanksByScore(const std::vector<std::optional<float>>& scores);

// Whether U+2581 only opens pieces: then no merge crosses from a word into the next.
bool SpacesOpenPieces(const Bpe& bpe);

// Appends the ids of a text, with a space before it where asked for; by words where spaces only open pieces, which is
// several times faster.
void EncodePieces(const Bpe& bpe, bool spaces_open_pieces, std::string_view text, bool space_before,
                  std::vector<int32_t>& ids);

}  // namespace taipan
