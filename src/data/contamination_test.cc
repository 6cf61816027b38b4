#include "data/contamination.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/parallel.h"
#include "base/test_folder.h"

namespace taipan {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string Numbered(const std::string& word, int from, int to) {
  std::string text;
  for (int i = from; i < to; ++i) text += word + std::to_string(i) + " ";
  return text;
}

class ContaminationTest : public testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& content) const {
    WriteFileAtomically(folder_ / name, content);
    return folder_ / name;
  }
  TestFolder folder_;
};

TEST_F(ContaminationTest, WordsAreComparedWithoutTheirDress) {
  EXPECT_THAT(WordsOf("The  QUICK-brown\nfox, caf\u00e9 2nd!"),
              ElementsAre("the", "quick", "brown", "fox", "caf\u00e9", "2nd"));
  EXPECT_THAT(WordsOf(" ,. "), ElementsAre());
}

TEST_F(ContaminationTest, CountsPlacesOfThirteenWords) {
  // 20 words have 8 places of 13; words 5 to 19 stand in the training text, in capitals and with commas: 3 places.
  std::string shared = Numbered("W", 5, 20);
  std::replace(shared.begin(), shared.end(), ' ', ',');
  const std::string train = Write("train.jsonl", "{\"text\": \"" + Numbered("x", 0, 50) + shared +
                                                     "\"}\n{\"text\": \"" + Numbered("clean", 0, 12) + "\"}\n");
  const std::string eval = Write(
      "eval.jsonl", "{\"text\": \"" + Numbered("w", 0, 20) + "\"}\n{\"question\": \"" + Numbered("x", 10, 25) +
                        "\", \"choices\": [\"a\", \"b\"]}\n{\"text\": \"" + Numbered("other", 0, 30) +
                        "\"}\n{\"text\": \"clean3 clean4\"}\n" + "{\"text\": \"clean4 clean3\"}\n{\"text\": \" \"}\n");
  for (const int threads : {1, 3}) {
    SetNumThreads(threads);
    const ContaminationReport report = FindContamination({train}, {eval}, 13, nullptr);
    ASSERT_EQ(report.documents.size(), 5u);  // the blank one has no words
    EXPECT_EQ(report.documents[0].name, eval + ":1");
    EXPECT_EQ(report.documents[0].ngrams, 8);
    EXPECT_EQ(report.documents[0].found, 3);
    EXPECT_EQ(report.documents[1].ngrams, 15 + 2 - 12);
    EXPECT_EQ(report.documents[1].found, 3);
    EXPECT_EQ(report.documents[2].found, 0);
    EXPECT_EQ(report.documents[3].found, 1);  // fewer than 13 words: as a whole
    EXPECT_EQ(report.documents[4].found, 0);
    EXPECT_EQ(report.short_documents, 2);
    EXPECT_EQ(report.training_documents, 2);
  }
  SetNumThreads(1);
}

TEST_F(ContaminationTest, RefusesWhatHoldsNoWords) {
  const std::string train = Write("train.txt", "some words");
  EXPECT_THAT(UserErrorOf([&] { FindContamination({train}, {Write("e.txt", " .,")}, 13, nullptr); }),
              HasSubstr("e.txt: holds no words"));
  EXPECT_THAT(UserErrorOf([&] { FindContamination({folder_ / "none"}, {train}, 13, nullptr); }),
              HasSubstr("no such file"));
}

}  // namespace
}  // namespace taipan
