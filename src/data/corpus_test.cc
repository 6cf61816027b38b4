#include "data/corpus.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/test_folder.h"

namespace taipan {
namespace {

std::vector<int32_t> All(const Corpus& corpus) {
  std::vector<int32_t> tokens(static_cast<size_t>(corpus.size()));
  corpus.Read(0, corpus.size(), tokens.data());
  return tokens;
}

std::string Text(const Corpus& corpus) {
  std::string text;
  for (int32_t id : All(corpus)) text += static_cast<char>(id);
  return text;
}

class CorpusTest : public testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& content) {
    const std::string path = folder_ / name;
    MakeDirectories(std::filesystem::path(path).parent_path().string());
    WriteFileAtomically(path, content);
    return path;
  }
  // The error that opening gives; it must name the file.
  std::string ErrorOf(const std::string& path, int64_t vocab = 256) {
    const std::string error = UserErrorOf([&] { Corpus({path}, tokenizer_.get(), vocab); });
    EXPECT_EQ(error.rfind(path, 0), 0u) << error;
    return error;
  }

  TestFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_ = std::make_unique<ByteTokenizer>();
};

TEST_F(CorpusTest, ConcatenatesFilesInTheOrderGiven) {
  const std::string a = Write("a.txt", "first "), b = Write("b.txt", "second\xff");
  const Corpus corpus({b, a, b}, tokenizer_.get(), 256);
  EXPECT_EQ(Text(corpus),
            "second\xff"
            "first second\xff");
  EXPECT_TRUE(corpus.bytes_are_tokens());
}

TEST_F(CorpusTest, ReadsAnyRangeAcrossFiles) {
  std::string whole;
  std::vector<std::string> paths;
  for (int i = 0; i < 5; ++i) {
    const std::string content(static_cast<size_t>(i * i + 1), static_cast<char>('a' + i));
    paths.push_back(Write(fmt::format("{}.txt", i), content));
    whole += content;
  }
  const Corpus corpus(paths, tokenizer_.get(), 256);
  ASSERT_EQ(corpus.size(), static_cast<int64_t>(whole.size()));
  for (int64_t begin = 0; begin <= corpus.size(); ++begin) {
    for (int64_t count = 1; begin + count <= corpus.size(); ++count) {
      std::vector<int32_t> ids(static_cast<size_t>(count));
      corpus.Read(begin, count, ids.data());
      for (int64_t i = 0; i < count; ++i) {
        ASSERT_EQ(ids[static_cast<size_t>(i)], whole[static_cast<size_t>(begin + i)]) << begin << " " << count;
      }
    }
  }
}

TEST_F(CorpusTest, FoldersAreReadRecursivelyInSortedOrder) {
  Write("books/c.txt", "C");
  Write("books/b/z.txt", "Z");
  Write("books/b/a.txt", "A");
  Write("books/empty.txt", "");
  Write("books/.hidden", "H");
  Write("books/.git/x.txt", "X");
  const Corpus corpus({folder_ / "books"}, tokenizer_.get(), 256);
  EXPECT_EQ(Text(corpus), "AZC");
  EXPECT_EQ(corpus.stamps().size(), 3u);
  MakeDirectories(folder_ / "none");
  EXPECT_NE(ErrorOf(folder_ / "none").find("holds no data"), std::string::npos);
}

TEST_F(CorpusTest, JsonLinesGiveTheirTexts) {
  const std::string path =
      Write("d.jsonl", "{\"text\": \"one\"}\n\n{\"id\": 3, \"text\": \"t\\u00e9o\\n\"}\r\n{\"text\": \"end\"}");
  EXPECT_EQ(Text(Corpus({path}, tokenizer_.get(), 256)), "one\nt\xc3\xa9o\nend");
  EXPECT_NE(UserErrorOf([&] {
              Corpus({Write("e.jsonl", "{\"text\": \"a\"}\n{\"body\": 1}\n")}, tokenizer_.get(), 256);
            }).find("e.jsonl:2: no string \"text\""),
            std::string::npos);
  EXPECT_NE(UserErrorOf([&] {
              Corpus({Write("f.jsonl", "{\"text\": ")}, tokenizer_.get(), 256);
            }).find("f.jsonl:1: not a line of JSON"),
            std::string::npos);
  EXPECT_NE(ErrorOf(Write("g.jsonl", "\n\n")).find("no text"), std::string::npos);
}

TEST_F(CorpusTest, TokenFilesAreLittleEndian) {
  const std::string bytes("\x01\x00\x02\x01\xff\x7f\x00\x00", 8);
  const std::vector<int32_t> as16 = {1, 0x102, 0x7fff, 0}, as32 = {0x01020001, 0x7fff};
  EXPECT_EQ(All(Corpus({Write("t.u16", bytes)}, nullptr, 1 << 16)), as16);
  EXPECT_EQ(All(Corpus({Write("t.bin", bytes)}, nullptr, 1 << 16)), as16);
  EXPECT_EQ(All(Corpus({Write("t.u32", bytes)}, nullptr, 1 << 25)), as32);
  EXPECT_FALSE(Corpus({folder_ / "t.u16"}, nullptr, 1 << 16).bytes_are_tokens());
}

TEST_F(CorpusTest, RefusesTokensOutsideTheVocabularyWhereTheyAreRead) {
  const std::string path = Write("t.u16", std::string("\x01\x00\x02\x00\x61\x00\x03\x00", 8));
  const Corpus corpus({path}, nullptr, 97);
  int32_t ids[4];
  corpus.Read(0, 2, ids);
  const std::string error = UserErrorOf([&] { corpus.Read(1, 3, ids); });
  EXPECT_EQ(error, path + ": token 2 (byte 4) is outside the vocabulary, expected an id below 97, found 97");
}

TEST_F(CorpusTest, RefusesBadFiles) {
  EXPECT_NE(ErrorOf(folder_ / "missing.txt").find("no such file"), std::string::npos);
  EXPECT_NE(ErrorOf(Write("empty.txt", "")).find("empty"), std::string::npos);
  EXPECT_NE(ErrorOf(Write("odd.u16", "abc")).find("a multiple of 2 bytes, found 3 bytes"), std::string::npos);
  EXPECT_NE(ErrorOf(Write("odd.u32", "abcdef")).find("a multiple of 4 bytes, found 6 bytes"), std::string::npos);
  const std::string text = Write("text.txt", "abc");
  EXPECT_NE(UserErrorOf([&] { Corpus({text}, nullptr, 256); }).find("needs a tokenizer"), std::string::npos);
}

TEST_F(CorpusTest, StampsTellContentApart) {
  const std::string path = Write("a.txt", "some content of a file");
  const std::vector<FileStamp> before = Corpus({path}, tokenizer_.get(), 256).stamps();
  EXPECT_NO_THROW(CheckSameData(before, Corpus({path}, tokenizer_.get(), 256).stamps(), "run"));
  Write("a.txt", "some content of b file");  // the same size
  const std::vector<FileStamp> after = Corpus({path}, tokenizer_.get(), 256).stamps();
  const std::string error = UserErrorOf([&] { CheckSameData(before, after, "run/data.json"); });
  EXPECT_EQ(error.rfind("run/data.json: the run was trained on other data: file 1, expected a.txt (22 bytes", 0), 0u)
      << error;
  EXPECT_NE(UserErrorOf([&] { CheckSameData(before, {}, "run"); }).find("found no such file"), std::string::npos);
}

TEST(HashContent, DependsOnEveryByteItSamples) {
  std::string data(1000, 'x');
  const uint64_t base = HashContent(data.data(), 1000);
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = 'y';
    EXPECT_NE(HashContent(data.data(), 1000), base) << i;
    data[i] = 'x';
  }
  EXPECT_NE(HashContent(data.data(), 999), base);
  std::string large(size_t{65} << 20, 'x');  // above the limit: samples, the last bytes among them
  const uint64_t large_base = HashContent(large.data(), static_cast<int64_t>(large.size()));
  large.back() = 'y';
  EXPECT_NE(HashContent(large.data(), static_cast<int64_t>(large.size())), large_base);
}

}  // namespace
}  // namespace taipan
