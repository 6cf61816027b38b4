#pragma once
// The parts of SentencePiece's model file (a protobuf message) that its library does not tell, and the checks that it
// leaves out.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace taipan {

struct SentencePieceModel {
  enum Type { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
  struct Piece {
    std::string text;
    int type = kNormal;
  };
  std::vector<Piece> pieces;
  std::string unknown_surface = " \xE2\x81\x87 ";  // what decoding shows for the unknown token
  bool add_dummy_prefix = true;                    // a space before the text
  bool remove_extra_whitespaces = true;
  bool whitespace_as_suffix = false;
};

// UserError naming `where` where the message is cut, or holds what would make the library read outside of it.
SentencePieceModel ReadSentencePieceModel(std::string_view content, const std::string& where);

}  // namespace taipan
