#include "formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/files.h"
#include "base/test_folder.h"

namespace taipan {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

const char* const kGolden = "tests/golden/gguf/types.gguf";
constexpr uint32_t kUint32 = 4, kBool = 7, kString = 8, kArray = 9, kF32 = 0, kQ4_0 = 2;

template <class T>
std::string Raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}
std::string Text(const std::string& text) { return Raw<uint64_t>(text.size()) + text; }
std::string Key(const std::string& key, uint32_t type, const std::string& value) {
  return Text(key) + Raw(type) + value;
}
// `dims` as the file has them, fastest first.
std::string TensorEntry(const std::string& name, const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
  std::string out = Text(name) + Raw(static_cast<uint32_t>(dims.size()));
  for (const uint64_t size : dims) out += Raw(size);
  return out + Raw(type) + Raw(offset);
}

struct Pieces {
  uint32_t version = 3;
  std::vector<std::string> keys = {}, tensors = {};
  std::string data = {};
  int64_t align = 32;
};
std::string FileOf(const Pieces& p) {
  std::string out = "GGUF" + Raw(p.version) + Raw<uint64_t>(p.tensors.size()) + Raw<uint64_t>(p.keys.size());
  for (const std::string& key : p.keys) out += key;
  for (const std::string& tensor : p.tensors) out += tensor;
  out.resize((out.size() + static_cast<size_t>(p.align) - 1) / static_cast<size_t>(p.align) *
             static_cast<size_t>(p.align));
  return out + p.data;
}

GgufFile Open(const std::string& file) { return GgufFile(file.data(), static_cast<int64_t>(file.size()), "m.gguf"); }
std::string ComplaintAbout(const std::string& file) {
  return UserErrorOf([&] { Open(file); });
}
std::string KeyComplaint(const std::string& key) { return ComplaintAbout(FileOf({.keys = {key}})); }
std::string TensorComplaint(const std::string& entry, const std::string& data = std::string(256, '\0')) {
  return ComplaintAbout(FileOf({.tensors = {entry}, .data = data}));
}

TEST(Gguf, ReadsWhatThePythonPackageWrote) {
  if (!PathExists(kGolden)) GTEST_SKIP() << "run from the source folder";
  const GgufFile f(kGolden);
  EXPECT_EQ(f.path(), kGolden);
  EXPECT_EQ(f.version(), 3);
  EXPECT_EQ(f.GetString("general.architecture"), "test");
  EXPECT_EQ(f.metadata().at("test.uint8"), GgufValue(uint8_t{250}));
  EXPECT_EQ(f.metadata().at("test.int8"), GgufValue(int8_t{-100}));
  EXPECT_EQ(f.metadata().at("test.uint64"), GgufValue(uint64_t{1} << 63 | 1));
  EXPECT_EQ(f.metadata().at("test.float64"), GgufValue(1e300));
  EXPECT_EQ(f.GetInt("test.uint16"), 65000);
  EXPECT_EQ(f.GetInt("test.int16"), -30000);
  EXPECT_EQ(f.GetInt("test.uint32"), 4000000000);
  EXPECT_EQ(f.GetInt("test.int32"), -2000000000);
  EXPECT_EQ(f.GetInt("test.int64"), -(int64_t{1} << 62));
  EXPECT_EQ(f.GetFloat("test.float32"), 0.25);
  EXPECT_EQ(f.GetFloat("test.uint8"), 250.0);
  EXPECT_TRUE(f.GetBool("test.bool"));
  EXPECT_EQ(f.GetString("test.string"), "caf\u00e9 \u2603\n\"q\"");
  EXPECT_THAT(f.GetStrings("test.strings"), ElementsAre("a", "", "\u00e9", "longer than the others"));
  EXPECT_THAT(f.GetInts("test.ints"), ElementsAre(-3, 0, 7));
  EXPECT_THAT(f.GetFloats("test.floats"), ElementsAre(0.5f, -1.25f, 1e10f));
  EXPECT_THAT(f.GetFloats("test.ints"), ElementsAre(-3.0f, 0.0f, 7.0f));
  EXPECT_EQ(f.metadata().at("test.bools"), GgufValue(GgufArray{std::vector<bool>{true, false, true}}));
  // The fastest dimension is last: 24 numbers in a row.
  const Tensor cube = f.ReadF32("cube", {2, 3, 4});
  for (int i = 0; i < 24; ++i) EXPECT_EQ(cube.F32()[i], static_cast<float>(i));
  const StoredTensor stored = f.Stored("Q4_K.stored");
  EXPECT_EQ(stored.file, kGolden);
  EXPECT_EQ(stored.type, "Q4_K");
  EXPECT_THAT(stored.shape, ElementsAre(2, 256));
  EXPECT_EQ(stored.bytes, 288);
}

TEST(Gguf, SmallestFilesAndVersion2) {
  EXPECT_EQ(ComplaintAbout(FileOf({})), "");
  EXPECT_EQ(ComplaintAbout(FileOf({}).substr(0, 24)), "");  // no tensors, no padding
  const float value = 3;
  const std::string file =
      FileOf({.version = 2,
              .tensors = {TensorEntry("scalar", {}, kF32, 0), TensorEntry("none", {0, 4}, kF32, 0)},
              .data = Raw(value)});
  const GgufFile f = Open(file);
  EXPECT_EQ(f.version(), 2);
  EXPECT_THAT(f.Names(), ElementsAre("none", "scalar"));
  EXPECT_EQ(f.ReadF32("scalar", {}).F32()[0], 3);
  EXPECT_EQ(f.ReadF32("none", {4, 0}).size(), 0);
}

TEST(Gguf, AlignmentFromTheFile) {
  const std::string file = FileOf({.keys = {Key("general.alignment", kUint32, Raw<uint32_t>(8))},
                                   .tensors = {TensorEntry("a", {2}, kF32, 8), TensorEntry("b", {1}, kF32, 0)},
                                   .data = Raw(1.0f) + Raw(0.0f) + Raw(2.0f) + Raw(3.0f),
                                   .align = 8});
  const GgufFile f = Open(file);
  EXPECT_EQ(f.ReadF32("b", {1}).F32()[0], 1);
  EXPECT_EQ(f.ReadF32("a", {2}).F32()[1], 3);
  for (const uint32_t bad : {0u, 3u, 1u << 31}) {
    EXPECT_THAT(KeyComplaint(Key("general.alignment", kUint32, Raw(bad))),
                HasSubstr("bad value of general.alignment, expected a power of two up to 1048576, found"));
  }
  EXPECT_THAT(KeyComplaint(Key("general.alignment", kString, Text("32"))),
              HasSubstr("expected a whole number, found the string \"32\""));
}

TEST(Gguf, NotAFileOfThisKind) {
  EXPECT_EQ(ComplaintAbout(""),
            "m.gguf: not a GGUF file, expected a file that starts with \"GGUF\", found an empty file");
  EXPECT_THAT(ComplaintAbout("GGML1234"), HasSubstr("found \"GGML\""));
  EXPECT_THAT(ComplaintAbout(std::string("\xff\0\n\1", 4)), HasSubstr("found "));
  EXPECT_THAT(ComplaintAbout("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), HasSubstr("git lfs pull"));
  EXPECT_THAT(ComplaintAbout(FileOf({.version = 1})), HasSubstr("unknown GGUF version, expected 2 or 3, found 1"));
  EXPECT_THAT(ComplaintAbout(FileOf({.version = 0x03000000})),
              HasSubstr("the file is big-endian, expected little-endian"));
  EXPECT_THAT(UserErrorOf([] { GgufFile("/nowhere/m.gguf"); }), HasSubstr("/nowhere/m.gguf: cannot open"));
}

TEST(Gguf, EveryCutIsRefused) {
  const std::string file = FileOf(
      {.keys = {Key("a", kString, Text("text")), Key("b", kArray, Raw(kUint32) + Raw<uint64_t>(2) + Raw(7) + Raw(8))},
       .tensors = {TensorEntry("t", {2}, kF32, 0)},
       .data = std::string(8, 'x')});
  EXPECT_EQ(ComplaintAbout(file), "");
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_THAT(ComplaintAbout(file.substr(0, size)), StartsWith("m.gguf: ")) << size;
  }
}

TEST(Gguf, HugeCounts) {
  const std::string start = "GGUF" + Raw(3);
  for (const uint64_t huge : {uint64_t{1} << 32, (uint64_t{1} << 63) - 1, uint64_t{1} << 63, ~uint64_t{0}}) {
    EXPECT_THAT(ComplaintAbout(start + Raw(huge) + Raw<uint64_t>(0)),
                HasSubstr(fmt::format("more tensors than fit into the file, expected at most 0, found {}", huge)));
    EXPECT_THAT(
        ComplaintAbout(start + Raw<uint64_t>(0) + Raw(huge) + std::string(30, 'x')),
        HasSubstr(fmt::format("more metadata keys than fit into the file, expected at most 2, found {}", huge)));
    EXPECT_THAT(KeyComplaint(Raw(huge) + "abcd"), HasSubstr("a string in metadata key 1 of 1 passes the end"));
    EXPECT_THAT(KeyComplaint(Key("k", kString, Raw(huge))), HasSubstr("a string in the value of \"k\" passes the end"));
    for (uint32_t type = 0; type <= 12; ++type) {
      if (type == kArray) continue;
      EXPECT_THAT(KeyComplaint(Key("k", kArray, Raw(type) + Raw(huge))),
                  HasSubstr("the array in the value of \"k\" passes the end of the file, expected at most"));
    }
    EXPECT_THAT(TensorComplaint(Raw(huge) + std::string(60, 'x')), HasSubstr("entry 1 of 1 of the tensor table"));
    EXPECT_THAT(TensorComplaint(TensorEntry("t", {1}, kF32, huge)), HasSubstr("starts after the end of the file"));
    for (const std::vector<uint64_t>& dims :
         {std::vector<uint64_t>{huge}, {32, huge}, {huge, huge}, {32, huge, huge, 0}}) {
      EXPECT_THAT(TensorComplaint(TensorEntry("t", dims, kF32, 0)), HasSubstr("m.gguf: tensor \"t\"")) << dims[0];
    }
  }
}

TEST(Gguf, BadMetadata) {
  const std::string one = Key("k", kUint32, Raw(1));
  EXPECT_THAT(ComplaintAbout(FileOf({.keys = {one, one}})), HasSubstr("the metadata key \"k\" stands twice"));
  EXPECT_THAT(KeyComplaint(Key("k", 13, Raw(1))),
              HasSubstr("unknown type of the value of \"k\", expected 0 to 12, found 13"));
  EXPECT_THAT(KeyComplaint(Key("k", kArray, Raw(13) + Raw<uint64_t>(0))), HasSubstr("unknown element type"));
  EXPECT_THAT(KeyComplaint(Key("k", kBool, "\2")),
              HasSubstr("bad boolean in the value of \"k\", expected 0 or 1, found 2"));
  // Arrays in arrays, however deep, stop at the first.
  std::string nested;
  for (int i = 0; i < 100000; ++i) nested += Raw(kArray) + Raw<uint64_t>(1);
  EXPECT_THAT(KeyComplaint(Key("k", kArray, nested)), HasSubstr("is an array of arrays"));
  EXPECT_THAT(KeyComplaint(Key("split.count", 2, Raw<uint16_t>(3))), HasSubstr("one part of a split model"));
  EXPECT_EQ(KeyComplaint(Key("split.count", 2, Raw<uint16_t>(1))), "");
}

TEST(Gguf, BadTensors) {
  EXPECT_EQ(TensorComplaint(TensorEntry("t", {64}, kF32, 0)), "");
  EXPECT_THAT(TensorComplaint(TensorEntry("t", {64}, kF32, 16)),
              HasSubstr("tensor \"t\" is not aligned, expected an offset that is a multiple of 32, found 16"));
  EXPECT_THAT(TensorComplaint(TensorEntry("t", {64}, kF32, 32)), HasSubstr("passes the end of the file"));
  EXPECT_THAT(TensorComplaint(TensorEntry("t", {1, 1, 1, 1, 1}, kF32, 0)),
              HasSubstr("too many dimensions, expected at most 4, found 5"));
  EXPECT_THAT(TensorComplaint(TensorEntry("t", {32}, 21, 0)),
              AllOf(HasSubstr("has a type that cannot be read, expected one of F32, F16,"), HasSubstr("found IQ3_S")));
  EXPECT_THAT(TensorComplaint(TensorEntry("t", {32}, 12345, 0)), HasSubstr("found type 12345"));
  EXPECT_THAT(TensorComplaint(TensorEntry("t", {33, 2}, kQ4_0, 0)),
              HasSubstr("rows that are not whole blocks, expected a multiple of 32 for Q4_0, found 33"));
  EXPECT_THAT(ComplaintAbout(FileOf({.tensors = {TensorEntry("t", {1}, kF32, 0), TensorEntry("t", {1}, kF32, 32)},
                                     .data = std::string(64, '\0')})),
              HasSubstr("tensor \"t\" stands twice"));
  EXPECT_THAT(ComplaintAbout(FileOf({.tensors = {TensorEntry("b", {1}, kF32, 32), TensorEntry("a", {9}, kF32, 0)},
                                     .data = std::string(64, '\0')})),
              HasSubstr("tensor \"b\" overlaps tensor \"a\", expected a begin from byte"));
}

TEST(Gguf, AccessorsNameWhatIsWrong) {
  const std::string file = FileOf(
      {.keys = {Key("llama.block_count", kUint32, Raw(2)), Key("name", kString, Text("x")),
                Key("big", 10, Raw(~uint64_t{0})), Key("words", kArray, Raw(kString) + Raw<uint64_t>(1) + Text("w"))},
       .tensors = {TensorEntry("blk.0.attn_q.weight", {2}, kF32, 0)},
       .data = std::string(8, '\0')});
  const GgufFile f = Open(file);
  EXPECT_THAT(UserErrorOf([&] { f.GetInt("llama.block_counts"); }),
              AllOf(HasSubstr("m.gguf: the metadata key \"llama.block_counts\" is missing"),
                    HasSubstr("the nearest key in the file is \"llama.block_count\"")));
  EXPECT_EQ(f.GetInt("absent", 7), 7);
  EXPECT_EQ(f.GetFloat("absent", 0.5), 0.5);
  EXPECT_EQ(f.GetBool("absent", true), true);
  EXPECT_EQ(f.GetString("absent", "y"), "y");
  EXPECT_THAT(UserErrorOf([&] { f.GetInt("name", 7); }),
              HasSubstr("expected a whole number below 2^63, found the string \"x\""));
  EXPECT_THAT(UserErrorOf([&] { f.GetInt("big"); }), HasSubstr("found the uint64 18446744073709551615"));
  EXPECT_THAT(UserErrorOf([&] { f.GetFloat("words"); }),
              HasSubstr("expected a number, found an array of 1 of type string"));
  EXPECT_THAT(UserErrorOf([&] { f.GetBool("big"); }), HasSubstr("expected a boolean"));
  EXPECT_THAT(UserErrorOf([&] { f.GetString("big"); }), HasSubstr("expected a string"));
  EXPECT_THAT(UserErrorOf([&] { f.GetStrings("name"); }), HasSubstr("expected an array of strings"));
  EXPECT_THAT(UserErrorOf([&] { f.GetInts("words"); }), HasSubstr("expected an array of whole numbers"));
  EXPECT_THAT(UserErrorOf([&] { f.GetFloats("words"); }), HasSubstr("expected an array of numbers"));
  EXPECT_THAT(
      UserErrorOf([&] { f.At("blk.0.attn_k.weight"); }),
      HasSubstr("tensor \"blk.0.attn_k.weight\" is missing (the nearest name in the file is \"blk.0.attn_q.weight\")"));
  EXPECT_THAT(UserErrorOf([&] {
                f.ReadF32("blk.0.attn_q.weight", {2, 1});
              }),
              HasSubstr("has the wrong shape, expected [2, 1], found [2]"));
  // llama.cpp's quantizer leaves sizes of 1 in front out.
  EXPECT_EQ(f.ReadF32("blk.0.attn_q.weight", {1, 2}).shape(), (std::vector<int64_t>{1, 2}));
}

Tensor Ramp(const std::vector<int64_t>& shape) {
  Tensor t(shape);
  for (int64_t i = 0; i < t.size(); ++i) t.F32()[i] = static_cast<float>(i % 127) - 63;
  return t;
}

TEST(Gguf, WrittenFilesReadBack) {
  const GgufMetadata metadata = {{"general.architecture", std::string("llama")},
                                 {"u8", uint8_t{1}},
                                 {"i8", int8_t{-1}},
                                 {"u16", uint16_t{2}},
                                 {"i16", int16_t{-2}},
                                 {"u32", uint32_t{3}},
                                 {"i32", int32_t{-3}},
                                 {"f32", 0.1f},
                                 {"bool", true},
                                 {"u64", ~uint64_t{0}},
                                 {"i64", int64_t{-4}},
                                 {"f64", 0.1},
                                 {"strings", GgufArray{std::vector<std::string>{"a", "", std::string("\0b", 2)}}},
                                 {"bools", GgufArray{std::vector<bool>{false, true}}},
                                 {"none", GgufArray{std::vector<float>{}}},
                                 {"ints", GgufArray{std::vector<int32_t>{1, -2, 3}}}};
  std::vector<GgufItem> items;
  for (const GgmlType type : {GgmlType::kF32, GgmlType::kQ8_0, GgmlType::kF16, GgmlType::kBF16}) {
    items.push_back({"t." + NameOf(type), type, {3, 2, 32}, [] { return Ramp({3, 2, 32}); }});
  }
  items.push_back({"odd", GgmlType::kF16, {5}, [] { return Ramp({5}); }});
  items.push_back({"empty", GgmlType::kF32, {0, 4}, [] { return Ramp({0, 4}); }});
  TestFolder folder;
  WriteGguf(folder / "1", metadata, items);
  WriteGguf(folder / "2", metadata, items);
  EXPECT_EQ(ReadFile(folder / "1"), ReadFile(folder / "2"));
  EXPECT_EQ(ReadFile(folder / "1").size() % 32, 0u);

  const GgufFile f(folder / "1");
  EXPECT_EQ(f.version(), 3);
  EXPECT_EQ(f.metadata(), metadata);
  ASSERT_EQ(f.tensors().size(), items.size());
  for (const GgufItem& item : items) {
    EXPECT_EQ(f.At(item.name).type, item.type);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(f.At(item.name).data) % 32, 0u);
    const Tensor read = f.ReadF32(item.name, item.shape), expected = item.values();
    for (int64_t i = 0; i < read.size(); ++i) {
      const float tolerance = item.type == GgmlType::kQ8_0 ? 0.27f : 0.0f;  // a step of 63/127, rounded
      ASSERT_NEAR(read.F32()[i], expected.F32()[i], tolerance) << item.name << " " << i;
    }
  }
}

TEST(Gguf, LargeTensorsAreWrittenInPieces) {
  constexpr int64_t kRows = 131, kCols = 1 << 15;  // a little more than one piece
  TestFolder folder;
  WriteGguf(folder / "f", {}, {{"t", GgmlType::kQ8_0, {kRows, kCols}, [] { return Ramp({kRows, kCols}); }}});
  const GgufFile f(folder / "f");
  const Tensor read = f.ReadF32("t", {kRows, kCols});
  for (int64_t i = 0; i < read.size(); ++i) {
    ASSERT_NEAR(read.F32()[i], static_cast<float>(i % 127) - 63, 0.27f) << i;
  }
}

TEST(Gguf, WriterRefusesWhatDoesNotFit) {
  TestFolder folder;
  const auto complaint = [&](const std::string& name, GgmlType type, const std::vector<int64_t>& shape, float value) {
    return UserErrorOf([&] {
      WriteGguf(folder / "f.gguf", {}, {{name, type, shape, [&] {
                                           Tensor t(shape);
                                           t.F32()[0] = value;
                                           return t;
                                         }}});
    });
  };
  EXPECT_THAT(complaint("w", GgmlType::kQ8_0, {2, 33}, 1),
              HasSubstr("tensor \"w\" cannot be stored as Q8_0, expected rows of a multiple of 32 values, found 33"));
  EXPECT_THAT(complaint("w", GgmlType::kF16, {2}, 1e6f), HasSubstr("tensor \"w\" cannot be stored as F16"));
  EXPECT_THAT(complaint("w", GgmlType::kQ8_0, {32}, NAN),
              HasSubstr("cannot be stored as Q8_0, expected finite values"));
  EXPECT_THAT(complaint(std::string(64, 'n'), GgmlType::kF32, {2}, 1), HasSubstr("too long for GGUF"));
  EXPECT_THAT(ListDirectory(folder.path()), ElementsAre());
  EXPECT_THROW(complaint("w", GgmlType::kQ2_K, {256}, 1), InternalError);
}

}  // namespace
}  // namespace taipan
