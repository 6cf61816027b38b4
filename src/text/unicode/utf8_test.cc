#include "text/unicode/utf8.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"
#include "base/rng.h"

namespace taipan {
namespace {

const std::string kBad = "\xEF\xBF\xBD";

TEST(Utf8, ValidTextPasses) {
  const std::string text = "plain, \u00e9\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff \U0001f40d";
  EXPECT_EQ(ToValidUtf8(text), text);
  EXPECT_EQ(ToValidUtf8(std::string("\0a", 2)), std::string("\0a", 2));
  EXPECT_EQ(ToValidUtf8(""), "");
}

TEST(Utf8, HoldsBackSplitCharacters) {
  Utf8Stream stream;
  EXPECT_EQ(stream.Append("a\xF0\x9F"), "a");
  EXPECT_TRUE(stream.pending());
  EXPECT_EQ(stream.Append("\x90"), "");
  EXPECT_EQ(stream.Append("\x8D"
                          "b\xC3"),
            "\U0001f40d"
            "b");
  EXPECT_EQ(stream.Append("\xA9"), "\u00e9");
  EXPECT_FALSE(stream.pending());
  EXPECT_EQ(stream.Flush(), "");
}

TEST(Utf8, FlushReplacesAnIncompleteTailOnce) {
  for (const std::string tail : {"\xC3", "\xE2\x82", "\xF0\x9F\x90", "\xF4"}) {
    Utf8Stream stream;
    EXPECT_EQ(stream.Append("x" + tail), "x");
    EXPECT_EQ(stream.Flush(), kBad);
    EXPECT_EQ(stream.Append("\xC3\xA9"), "\u00e9") << "not usable again";
  }
}

// The examples of the Unicode standard, tables 3-8 to 3-11, and what browsers do with them.
TEST(Utf8, MaximalSubparts) {
  EXPECT_EQ(ToValidUtf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            kBad + kBad + kBad + kBad + kBad + kBad + kBad + kBad + "A");
  EXPECT_EQ(ToValidUtf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            kBad + kBad + kBad + kBad + kBad + kBad + kBad + kBad + "A");
  EXPECT_EQ(ToValidUtf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            kBad + kBad + kBad + kBad + kBad + "A" + kBad + kBad + "B");
  EXPECT_EQ(ToValidUtf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), kBad + kBad + kBad + kBad + "A");
}

TEST(Utf8, IllFormed) {
  EXPECT_EQ(ToValidUtf8("\x80"), kBad);
  EXPECT_EQ(ToValidUtf8("\xC1\x81"), kBad + kBad);             // overlong A
  EXPECT_EQ(ToValidUtf8("\xE0\x9F\xBF"), kBad + kBad + kBad);  // overlong
  EXPECT_EQ(ToValidUtf8("\xF0\x8F\xBF\xBF"), kBad + kBad + kBad + kBad);
  EXPECT_EQ(ToValidUtf8("\xF4\x90\x80\x80"), kBad + kBad + kBad + kBad);  // U+110000
  EXPECT_EQ(ToValidUtf8("\xF5\xFE\xFF"), kBad + kBad + kBad);
  EXPECT_EQ(ToValidUtf8("\xE2\x82g"), kBad + "g");
  EXPECT_EQ(ToValidUtf8("\xE2\xC3\xA9"), kBad + "\u00e9");  // a lead byte inside a character starts the next
}

TEST(Utf8, CutsDoNotMatter) {
  const RandomKey key{.seed = 1, .stream = kTestStream};
  std::string bytes;
  for (uint64_t i = 0; i < 2000; ++i) {  // noise with many lead and continuation bytes
    const uint64_t kind = RandomBelow(key, 3 * i, 4);
    const uint64_t value = RandomBelow(key, 3 * i + 1, 64);
    if (kind == 0) bytes += static_cast<char>('!' + value);
    if (kind == 1) bytes += static_cast<char>(0x80 + value);
    if (kind == 2) bytes += static_cast<char>(0xC0 + value);
    if (kind == 3) bytes += EncodeUtf8(static_cast<uint32_t>(0x700 + value * 800));
  }
  const std::string whole = ToValidUtf8(bytes);
  EXPECT_EQ(ToValidUtf8(whole), whole);
  for (size_t piece : {1, 2, 3, 5, 7}) {
    Utf8Stream stream;
    std::string out;
    for (size_t i = 0; i < bytes.size(); i += piece) {
      const std::string part = stream.Append(std::string_view(bytes).substr(i, piece));
      EXPECT_EQ(ToValidUtf8(part), part);  // each piece is valid by itself
      out += part;
    }
    EXPECT_EQ(out + stream.Flush(), whole);
  }
}

TEST(Utf8, EveryCodePoint) {
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const std::string encoded = EncodeUtf8(c);
    ASSERT_EQ(ToValidUtf8(encoded), encoded) << c;
    ASSERT_EQ(encoded.size(), c < 0x80 ? 1u : c < 0x800 ? 2u : c < 0x10000 ? 3u : 4u);
  }
  EXPECT_EQ(EncodeUtf8(0x20AC), "\u20ac");
  EXPECT_THROW(EncodeUtf8(0xD800), InternalError);
  EXPECT_THROW(EncodeUtf8(0x110000), InternalError);
}

}  // namespace
}  // namespace taipan
