#include "data/find_data.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/files.h"
#include "base/test_folder.h"
#include "data/corpus.h"

namespace taipan {
namespace {

class FindDataTest : public testing::Test {
 protected:
  void Write(const std::string& name, const std::string& content = "some text") {
    const std::string path = folder_ / name;
    MakeDirectories(std::filesystem::path(path).parent_path().string());
    WriteFileAtomically(path, content);
  }
  static void WriteAll(const std::string& path, const std::string& content) {
    const int fd = ::open(path.c_str(), O_WRONLY);
    EXPECT_EQ(::write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size()));
    ::close(fd);
  }
  std::vector<std::string> Names(const std::vector<std::string>& paths) const {
    std::vector<std::string> names;
    for (const std::string& path : paths) {
      names.push_back(std::filesystem::relative(path, folder_ / "d").string());
    }
    return names;
  }
  DataFiles Find(DataUse use = DataUse::kTraining) const { return FindData({folder_ / "d"}, use); }

  using List = std::vector<std::string>;
  TestFolder folder_;
  const std::string ids_ = std::string("\x05\x00\x07\x01", 4);
};

TEST_F(FindDataTest, ANanoGptFolderHasTrainingAndValidationData) {
  Write("d/train.bin", ids_);
  Write("d/val.bin", ids_);
  Write("d/meta.pkl", "\x80\x04}.");
  Write("d/input.txt");
  Write("d/prepare.py");
  const DataFiles found = Find();
  EXPECT_EQ(Names(found.files), (List{"train.bin"}));
  EXPECT_EQ(Names(found.valid), (List{"val.bin"}));
  ASSERT_EQ(found.notes.size(), 2u);
  EXPECT_EQ(found.notes[0], "in " + (folder_ / "d") + " train.bin is training data, val.bin validation data");
  EXPECT_NE(found.notes[1].find("input.txt"), std::string::npos);
  EXPECT_NE(found.notes[1].find("meta.pkl"), std::string::npos);
  EXPECT_EQ(Names(Find(DataUse::kValidation).files), (List{"val.bin"}));
  EXPECT_FALSE(HoldsText({folder_ / "d"}, DataUse::kTraining));
}

TEST_F(FindDataTest, SharedPrefixesShardsAndFoldersAreSplitToo) {
  Write("d/news_train_000001.bin", ids_);
  Write("d/news_train_000002.bin", ids_);
  Write("d/news_val_000000.bin", ids_);
  EXPECT_EQ(Names(Find().files), (List{"news_train_000001.bin", "news_train_000002.bin"}));
  EXPECT_EQ(Names(Find().valid), (List{"news_val_000000.bin"}));
  RemoveTree(folder_ / "d");
  for (const char* use : {"train", "validation", "test"}) {
    Write(std::string("d/") + use + "-00000-of-00001.jsonl", "{\"text\": \"a\"}");
  }
  EXPECT_EQ(Names(Find().files), (List{"train-00000-of-00001.jsonl"}));
  EXPECT_EQ(Names(Find().valid), (List{"validation-00000-of-00001.jsonl"}));
  RemoveTree(folder_ / "d");
  Write("d/train/a.txt");
  Write("d/train/b/valid.txt");  // a name below a folder that has a use means nothing
  Write("d/valid/c.txt");
  EXPECT_EQ(Names(Find().files), (List{"train/a.txt", "train/b/valid.txt"}));
  EXPECT_EQ(Names(Find().valid), (List{"valid/c.txt"}));
}

TEST_F(FindDataTest, NamesWithoutACounterpartMeanNothing) {
  Write("d/night-train.txt");
  Write("d/the-test.txt");
  Write("d/valley.txt");
  Write("d/contest.txt");
  EXPECT_EQ(Find().files.size(), 4u);
  EXPECT_TRUE(Find().notes.empty());
}

TEST_F(FindDataTest, AnEmptyTrainingFileDoesNotMakeTheValidationDataTrain) {
  Write("d/train.bin", "");
  Write("d/val.bin", ids_);
  EXPECT_NE(UserErrorOf([&] { Find(); }).find("holds no data"), std::string::npos);
  Write("d/train.bin", ids_);
  Write("d/val.bin", "");
  Write("d/input.txt");
  EXPECT_EQ(Names(Find().files), (List{"train.bin"}));
  EXPECT_TRUE(Find().valid.empty());
}

TEST_F(FindDataTest, LinksThatAreNotFollowedAreLeftOutAloud) {
  Write("d/a.txt");
  std::filesystem::create_symlink("nowhere", folder_ / "d/gone.txt");
  std::filesystem::create_symlink(".", folder_ / "d/self");
  EXPECT_EQ(Names(Find().files), (List{"a.txt"}));
  ASSERT_EQ(Find().notes.size(), 1u);
  EXPECT_NE(Find().notes[0].find("gone.txt (no file)"), std::string::npos) << Find().notes[0];
  EXPECT_NE(Find().notes[0].find("self (a link to a folder)"), std::string::npos) << Find().notes[0];
}

TEST_F(FindDataTest, WhatIsNoDataIsLeftOutAloud) {
  Write("d/a.txt");
  Write("d/b.jsonl", "{\"text\": \"x\"}");
  Write("d/c.png", std::string("\x89PNG\r\n\x1a\n\0\0", 10));
  Write("d/config.json", "{\n}");
  EXPECT_EQ(Names(Find().files), (List{"a.txt", "b.jsonl"}));
  ASSERT_EQ(Find().notes.size(), 1u);
  EXPECT_NE(Find().notes[0].find("c.png (a PNG image), config.json (a single JSON object)"), std::string::npos)
      << Find().notes[0];
  RemoveTree(folder_ / "d/a.txt");
  RemoveTree(folder_ / "d/b.jsonl");
  const std::string error = UserErrorOf([&] { Find(); });
  EXPECT_NE(error.find("holds no data, expected at least one file with text or tokens, found c.png (a PNG image)"),
            std::string::npos)
      << error;
}

TEST_F(FindDataTest, TextAndTokensAreNotJoined) {
  Write("d/a.txt");
  Write("d/b.bin", ids_);
  const std::string error = UserErrorOf([&] { Find(); });
  EXPECT_NE(error.find("both text and token files, expected one of the two, found text (a.txt) and tokens (b.bin)"),
            std::string::npos)
      << error;
  EXPECT_EQ(FindData({folder_ / "d/a.txt", folder_ / "d/b.bin"}, DataUse::kTraining).files.size(), 2u);
}

TEST_F(FindDataTest, PipesAreReadOnce) {
  Write("d/a.txt");
  const std::string pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::thread writer([&] { WriteAll(pipe, "piped"); });
  const ByteTokenizer tokenizer;
  EXPECT_TRUE(HoldsText({pipe}, DataUse::kTraining));
  EXPECT_EQ(Corpus({pipe}, &tokenizer, 256).size(), 5);
  writer.join();
  EXPECT_NE(UserErrorOf([&] { Corpus({pipe}, &tokenizer, 256); }).find("was read already"), std::string::npos);
}

}  // namespace
}  // namespace taipan
