#include "data/document_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/test_folder.h"
#include "data/json_texts.h"

namespace taipan {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> TextsFrom(DocumentReader& reader) {
  std::vector<std::string> texts;
  for (RawDocument d; reader.Next(d);)
    texts.push_back(d.is_json ? TextOf(ParseObject(d.bytes, d.where), d.where) : d.bytes);
  return texts;
}

// printf '{"text": "one"}\n{"text": "two"}\n' | gzip -n
const std::string kPackedLines(
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\x2a\x49\xad\x28\x51\xb2\x52\x50\xca\xcf\x4b\x55"
    "\xaa\xe5\xaa\x86\xf3\x4b\xca\xf3\x81\x7c\x00\xd1\x5b\x69\xd5\x20\x00\x00\x00",
    43);

class DocumentReaderTest : public testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& content) const {
    WriteFileAtomically(folder_ / name, content);
    return folder_ / name;
  }
  std::string ErrorOf(const std::string& path) const {
    return UserErrorOf([&] {
      DocumentReader reader({path});
      TextsFrom(reader);
    });
  }
  TestFolder folder_;
};

TEST_F(DocumentReaderTest, EveryKindInTurnAndFromAnyPlace) {
  const std::vector<std::string> files = {
      Write("a.jsonl", "\xef\xbb\xbf{\"text\": \"a\"}\r\n\n  \n{\"text\": \"\"}\n{\"n\": 1, \"text\": \"b\"}"),
      Write("b.gz", kPackedLines), Write("c.json", R"([{"text": "x"}, {"text": "y"}])"),
      Write("d.txt", "plain\ntext\n")};
  DocumentReader reader(files);
  const std::vector<std::string> all = TextsFrom(reader);
  EXPECT_THAT(all, ElementsAre("a", "", "b", "one", "two", "x", "y", "plain\ntext\n"));
  RawDocument document;
  DocumentReader again(files);
  for (size_t i = 0; i < all.size(); ++i) {
    ASSERT_TRUE(again.Next(document));
    DocumentReader behind(files);
    behind.SkipTo(document.next);
    EXPECT_EQ(TextsFrom(behind), std::vector<std::string>(all.begin() + static_cast<ptrdiff_t>(i) + 1, all.end())) << i;
  }
  DocumentReader beyond({files[0]});
  EXPECT_THAT(UserErrorOf([&] { beyond.SkipTo({0, 4}); }), HasSubstr("a.jsonl: has fewer documents than before"));
}

TEST_F(DocumentReaderTest, LinesLongerThanAPiece) {
  std::string content;
  std::vector<std::string> texts;
  for (const size_t size : {(size_t{4} << 20) - 12, size_t{5} << 20, size_t{3}, (size_t{4} << 20) - 13, size_t{1}}) {
    texts.emplace_back(size, static_cast<char>('a' + texts.size()));
    content += "{\"text\": \"" + texts.back() + "\"}\n";
  }
  DocumentReader reader({Write("a.jsonl", content)});
  EXPECT_EQ(TextsFrom(reader), texts);
  EXPECT_EQ(reader.bytes_read(), static_cast<int64_t>(content.size()));
}

TEST_F(DocumentReaderTest, RefusesByName) {
  EXPECT_THAT(ErrorOf(Write("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \n")),
              HasSubstr("a.jsonl:2: not a line of JSON"));
  EXPECT_THAT(ErrorOf(Write("b.jsonl", "\n{\"body\": 1}")), HasSubstr("b.jsonl:2: no string \"text\""));
  EXPECT_THAT(ErrorOf(Write("c.gz", kPackedLines.substr(0, 30))), HasSubstr("c.gz: the gzip file is cut"));
  EXPECT_THAT(ErrorOf(Write("d.txt", "")), HasSubstr("d.txt: the file is empty"));
  EXPECT_THAT(ErrorOf(Write("e.txt", std::string("\x89PNG\r\n\x1a\n\0\0", 10))), HasSubstr("a PNG image"));
  EXPECT_THAT(ErrorOf(Write("f.txt", std::string(100'000, 'x') + '\0')), HasSubstr("byte 100000 is NUL"));
  EXPECT_THAT(ErrorOf(Write("g.json", "[{\"text\": \"a\"}, {\"b\": 1}]")),
              HasSubstr("g.json: element 2 of the list: no string"));
  EXPECT_THAT(ErrorOf(folder_ / "none"), HasSubstr("none: cannot open"));
}

}  // namespace
}  // namespace taipan
