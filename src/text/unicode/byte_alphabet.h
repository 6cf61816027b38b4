#pragma once
// The characters by which GPT-2 and its descendants spell bytes in vocabularies: printable Latin-1 characters stand for
// themselves, the other bytes for those from U+0100 on.

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace taipan {

const std::array<std::string, 256>& ByteAlphabet();
std::string SpellBytes(std::string_view bytes);
// None for text with other characters than those of the alphabet.
std::optional<std::string> UnspellBytes(std::string_view spelled);

}  // namespace taipan
