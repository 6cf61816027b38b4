#include "data/file_kind.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/test_folder.h"

namespace taipan {
namespace {

using std::string_literals::operator""s;

std::string Ids(const std::vector<uint64_t>& ids, int64_t width) {
  std::string bytes;
  for (uint64_t id : ids) {
    for (int64_t i = 0; i < width; ++i) bytes += static_cast<char>(id >> (8 * i));
  }
  return bytes;
}
std::vector<uint64_t> ManyIds(uint64_t below) {
  std::vector<uint64_t> ids;
  for (uint64_t i = 0; i < 64; ++i) ids.push_back((i * 7919 + 3) % below);
  return ids;
}
std::string Npy(const std::string& type, const std::string& shape, const std::string& values) {
  std::string header = "{'descr': " + type + ", 'fortran_order': False, 'shape': " + shape + ", }";
  header.resize(118, ' ');
  return "\x93NUMPY\x01\0"s + Ids({header.size()}, 2) + header + values;
}
std::string Llmc(uint64_t magic, uint64_t count, const std::string& values) {
  std::string header = Ids({magic, 1, count}, 4);
  header.resize(1024, '\0');
  return header + values;
}

DataFormat Recognise(const std::string& name, const std::string& content, int64_t vocab_size = 50257) {
  return RecogniseData(name, content.substr(0, kHeadBytes), static_cast<int64_t>(content.size()), vocab_size);
}
std::string ErrorOf(const std::string& name, const std::string& content, int64_t vocab_size = 50257) {
  const std::string error = UserErrorOf([&] { Recognise(name, content, vocab_size); });
  EXPECT_EQ(error.rfind(name + ": ", 0), 0u) << error;
  return error;
}

TEST(FileKind, ContentComesBeforeTheName) {
  EXPECT_EQ(Recognise("a.txt", "Some text\nof two lines").kind, DataKind::kText);
  EXPECT_EQ(Recognise("noname",
                      "Gr\xc3\xbc\xc3\x9f"
                      "e")
                .kind,
            DataKind::kText);
  EXPECT_EQ(Recognise("latin1.txt",
                      "Gr\xfc\xdf"
                      "e aus Z\xfcrich")
                .kind,
            DataKind::kText);
  EXPECT_EQ(Recognise("a.jsonl", "{\"id\": 1}").kind, DataKind::kJsonLines);
  EXPECT_EQ(Recognise("a.JSONL", "\n{\"text\": \"x\"}\n").kind, DataKind::kJsonLines);
  EXPECT_EQ(Recognise("standard input", "{\"text\": \"x\"}\n{\"text\": \"y\"}").kind, DataKind::kJsonLines);
  EXPECT_EQ(Recognise("a.txt", "{\"text\": \"x\", \"id\": 7}\n").kind, DataKind::kJsonLines);
  EXPECT_EQ(Recognise("a.txt", "{\"text\": \"" + std::string(100000, 'x') + "\"}\n").kind, DataKind::kJsonLines);
  EXPECT_EQ(Recognise("a.txt", "{curly} and more").kind, DataKind::kText);
  EXPECT_EQ(Recognise("a.txt", "[1] A footnote").kind, DataKind::kText);
  EXPECT_EQ(Recognise("a.json", "{\"text\": \"x\"}\n{\"text\": \"y\"}").kind, DataKind::kJsonLines);
  EXPECT_EQ(Recognise("a.json", "  [\n {\"text\": \"x\"}]").kind, DataKind::kJsonList);
  EXPECT_EQ(Recognise("a.jsonl", "[{\"text\": \"x\"}]").kind, DataKind::kJsonList);
  EXPECT_EQ(Recognise("", "[{\"text\": \"x\"}]").kind, DataKind::kJsonList);
  EXPECT_EQ(Recognise("a.txt", "GGUF is a format, RIFF another").kind, DataKind::kText);
  EXPECT_EQ(Recognise("a.txt", "\x1f\x8b\x08\0\0\0\0\0\0\0\x03"s).kind, DataKind::kPacked);
  EXPECT_EQ(Recognise("a.u8", "\x89PNG\r\n\x1a\n\0\0"s).kind, DataKind::kTokens);
}

TEST(FileKind, RefusesWhatIsNoDataByItsName) {
  const std::string more = "\x01\x02\0\0\xff\xfe"s;
  const std::vector<std::array<std::string, 3>> cases = {
      {"a.parquet", "PAR1" + more, "a Parquet file"},
      {"a.parquet", "no parquet at all", "the name promises a Parquet file"},
      {"a.txt", "PAR1" + more, "a Parquet file"},
      {"a.bin", "PAR1" + more, "a Parquet file"},
      {"a.arrow", "ARROW1\0\0"s + more, "an Arrow file"},
      {"a.arrow", "\xff\xff\xff\xff\x10\x02\0\0"s, "an Arrow stream"},
      {"a.txt", "\x89PNG\r\n\x1a\n" + more, "a PNG image"},
      {"a.u16", "\x89PNG\r\n\x1a\n" + more, "a PNG image"},
      {"a.jsonl", "%PDF-1.4 and so on", "a PDF document"},
      {"a.zip", "PK\x03\x04" + more, "a zip archive"},
      {"a.txt.zst", "plain text", "the name promises a Zstandard file"},
      {"a",
       "\x7f"
       "ELF" +
           more,
       "an ELF program"},
      {"meta.pkl", "\x80\x04}.", "a Python pickle"},
      {"a.db", "SQLite format 3\0"s + more, "an SQLite database"},
      {"a.tar", std::string(257, 'a').append("ustar").append(more), "a tar archive"},
      {"model.safetensors", Ids({500}, 8) + "{\"__metadata__\"", "a safetensors file"},
      {"a.txt", "\xff\xfeH\0i\0"s, "UTF-16 text"},
      {"a.txt", "\xfe\xff\0H\0i"s, "UTF-16 text"},
      {"a.txt", "H\0e\0l\0l\0o\0"s, "UTF-16 text without a byte order mark"},
      {"a.txt", "abc\0def"s, "binary data"},
      {"a.txt", "a\x01\x02\xff\x81\x05\x06xyz\xfa", "binary data"},
      {"a.gz", "plain", "promises a gzip file"},
      {"a.npy", "plain", "promises a NumPy array"},
      {"a.pkl", "(dp0\nVa\np1\n", "promises a Python pickle"},  // protocol 0 is text
      {"a.safetensors", "plain", "promises a safetensors file"},
      {"a.db", "plain", "promises an SQLite database"},
      {"a.pt", "plain", "promises a zip archive"},
      {"a.exe", "plain", "promises a program"},
      {"a.json", "{\n \"model_type\": \"x\"\n}\n", "a single JSON object"},
      {"a.json", "not json", "promises JSON"},
      {"a.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"},
  };
  for (const auto& [name, content, part] : cases) {
    const std::string error = ErrorOf(name, content);
    EXPECT_NE(error.find(part), std::string::npos) << error;
    EXPECT_NE(error.find("expected UTF-8 text, JSONL"), std::string::npos) << error;
    EXPECT_NE(FindForeign(name, content).name, "") << name;
  }
}

TEST(FileKind, TheWidthOfIdsShowsInTheirZeros) {
  const auto width = [](const std::string& name, const std::string& content, int64_t vocab) {
    return Recognise(name, content, vocab).width;
  };
  EXPECT_EQ(width("train.bin", Ids(ManyIds(50257), 2), 50257), 2);
  EXPECT_EQ(width("train.bin", Ids(ManyIds(50257), 4), 50257), 4);
  EXPECT_EQ(width("train.bin", Ids(ManyIds(128256), 4), 128256), 4);
  EXPECT_EQ(width("train.bin", Ids(ManyIds(50257), 8), 50257), 8);
  EXPECT_EQ(width("train.bin", Ids(ManyIds(200), 2), 256), 2);
  EXPECT_EQ(width("train.bin", std::string(64, '\0'), 256), 2);
  EXPECT_EQ(width("a.u32", Ids(ManyIds(256), 4), 256), 4);
  EXPECT_EQ(width("a.u8", Ids(ManyIds(256), 4), 256), 1);
  EXPECT_NE(ErrorOf("a.u16", Ids(ManyIds(50257), 4)).find("looks like 32-bit token ids"), std::string::npos);
  EXPECT_NE(ErrorOf("a.u32", Ids(ManyIds(50257), 8)).find("looks like 64-bit token ids"), std::string::npos);
  const std::string text(100, 'x');
  for (const char* name : {"a.u16", "a.u32", "a.bin"}) {
    EXPECT_NE(ErrorOf(name, text, 65536).find("looks like text"), std::string::npos) << name;
  }
}

TEST(FileKind, HeadersSayWhatFollows) {
  const std::string ids = Ids(ManyIds(50257), 2);
  for (const auto& [type, width] : std::vector<std::pair<std::string, int64_t>>{
           {"'<u2'", 2}, {"'<u4'", 4}, {"'<i4'", 4}, {"'<i8'", 8}, {"'|u1'", 1}}) {
    const int64_t count = static_cast<int64_t>(ids.size()) / width;
    const DataFormat format = Recognise("a.npy", Npy(type, fmt::format("({},)", count), ids));
    EXPECT_EQ(format.kind, DataKind::kTokens);
    EXPECT_EQ(format.width, width);
    EXPECT_EQ(format.offset, 128);
    EXPECT_EQ(format.is_signed, type[2] == 'i');
  }
  for (const char* type : {"'<f4'", "'>u2'", "'|O'", "[('a', '<u2')]", "'<u3'"}) {
    EXPECT_NE(ErrorOf("a.npy", Npy(type, "(64,)", ids)).find("a NumPy array that holds no token ids"),
              std::string::npos);
  }
  EXPECT_NE(ErrorOf("a.npy", Npy("'<u2'", "(8, 8)", ids)).find("'<u2' of shape (8, 8)"), std::string::npos);
  EXPECT_NE(ErrorOf("a.npy", Npy("'<u2'", "(65,)", ids)).find("128 bytes before 65 ids of 16 bits"), std::string::npos);
  EXPECT_NE(ErrorOf("a.npy", Npy("'<u2'", "(9223372036854775807,)", ids)).find("does not fit"), std::string::npos);
  EXPECT_NE(ErrorOf("a.npy", "\x93NUMPY\x01\0\xff\xff{'descr'"s).find("damaged header"), std::string::npos);

  EXPECT_EQ(Recognise("a_train.bin", Llmc(20240520, 64, ids)).width, 2);
  EXPECT_EQ(Recognise("a_train.bin", Llmc(20240520, 64, ids)).offset, 1024);
  EXPECT_EQ(Recognise("a", Llmc(20240801, 32, ids)).width, 4);
  EXPECT_NE(ErrorOf("a.bin", Llmc(20240520, 63, ids)).find("the llm.c header does not fit"), std::string::npos);
}

TEST(FileKind, CommandsThatReadTextTakeNothingElse) {
  EXPECT_EQ(AsText("a.txt", "{\n}\n"), "{\n}\n");
  EXPECT_EQ(AsText("a.json", "plain"), "plain");
  EXPECT_EQ(AsText("a.u8", "\0\x01"s), "\0\x01"s);
  EXPECT_EQ(AsText("a.txt", ""), "");
  const std::string packed(
      "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\x48\xcd\xc9\xc9\x57\x48\xaf\xca\x2c\xe0\x02\x00"
      "\x39\x7c\x63\x56\x0b\x00\x00\x00",
      31);
  EXPECT_EQ(AsText("a.txt.gz", packed), "hello gzip\n");
  for (const std::string& content : {"\x89PNG\r\n\x1a\n\0"s, "a\0b"s, "\xff\xfeh\0"s, Npy("'<u2'", "(1,)", "\1\0"s)}) {
    const std::string error = UserErrorOf([&] { AsText("a.txt", content); });
    EXPECT_EQ(error.rfind("a.txt: looks like ", 0), 0u) << error;
    EXPECT_NE(error.find("expected UTF-8 text"), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace taipan
