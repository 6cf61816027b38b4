#include "data/tokenize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "base/content_hash.h"
#include "base/parallel.h"
#include "base/test_folder.h"
#include "data/corpus.h"
#include "data/encode_document.h"
#include "data/file_kind.h"
#include "data/shard.h"
#include "text/bpe/bpe_train.h"

namespace taipan {
namespace {

using testing::HasSubstr;

std::vector<int32_t> All(const Corpus& corpus) {
  std::vector<int32_t> tokens(static_cast<size_t>(corpus.size()));
  corpus.Read(0, corpus.size(), tokens.data());
  return tokens;
}

std::string SomeWords(int64_t count) {
  std::string text;
  for (int64_t i = 0; i < count; ++i)
    text += (i % 9 == 0 ? "\n" : " ") + std::string("word") + std::to_string(i * i % 97);
  return text;
}

class TokenizeTest : public testing::Test {
 protected:
  void SetUp() override {
    SetNumThreads(1);
    WordCounts words;
    words.Add(SomeWords(300));
    WriteFileAtomically(folder_ / "tokenizer.json",
                        TokenizerJson(TrainBpe(words, 320, {"<|endoftext|>"}, [](int64_t) {})));
    tokenizer_ = LoadTokenizer(folder_ / "tokenizer.json");
    std::string lines;
    for (int i = 0; i < 40; ++i) {
      lines += "{\"text\": \"line " + std::to_string(i) + (i % 7 == 3 ? "\"}\r\n\n" : " of text\"}\n");
    }
    lines += R"({"text": ""})";
    WriteFileAtomically(folder_ / "a.jsonl", "\xef\xbb\xbf" + lines);
    WriteFileAtomically(folder_ / "b.txt", SomeWords(100));
    WriteFileAtomically(folder_ / "c.json", R"([{"text": "one"}, {"text": "two \u00e9"}])");
  }
  TokenizeRequest Request(const std::string& out, int64_t shard_tokens = 250) const {
    TokenizeRequest request;
    request.data = {folder_ / "a.jsonl", folder_ / "b.txt", folder_ / "c.json"};
    request.tokenizer = tokenizer_.get();
    request.tokenizer_name = "test";
    request.tokenizer_files = {{"tokenizer.json", ReadFile(folder_ / "tokenizer.json")}};
    request.eos = 0;
    request.shard_tokens = shard_tokens;
    request.out = folder_ / out;
    return request;
  }
  std::map<std::string, std::string> Contents(const std::string& out) const {
    std::map<std::string, std::string> all;
    for (const std::string& name : ListDirectory(folder_ / out)) {
      if (name != "tokenizer") all[name] = ReadFile(folder_ / out + "/" + name);
    }
    return all;
  }
  std::string ErrorOf(const TokenizeRequest& request) const {
    return UserErrorOf([&] { TokenizeData(request); });
  }
  std::string ErrorOfReading(const std::string& out) const {
    return UserErrorOf([&] { Corpus({folder_ / out}, tokenizer_.get(), 320, {.eos = 0}); });
  }

  TestFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(TokenizeTest, ShardsHoldWhatIsReadFromTheText) {
  const TokenizeRequest request = Request("shards");
  const ShardManifest made = TokenizeData(request);
  EXPECT_EQ(made.shards.size(), 4u);
  EXPECT_EQ(made.documents(), 43);
  EXPECT_TRUE(made.complete);
  const Corpus text(request.data, tokenizer_.get(), 320, {.eos = 0}),
      shards({request.out}, tokenizer_.get(), 320, {.eos = 0});
  EXPECT_EQ(All(shards), All(text));
  EXPECT_EQ(shards.size(), made.tokens());
  EXPECT_EQ(shards.eos(), 0);
  EXPECT_THAT(shards.Describe(), HasSubstr("in 43 documents"));
  // Without a tokenizer they say themselves what they are.
  EXPECT_EQ(Corpus({request.out}, nullptr, 320).eos(), 0);
  EXPECT_FALSE(HoldsText({request.out}, DataUse::kTraining));
  for (const ShardManifest::Shard& shard : made.shards) EXPECT_LE(shard.tokens, 400) << shard.file;  // b.txt is one
  // A shard alone.
  EXPECT_EQ(Corpus({request.out + "/tokens-00001.shard"}, tokenizer_.get(), 320).size(), made.shards[1].tokens);
}

TEST_F(TokenizeTest, BytesDoNotDependOnThreads) {
  TokenizeData(Request("straight"));
  SetNumThreads(3);
  TokenizeData(Request("threads"));
  SetNumThreads(1);
  EXPECT_EQ(Contents("threads"), Contents("straight"));
}

TEST_F(TokenizeTest, WhatWasStoppedGoesOn) {
  TokenizeData(Request("straight"));
  const std::map<std::string, std::string> straight = Contents("straight");
  for (const size_t stop : {size_t{0}, size_t{2}}) {
    // As a full disk would: the shard cannot be put in its place.
    const std::string blocked = folder_ / "out" + fmt::format("/tokens-{:05}.shard", stop);
    TokenizeRequest request = Request("out");
    MakeDirectories(folder_ / "out");
    WriteManifest(ReadManifest(folder_ / "straight"), folder_ / "out");
    ShardManifest begun = ReadManifest(folder_ / "out");
    begun.shards.clear();
    begun.next = {};
    begun.complete = false;
    WriteManifest(begun, folder_ / "out");
    MakeDirectories(blocked + "/x");
    EXPECT_NE(ErrorOf(request), "");
    EXPECT_EQ(ReadManifest(folder_ / "out").shards.size(), stop);
    EXPECT_FALSE(ReadManifest(folder_ / "out").complete);
    RemoveTree(blocked);
    EXPECT_TRUE(TokenizeData(request).complete);
    EXPECT_EQ(Contents("out"), straight) << stop;
    RemoveTree(folder_ / "out");
  }
}

TEST_F(TokenizeTest, ABadLineEndsItBeforeTraining) {
  TokenizeRequest request = Request("out");
  WriteFileAtomically(folder_ / "c.json", "{\"text\": \"good\"}\n{\"text\": 7}\n");
  EXPECT_THAT(ErrorOf(request), HasSubstr("c.json:2: no string \"text\""));
  EXPECT_THAT(ErrorOfReading("out"), HasSubstr("the shards are not complete"));
}

TEST_F(TokenizeTest, RefusesToMixAndLeavesWhatIsComplete) {
  TokenizeData(Request("shards"));
  const std::map<std::string, std::string> before = Contents("shards");
  EXPECT_TRUE(TokenizeData(Request("shards")).complete);
  TokenizeRequest other = Request("shards");
  other.eos = 5;
  EXPECT_THAT(ErrorOf(other), HasSubstr("begun with another end of text, expected 0, found 5"));
  const ByteTokenizer bytes;
  other = Request("shards");
  other.tokenizer = &bytes;
  EXPECT_THAT(ErrorOf(other), HasSubstr("begun with another tokenizer"));
  EXPECT_THAT(ErrorOf(Request("shards", 50)), HasSubstr("another --shard-tokens, expected 250, found 50"));
  WriteFileAtomically(folder_ / "b.txt", "another text");
  EXPECT_THAT(ErrorOf(Request("shards")), HasSubstr("other data: file 2"));
  EXPECT_EQ(Contents("shards"), before);
  WriteFileAtomically(folder_ / "t.u16", "abcd");
  other = Request("new");
  other.data = {folder_ / "t.u16"};
  EXPECT_THAT(ErrorOf(other), HasSubstr("t.u16: no text to tokenize, expected text or JSON with texts, found 16-bit"));
}

TEST_F(TokenizeTest, DamagedShardsAreRefused) {
  TokenizeData(Request("shards"));
  const std::string path = folder_ / "shards/tokens-00001.shard", good = ReadFile(path);
  const auto write = [&](const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; };
  for (size_t at = 128; at < good.size(); at += 37) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    write(bytes);
    EXPECT_THAT(ErrorOfReading("shards"), HasSubstr("tokens-00001.shard: the shard is damaged")) << at;
  }
  write(good.substr(0, good.size() - 8));
  EXPECT_THAT(ErrorOfReading("shards"), HasSubstr("the header of the shard does not fit the file"));
  std::string newer = good;
  newer[8] = 2;
  write(newer);
  EXPECT_THAT(ErrorOfReading("shards"), HasSubstr("a shard of another version, expected 1, found 2"));
  RemoveTree(path);
  EXPECT_THAT(ErrorOfReading("shards"), HasSubstr("tokens-00001.shard: the manifest names this shard"));
}

// Whole, with a fitting checksum, and no shard that tokenize would write.
TEST_F(TokenizeTest, DocumentsWithoutTokensAreRefused) {
  TokenizeData(Request("shards"));
  const std::string good = ReadFile(folder_ / "shards/tokens-00001.shard"), path = folder_ / "one.shard";
  const ShardHeader header = ReadShardHeader(path, good, static_cast<int64_t>(good.size()));
  ASSERT_GT(header.documents, 3);
  const auto error_with = [&](int64_t document, uint64_t begin) {
    std::string bytes = good;
    const auto store = [&](int64_t at, uint64_t value) {
      for (int i = 0; i < 8; ++i) bytes[static_cast<size_t>(at + i)] = static_cast<char>(value >> (8 * i));
    };
    store(header.documents_begin() + 8 * document, begin);
    ContentHash hash;
    hash.Add(bytes.data() + header.ids_begin(), header.file_size() - header.ids_begin());
    store(64, hash.Finish());
    WriteFileAtomically(path, bytes);
    return UserErrorOf([&] { Corpus({path}, tokenizer_.get(), 320); });
  };
  const uint64_t second = LoadLittle(good.data() + header.documents_begin() + 8, 8);
  EXPECT_EQ(error_with(1, second), "");
  EXPECT_THAT(error_with(0, 1), HasSubstr("one.shard: document 0 of the shard has no tokens"));
  EXPECT_THAT(error_with(2, second), HasSubstr(fmt::format("one from {} to {}", second, second)));
  EXPECT_THAT(error_with(2, second - 1), HasSubstr("document 1 of the shard has no tokens"));
  EXPECT_THAT(error_with(header.documents - 1, uint64_t(header.tokens)), HasSubstr("has no tokens"));
  EXPECT_THAT(error_with(header.documents - 1, ~uint64_t{0}), HasSubstr("has no tokens"));
}

// Whole shards of the same tokenizer, under each other's names.
TEST_F(TokenizeTest, AShardThatTheManifestDoesNotNameIsRefused) {
  TokenizeData(Request("shards"));
  const std::string first = folder_ / "shards/tokens-00000.shard", second = folder_ / "shards/tokens-00001.shard";
  const std::string bytes = ReadFile(first);
  WriteFileAtomically(first, ReadFile(second));
  EXPECT_THAT(ErrorOfReading("shards"), HasSubstr("tokens-00000.shard: not the shard that the manifest names"));
  WriteFileAtomically(first, "no shard");
  EXPECT_THAT(ErrorOfReading("shards"), HasSubstr("found no shard"));
  WriteFileAtomically(first, bytes);
  EXPECT_EQ(ErrorOfReading("shards"), "");
}

TEST_F(TokenizeTest, ShardsOfAnotherTokenizerAreRefused) {
  TokenizeData(Request("shards"));
  WordCounts words;
  words.Add(SomeWords(300));
  WriteFileAtomically(folder_ / "b.json", TokenizerJson(TrainBpe(words, 320, {"<|end|>"}, [](int64_t) {})));
  const std::unique_ptr<Tokenizer> other = LoadTokenizer(folder_ / "b.json"),
                                   same = LoadTokenizer(folder_ / "tokenizer.json");
  EXPECT_EQ(TokenizerDigest(*same), TokenizerDigest(*tokenizer_));
  EXPECT_THAT(UserErrorOf([&] { Corpus({folder_ / "shards"}, other.get(), 320, {.eos = 0}); }),
              HasSubstr("tokens-00000.shard: the shard was made with another tokenizer"));
  EXPECT_THAT(UserErrorOf([&] { Corpus({folder_ / "shards"}, tokenizer_.get(), 320, {.eos = 9}); }),
              HasSubstr("ends its documents with another token, expected token 9, found token 0"));
  EXPECT_THAT(UserErrorOf([&] { Corpus({folder_ / "shards"}, nullptr, 100); }), HasSubstr("outside the vocabulary"));
  // Mixed, where there is no tokenizer to compare them with.
  TokenizeRequest mixed = Request("other");
  mixed.tokenizer = other.get();
  TokenizeData(mixed);
  EXPECT_THAT(UserErrorOf([&] {
                Corpus({folder_ / "shards", folder_ / "other"}, nullptr, 320);
              }),
              HasSubstr("tokens-00000.shard: the shard was made with another tokenizer, expected digest "));
}

TEST_F(TokenizeTest, LongTextsAreTheSameInPieces) {
  const std::string text = SomeWords(120'000);
  ASSERT_GT(text.size(), size_t{3} << 18);
  EXPECT_EQ(EncodeParallel(*tokenizer_, text), tokenizer_->Encode(text));
}

}  // namespace
}  // namespace taipan
