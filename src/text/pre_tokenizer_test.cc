#include "text/pre_tokenizer.h"

#include <gtest/gtest.h>

#include "text/normalizer.h"

namespace taipan {
namespace {

using Strings = std::vector<std::string>;

Strings Words(const std::string& json, const std::string& text) {
  const Json value = Json::parse(json);
  Strings words;
  PreTokenizer(JsonPart(value, "f")).Split({text, true}, [&](const Piece& p) { words.emplace_back(p.text); });
  return words;
}

// Rust's own tables are of Unicode 17, those of Punctuation of 8 (U+111C9 is a mark since 11).
TEST(PreTokenizer, NewerCharacters) {
  EXPECT_EQ(Words(R"({"type": "Digits", "individual_digits": true})", "a\U00010d40\U00011de0"),
            (Strings{"a", "\U00010d40", "\U00011de0"}));
  EXPECT_EQ(Words(R"({"type": "Punctuation"})", "a\U000111c9b\u1b4ec\U00010d6e"),
            (Strings{"a", "\U000111c9", "b\u1b4ec\U00010d6e"}));
  EXPECT_EQ(Words(R"({"type": "Whitespace"})", "a\U000105c0\u2ffc \u0cf3"),
            (Strings{"a\U000105c0", "\u2ffc", "\u0cf3"}));
}

TEST(Lowercase, NewerCapitals) {
  const Json value = Json::parse(R"({"type": "Lowercase"})");
  std::string buffer;
  EXPECT_EQ(ReadNormalizer(JsonPart(value, "f"))->Apply("\u1c89\ua7cb\ua7dc\U00010d50\U00016ea1\u00c9", buffer),
            "\u1c8a\u0264\u019b\U00010d70\U00016ebc\u00e9");
}

}  // namespace
}  // namespace taipan
