#include "text/sentencepiece/sentencepiece_model.h"

#include <cstring>

#include "base/error.h"

namespace taipan {
namespace {

// Protobuf's wire format.
class Message {
 public:
  Message(std::string_view bytes, const std::string& where) : rest_(bytes), where_(where) {}

  // The next field; false at the end.
  bool Next() {
    if (rest_.empty()) return false;
    const uint64_t key = Varint();
    field_ = key >> 3;
    type_ = static_cast<int>(key & 7);
    number_ = 0;
    bytes_ = {};
    if (type_ == 0) {
      number_ = Varint();
    } else if (type_ == 1 || type_ == 5) {
      bytes_ = Take(type_ == 1 ? 8 : 4);
    } else if (type_ == 2) {
      bytes_ = Take(Varint());
    } else {
      Damaged("a field of an unknown wire type");
    }
    return true;
  }

  uint64_t field() const { return field_; }
  uint64_t Number() const {
    if (type_ != 0) Damaged("another type for a number");
    return number_;
  }
  bool Flag() const { return Number() != 0; }
  float Float() const {
    float value = 0;
    if (type_ != 5) Damaged("another type for a float");
    std::memcpy(&value, bytes_.data(), sizeof value);
    return value;
  }
  std::string_view Bytes() const {
    if (type_ != 2) Damaged("another type for a string or message");
    return bytes_;
  }
  [[noreturn]] void Damaged(const std::string& found) const {
    throw UserError({.where = where_, .problem = "a damaged SentencePiece model", .found = found});
  }

 private:
  std::string_view Take(uint64_t n) {
    if (n > rest_.size()) Damaged("a field that reaches beyond the end");
    const std::string_view taken = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return taken;
  }
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(Take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    Damaged("a number of more than 64 bits");
  }

  std::string_view rest_, bytes_;
  const std::string& where_;
  uint64_t field_ = 0, number_ = 0;
  int type_ = 0;
};

// The character map is a uint32 length, a double-array trie (darts-clone: uint32 units, a leaf has bit 31) and strings
// that end with 0. The library walks it without bounds, so each step from each unit must stay inside.
void CheckCharacterMap(std::string_view map, const Message& message) {
  uint32_t trie_bytes = 0;
  if (map.size() >= sizeof trie_bytes) std::memcpy(&trie_bytes, map.data(), sizeof trie_bytes);
  if (map.size() < 4 || trie_bytes > map.size() - 4 || trie_bytes < 1024 || trie_bytes % 4 != 0) {
    message.Damaged("a character map of the wrong size");
  }
  std::vector<uint32_t> units(trie_bytes / 4);
  std::memcpy(units.data(), map.data() + 4, trie_bytes);
  const std::string_view strings = map.substr(4 + trie_bytes);
  if (strings.empty() || strings.back() != '\0') message.Damaged("a character map without an end");
  for (size_t i = 0; i < units.size(); ++i) {
    const uint32_t unit = units[i];
    if (unit >> 31 != 0) continue;
    const size_t next = i ^ ((unit >> 10) << ((unit & (1u << 9)) >> 6));
    if ((next | 255) >= units.size()) message.Damaged("a character map that leads outside of itself");
    const bool has_leaf = (unit >> 8 & 1) != 0;
    if (has_leaf && (units[next] & 0x7FFFFFFFu) >= strings.size()) {
      message.Damaged("a character map that leads outside of its strings");
    }
  }
}

SentencePieceModel::Piece ReadPiece(Message piece) {
  SentencePieceModel::Piece result;
  while (piece.Next()) {
    if (piece.field() == 1) result.text = piece.Bytes();
    if (piece.field() == 2) result.score = piece.Float();
    if (piece.field() == 3) {
      if (piece.Number() < 1 || piece.Number() > 6) piece.Damaged("a piece of an unknown type");
      result.type = static_cast<int>(piece.Number());
    }
  }
  if (result.text.empty()) piece.Damaged("an empty piece");
  const auto hex = [&](size_t i) {
    return std::string_view("0123456789ABCDEF").find(result.text[i]) != std::string::npos;
  };
  const bool spells_byte =
      result.text.size() == 6 && result.text.starts_with("<0x") && hex(3) && hex(4) && result.text[5] == '>';
  if (result.type == SentencePieceModel::kByte && !spells_byte)
    piece.Damaged("a byte piece that is not <0x00> to <0xFF>");
  return result;
}

std::string Varint(uint64_t n) {
  std::string bytes;
  for (; n >= 0x80; n >>= 7) bytes += static_cast<char>(n | 0x80);
  return bytes + static_cast<char>(n);
}

std::string NumberField(uint64_t field, int64_t n) { return Varint(field << 3) + Varint(static_cast<uint64_t>(n)); }

std::string BytesField(uint64_t field, std::string_view bytes) {
  return Varint(field << 3 | 2) + Varint(bytes.size()) + std::string(bytes);
}

std::string PieceField(const SentencePieceModel::Piece& piece) {
  std::string score(sizeof piece.score, '\0');
  std::memcpy(score.data(), &piece.score, sizeof piece.score);
  const std::string type = piece.type == SentencePieceModel::kNormal ? "" : NumberField(3, piece.type);
  return BytesField(1, BytesField(1, piece.text) + Varint(2 << 3 | 5) + score + type);
}

}  // namespace

SentencePieceModel ReadSentencePieceModel(std::string_view content, const std::string& where) {
  SentencePieceModel model;
  Message message(content, where);
  while (message.Next()) {
    if (message.field() == 1) model.pieces.push_back(ReadPiece(Message(message.Bytes(), where)));
    if (message.field() == 2) {
      Message trainer(message.Bytes(), where);
      while (trainer.Next()) {
        if (trainer.field() == 3) model.algorithm = static_cast<int>(trainer.Number());
        if (trainer.field() == 35) model.byte_fallback = trainer.Flag();
        if (trainer.field() == 24) model.whitespace_as_suffix = trainer.Flag();
        if (trainer.field() == 44) model.unknown_surface = trainer.Bytes();
      }
    }
    if (message.field() == 3 || message.field() == 5) {  // the normalizer, the denormalizer
      Message normalizer(message.Bytes(), where);
      while (normalizer.Next()) {
        if (normalizer.field() == 2 && !normalizer.Bytes().empty()) CheckCharacterMap(normalizer.Bytes(), normalizer);
        if (message.field() == 5) continue;
        if (normalizer.field() == 2) model.maps_characters = !normalizer.Bytes().empty();
        if (normalizer.field() == 5) model.escape_whitespaces = normalizer.Flag();
        if (normalizer.field() == 3) model.add_dummy_prefix = normalizer.Flag();
        if (normalizer.field() == 4) model.remove_extra_whitespaces = normalizer.Flag();
      }
    }
  }
  if (model.pieces.empty()) message.Damaged("no vocabulary");
  return model;
}

std::string WriteSentencePieceModel(const SentencePieceModel& model, const SentencePieceIds& ids) {
  std::string content;
  for (const SentencePieceModel::Piece& piece : model.pieces) content += PieceField(piece);
  std::string trainer = NumberField(3, model.algorithm) + NumberField(4, static_cast<int64_t>(model.pieces.size())) +
                        NumberField(24, model.whitespace_as_suffix) + NumberField(35, model.byte_fallback) +
                        NumberField(40, ids.unk) + NumberField(41, ids.bos) + NumberField(42, ids.eos) +
                        NumberField(43, -1) + BytesField(44, model.unknown_surface);
  const auto name = [&](uint64_t field, int32_t id) {
    if (id >= 0) trainer += BytesField(field, model.pieces.at(static_cast<size_t>(id)).text);
  };
  name(45, ids.unk);
  name(46, ids.bos);
  name(47, ids.eos);
  const std::string normalizer = BytesField(1, "identity") + NumberField(3, model.add_dummy_prefix) +
                                 NumberField(4, model.remove_extra_whitespaces) +
                                 NumberField(5, model.escape_whitespaces);
  return content + BytesField(2, trainer) + BytesField(3, normalizer);
}

// A message that comes twice is one whose later fields count.
std::string WithDummyPrefix(std::string content, bool add_dummy_prefix) {
  return std::move(content) + BytesField(3, NumberField(3, add_dummy_prefix));
}

}  // namespace taipan
