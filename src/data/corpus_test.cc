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

// printf '{"text": "one"}\n{"text": "two"}\n' | gzip -n
const std::string kPackedLines(
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\x2a\x49\xad\x28\x51\xb2\x52\x50\xca\xcf\x4b\x55"
    "\xaa\xe5\xaa\x86\xf3\x4b\xca\xf3\x81\x7c\x00\xd1\x5b\x69\xd5\x20\x00\x00\x00",
    43);

TEST_F(CorpusTest, PackedFilesAreReadAsWhatTheyHold) {
  const Corpus corpus({Write("a.jsonl.gz", kPackedLines)}, tokenizer_.get(), 256);
  EXPECT_EQ(Text(corpus), "one\ntwo");
  EXPECT_EQ(corpus.Describe(), "1 file (JSONL in gzip), " + std::to_string(kPackedLines.size()) + " B, 7 tokens");
  EXPECT_TRUE(HoldsText({folder_ / "a.jsonl.gz"}, DataUse::kTraining));
  EXPECT_EQ(corpus.stamps()[0].name, "a.jsonl.gz");
  EXPECT_NO_THROW(corpus.CheckUnchanged());
  EXPECT_NE(ErrorOf(Write("b.gz", kPackedLines.substr(0, 30))).find("is cut"), std::string::npos);
}

TEST_F(CorpusTest, JsonListsGiveTheirTexts) {
  EXPECT_EQ(Text(Corpus({Write("a.json", R"([{"text": "one"}, {"id": 1, "text": "two\n"},
 {"text": "three"}])")},
                        tokenizer_.get(), 256)),
            "one\ntwo\nthree");
  EXPECT_NE(ErrorOf(Write("b.json", R"([{"text": "a"}, {"body": "b", "n": 1}])"))
                .find("element 2 of the list: no string \"text\", expected {\"text\": \"...\"}, found the keys "
                      "\"body\", \"n\""),
            std::string::npos);
  EXPECT_NE(ErrorOf(Write("c.json", "[{\"text\": \"a\"},\n {\"text\": }]")).find("c.json:2: not valid JSON"),
            std::string::npos);
  EXPECT_NE(ErrorOf(Write("d.json", "[1, 2]")).find("element 1 of the list"), std::string::npos);
}

// Ids of two bytes each and of the one that is left over.
class TwoBytes : public Tokenizer {
 public:
  int64_t vocab_size() const override { return 70000; }
  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions&) const override {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < text.size(); i += 2)
      ids.push_back(i + 1 < text.size() ? text[i] * 256 + text[i + 1] : text[i]);
    return ids;
  }
  std::string_view TokenBytes(int32_t) const override { return "xx"; }
  std::optional<int32_t> TokenId(std::string_view) const override { return {}; }
};

TEST_F(CorpusTest, EveryDocumentEnds) {
  const std::string lines = Write("a.jsonl", R"({"text": "one"}
{"text": ""}
{"text": "two\n"}
)"),
                    list = Write("b.json", R"([{"text": "x"}, {"text": "y"}])"), plain = Write("c.txt", "file");
  const Corpus bytes({lines, list, plain, plain}, tokenizer_.get(), 256, {.eos = 0});
  EXPECT_EQ(Text(bytes), std::string("one\0two\n\0x\0y\0file\0file\0", 23));
  EXPECT_EQ(bytes.eos(), 0);
  EXPECT_NE(bytes.Describe().find("23 tokens in 6 documents"), std::string::npos) << bytes.Describe();

  const TwoBytes pairs;
  const auto id = [](int a, int b) { return a * 256 + b; };
  EXPECT_EQ(All(Corpus({lines, plain}, &pairs, 70000, {.eos = 69999})),
            (std::vector<int32_t>{id('o', 'n'), 'e', 69999, id('t', 'w'), id('o', '\n'), 69999, id('f', 'i'),
                                  id('l', 'e'), 69999}));
  // Without one, texts of JSON are a single text.
  EXPECT_EQ(All(Corpus({lines}, &pairs, 70000)),
            (std::vector<int32_t>{id('o', 'n'), id('e', '\n'), id('t', 'w'), id('o', '\n')}));
  // Ids are what their writer made of them.
  EXPECT_EQ(All(Corpus({Write("t.u16", std::string("\1\0\2\0", 4))}, &pairs, 70000, {.eos = 7})),
            (std::vector<int32_t>{1, 2}));
}

TEST_F(CorpusTest, TheEndOfALargeFileIsReadLikeTheRest) {
  const std::string text((size_t{65} << 20) - 3, 'x');  // above what is copied
  const Corpus corpus({Write("large.txt", text), Write("b.txt", "b")}, tokenizer_.get(), 256, {.eos = 1});
  ASSERT_EQ(corpus.size(), static_cast<int64_t>(text.size()) + 3);
  std::vector<int32_t> last(5);
  corpus.Read(corpus.size() - 5, 5, last.data());
  EXPECT_EQ(last, (std::vector<int32_t>{'x', 'x', 1, 'b', 1}));
  corpus.Read(corpus.size() - 3, 1, last.data());
  EXPECT_EQ(last[0], 1);
}

TEST_F(CorpusTest, BinaryDataIsFoundWhereverItBegins) {
  std::string late(size_t{5} << 20, 'x');
  late[late.size() - 2] = '\0';
  const std::string error = ErrorOf(Write("late.txt", late));
  EXPECT_NE(error.find("binary data (byte 5242878 is NUL)"), std::string::npos) << error;
  EXPECT_NE(error.find("under a name that ends in .u8"), std::string::npos) << error;
  const Corpus raw({Write("late.u8", late)}, tokenizer_.get(), 256);
  EXPECT_EQ(raw.size(), static_cast<int64_t>(late.size()));
  EXPECT_TRUE(raw.bytes_are_tokens());
}

TEST_F(CorpusTest, HeadersOfTokenFilesAreNoTokens) {
  std::string header = "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }";
  header.resize(118, ' ');
  const std::string npy = std::string("\x93NUMPY\x01\0\x76\0", 10) + header;
  const std::string good = npy + std::string("\x01\0\0\0\x02\0\0\0\x03\0\0\0", 12);
  EXPECT_EQ(All(Corpus({Write("a.npy", good)}, nullptr, 100)), (std::vector<int32_t>{1, 2, 3}));
  const std::string error = ErrorOf(Write("b.npy", npy + std::string("\x01\0\0\0\xfe\xff\xff\xff\x03\0\0\0", 12)), 100);
  EXPECT_NE(error.find("token 1 (byte 132) is outside the vocabulary, expected an id below 100"), std::string::npos);
  EXPECT_NE(error.find("found -2"), std::string::npos) << error;
}

TEST_F(CorpusTest, TheEndOfEachFileIsHeldOut) {
  std::string a(1000, 'a'), b(3000, 'b');
  a.replace(900, 100, std::string(100, 'A'));
  b.replace(2700, 300, std::string(300, 'B'));
  Corpus corpus({Write("a.txt", a), Write("b.txt", b)}, tokenizer_.get(), 256);
  const std::unique_ptr<Corpus> held = corpus.HoldOut(0.1);
  EXPECT_EQ(Text(corpus), std::string(900, 'a') + std::string(2700, 'b'));
  EXPECT_EQ(Text(*held), std::string(100, 'A') + std::string(300, 'B'));
  EXPECT_TRUE(held->bytes_are_tokens());
  EXPECT_EQ(corpus.stamps().size(), 2u);
}

TEST_F(CorpusTest, OfManySmallFilesWholeOnesAreHeldOut) {
  std::vector<std::string> paths;
  for (int i = 0; i < 40; ++i) paths.push_back(Write(fmt::format("{:02}.txt", i), fmt::format("document {:02}\n", i)));
  Corpus corpus(paths, tokenizer_.get(), 256);
  const std::string held = Text(*corpus.HoldOut(0.05)), kept = Text(corpus);
  EXPECT_EQ(held, "document 09\ndocument 29\n");
  EXPECT_EQ(held.size() + kept.size(), 480u);
  for (size_t i = 0; i < kept.size(); i += 12) EXPECT_EQ(held.find(kept.substr(i, 12)), std::string::npos);
}

TEST_F(CorpusTest, FewTokensAreSharedExactly) {
  Corpus corpus({Write("a.txt", "0123456789")}, tokenizer_.get(), 256);
  EXPECT_EQ(Text(*corpus.HoldOut(0.01)), "");
  EXPECT_EQ(Text(*corpus.HoldOut(0.2)), "89");
  EXPECT_EQ(Text(*corpus.HoldOut(0.99)), "01234567");
  EXPECT_EQ(corpus.size(), 0);
}

TEST_F(CorpusTest, TokenFilesAreLittleEndian) {
  const std::string bytes("\x01\x00\x02\x01\xff\x7f\x00\x00", 8);
  const std::vector<int32_t> as16 = {1, 0x102, 0x7fff, 0}, as32 = {0x01020001, 0x7fff};
  EXPECT_EQ(All(Corpus({Write("t.u16", bytes)}, nullptr, 1 << 16)), as16);
  EXPECT_EQ(All(Corpus({Write("t.bin", bytes)}, nullptr, 1 << 16)), as16);
  EXPECT_EQ(All(Corpus({Write("t.u32", bytes)}, nullptr, 1 << 25)), as32);
  EXPECT_FALSE(Corpus({folder_ / "t.u16"}, nullptr, 1 << 16).bytes_are_tokens());
}

TEST_F(CorpusTest, RefusesTokensOutsideTheVocabularyBeforeAnyIsRead) {
  const std::string path = Write("t.u16", std::string("\x01\x00\x02\x00\x61\x00\x03\x00", 8));
  EXPECT_EQ(ErrorOf(path, 97),
            path +
                ": token 2 (byte 4) is outside the vocabulary, expected an id below 97, found 97 (read as "
                "16-bit tokens)");
  EXPECT_EQ(All(Corpus({path}, nullptr, 98)), (std::vector<int32_t>{1, 2, 97, 3}));
  // Far behind the bytes that the kind is found by.
  std::string far(size_t{9} << 20, '\0');
  far[far.size() - 1] = 1;
  EXPECT_NE(ErrorOf(Write("far.u16", far), 256).find("found 256"), std::string::npos);
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
