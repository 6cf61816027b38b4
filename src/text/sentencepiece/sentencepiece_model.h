#pragma once
// The parts of SentencePiece's model file (a protobuf message) that its library does not tell, the checks that it
// leaves out, and writing of such a file.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace taipan {

struct SentencePieceModel {
  enum Type { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
  struct Piece {
    std::string text;
    float score = 0;
    int type = kNormal;
  };
  enum Algorithm { kUnigram = 1, kBpe = 2 };
  std::vector<Piece> pieces;
  std::string unknown_surface = " \xE2\x81\x87 ";  // what decoding shows for the unknown token
  bool add_dummy_prefix = true;                    // a space before the text
  bool remove_extra_whitespaces = true;
  bool whitespace_as_suffix = false;
  int algorithm = kUnigram;
  bool byte_fallback = false;
  bool maps_characters = false;    // the normalizer has a character map
  bool escape_whitespaces = true;  // a space is U+2581 in pieces
};

// UserError naming `where` where the message is cut, or holds what would make the library read outside of it.
SentencePieceModel ReadSentencePieceModel(std::string_view content, const std::string& where);

// The file of a model without a character map. Ids are places in `pieces`, -1 for none; only control tokens count as
// BOS and EOS.
struct SentencePieceIds {
  int32_t unk = -1, bos = -1, eos = -1;
};
std::string WriteSentencePieceModel(const SentencePieceModel& model, const SentencePieceIds& ids);

// The content of a file, with another add_dummy_prefix.
std::string WithDummyPrefix(std::string content, bool add_dummy_prefix);

}  // namespace taipan
