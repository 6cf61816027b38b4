#include "train/event_file.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/test_folder.h"

namespace taipan {
namespace {

std::string FromHex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  }
  return bytes;
}

TEST(EventFile, ChecksumsAreCastagnolis) {
  EXPECT_EQ(Crc32c(""), 0u);
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);            // the check value of the polynomial
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62A8AB43u);
}

// What TensorBoard's own writer (2.21) made of the same events.
TEST(EventFile, BytesAreThoseOfTensorBoardsWriter) {
  EXPECT_EQ(VersionRecord(1700000000.25),
            FromHex("1800000000000000a37f4b220900001040fc54d9411a0d627261696e2e4576656e743a32338d2fe9"));
  EXPECT_EQ(ScalarRecord(1700000000.25, 300, {{"train/loss", 2.5}, {"train/learning_rate", 1e-3}}),
            FromHex("3d000000000000006049f1ec0900001040fc54d94110ac022a2f0a110a0a747261696e2f6c6f73731500002040"
                    "0a1a0a13747261696e2f6c6561726e696e675f72617465156f12833ac3bac719"));
}

class EventFolderTest : public testing::Test {
 protected:
  std::string All() const {
    std::string all;
    for (const std::string& name : ListDirectory(folder_.path())) all += ReadFile(folder_ / name);
    return all;
  }
  std::string Path() const { return folder_ / ListDirectory(folder_.path()).at(0); }
  TestFolder folder_;
};

TEST_F(EventFolderTest, LaterStepsAndTornRecordsAreCut) {
  const std::string version = VersionRecord(1), other = "not/an/event.file";
  std::string kept = version, all;
  for (int64_t step = 1; step <= 400; ++step) {
    const std::string record = ScalarRecord(2, step, {{"loss", 1.0 / static_cast<double>(step)}});
    if (step <= 200) kept += record;
    all += record;
  }
  WriteFileAtomically(folder_ / "events.out.tfevents.1.taipan.7", version + all);
  WriteFileAtomically(folder_ / "notes.txt", other);
  CutEvents(folder_.path(), 200);
  EXPECT_EQ(All(), kept + other);
  WriteFileAtomically(folder_ / "events.out.tfevents.1.taipan.7", kept + version.substr(0, version.size() - 1));
  CutEvents(folder_.path(), 1000);
  EXPECT_EQ(All(), kept + other);
  std::string damaged = kept;
  damaged[damaged.size() - 6] ^= 1;
  WriteFileAtomically(folder_ / "events.out.tfevents.1.taipan.7", damaged);
  CutEvents(folder_.path(), 1000);
  EXPECT_LT(All().size(), kept.size());
  CutEvents(folder_ / "missing", 1);
}

TEST_F(EventFolderTest, WritesAtOnce) {
  EventFile file(folder_.path());
  const size_t before = All().size();
  EXPECT_EQ(before, VersionRecord(1).size());
  EXPECT_EQ(file.Add(7, {{"loss", 2}}), "");
  EXPECT_EQ(All().size(), before + ScalarRecord(1, 7, {{"loss", 2}}).size());
}

}  // namespace
}  // namespace taipan
