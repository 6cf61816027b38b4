#include "formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/files.h"
#include "base/test_folder.h"

namespace taipan {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// A file from its header text and its data.
std::string FileOf(const std::string& header, const std::string& data = "", uint64_t claimed_length = 0) {
  const uint64_t length = claimed_length != 0 ? claimed_length : header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

std::string ComplaintAbout(const std::string& file) {
  return UserErrorOf([&] { SafetensorsFile f(file.data(), static_cast<int64_t>(file.size()), "w.safetensors"); });
}

std::string HeaderComplaint(const std::string& header, const std::string& data = "") {
  return ComplaintAbout(FileOf(header, data));
}

// "a": {...} with 4 bytes at [begin, end).
std::string F32(const std::string& name, const std::string& shape, const std::string& offsets) {
  return "\"" + name + R"(":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

TEST(Safetensors, ReadsWhatIsThere) {
  const float values[] = {1.5f, -2, 3};
  std::string data(reinterpret_cast<const char*>(values), sizeof values);
  data += '\7';
  const std::string file =
      FileOf(R"({"b":{"data_offsets":[12,13],"shape":[],"dtype":"U8"},"__metadata__":{"format":"pt","k":""},)" +
                 F32("a", "[3,1]", "[0,12]") + "," + F32("empty", "[2,0]", "[12,12]") + "}   ",
             data);
  const SafetensorsFile f(file.data(), static_cast<int64_t>(file.size()), "name");
  EXPECT_EQ(f.path(), "name");
  EXPECT_EQ(f.entries().size(), 3u);
  EXPECT_THAT(f.metadata(), ElementsAre(std::pair("format", "pt"), std::pair("k", "")));
  EXPECT_TRUE(f.Has("a"));
  EXPECT_FALSE(f.Has("c"));
  EXPECT_THAT(f.At("a").shape, ElementsAre(3, 1));
  const Tensor a = f.ReadF32("a", {3, 1});
  EXPECT_EQ(a.F32()[1], -2);
  const Tensor b = f.Read("b");
  EXPECT_EQ(b.dtype(), DType::kU8);
  EXPECT_EQ(b.size(), 1);
  EXPECT_EQ(*static_cast<const uint8_t*>(b.data()), 7);
  EXPECT_EQ(f.ReadF32("empty", {2, 0}).size(), 0);
}

TEST(Safetensors, EmptyHeaderIsAFileWithoutTensors) {
  EXPECT_EQ(HeaderComplaint("{}"), "");
  EXPECT_EQ(HeaderComplaint(R"({"__metadata__":{}})"), "");
}

TEST(Safetensors, NotAFileOfThisKind) {
  EXPECT_EQ(ComplaintAbout(""),
            "w.safetensors: truncated or not a safetensors file, expected at least 8 bytes, found 0");
  EXPECT_THAT(ComplaintAbout("1234567"), HasSubstr("expected at least 8 bytes, found 7"));
  EXPECT_THAT(ComplaintAbout("<!DOCTYPE html><html></html>"), HasSubstr("header is longer than the file"));
  EXPECT_THAT(ComplaintAbout("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), HasSubstr("git lfs pull"));
  EXPECT_EQ(
      ComplaintAbout(FileOf("{}", "", 3)),
      "w.safetensors: truncated or not a safetensors file: its header is longer than the file, expected at most 2 "
      "bytes of header, found 3");
  EXPECT_THAT(ComplaintAbout(FileOf("{}", "", ~uint64_t{0})), HasSubstr("found 18446744073709551615"));
  EXPECT_THAT(ComplaintAbout(FileOf("")), HasSubstr("an empty header"));
  EXPECT_THAT(HeaderComplaint(" {}"), HasSubstr("a header that starts with '{', found byte 0x20"));
}

TEST(Safetensors, HeaderTooLong) {
  std::string file(100'000'100, ' ');
  const uint64_t length = 100'000'001;
  std::memcpy(file.data(), &length, sizeof length);
  EXPECT_THAT(ComplaintAbout(file), HasSubstr("expected at most 100000000 bytes, found 100000001"));
}

TEST(Safetensors, BadJson) {
  EXPECT_EQ(HeaderComplaint("{\"a\""), "w.safetensors: the header is not valid JSON at its byte 5");
  for (const char* bad :
       {"{", "{]", "{}x", "{\"a\":nul}", "{\"\xff\":1}", "{\"\\ud800\":1}", "{1:2}", "{\"a\":1e999}"}) {
    EXPECT_THAT(HeaderComplaint(bad), HasSubstr("not valid JSON")) << bad;
  }
  EXPECT_THAT(HeaderComplaint(std::string("{}\0garbage", 10)), HasSubstr("not valid JSON at its byte 2"));
  for (const char* bad :
       {R"({"a":null})", R"({"a":true})", R"({"a":1})", R"({"a":-1})", R"({"a":1.5})", R"({"a":"s"})", R"({"a":[]})"}) {
    EXPECT_THAT(HeaderComplaint(bad), HasSubstr("tensor \"a\" has a bad description, expected an object, found"))
        << bad;
  }
}

TEST(Safetensors, NestingBombs) {
  const size_t deep = 5'000'000;
  EXPECT_THAT(HeaderComplaint("{\"a\":" + std::string(deep, '[')), HasSubstr("found an array"));
  EXPECT_THAT(HeaderComplaint(R"({"a":{"shape":)" + std::string(deep, '[')), HasSubstr("bad shape"));
  std::string objects = "{";
  for (int i = 0; i < 100'000; ++i) objects += R"("a":{)";
  EXPECT_THAT(HeaderComplaint(objects), HasSubstr("has an unknown key"));
}

TEST(Safetensors, DuplicateNames) {
  const std::string a = F32("a", "[1]", "[0,4]");
  EXPECT_EQ(HeaderComplaint("{" + a + "," + a + "}", "1234"),
            "w.safetensors: the name \"a\" stands twice in the header");
  EXPECT_THAT(HeaderComplaint("{" + a + "," + F32("\\u0061", "[1]", "[4,8]") + "}", "12345678"),
              HasSubstr("stands twice"));
  EXPECT_THAT(HeaderComplaint(R"({"__metadata__":{"k":"1","k":"2"}})"),
              HasSubstr("the key \"k\" stands twice in __metadata"));
  EXPECT_THAT(HeaderComplaint(R"({"__metadata__":{},"__metadata__":{}})"), HasSubstr("stands twice"));
  EXPECT_THAT(HeaderComplaint(R"({"a":{"dtype":"F32","dtype":"F32"}})"), HasSubstr("has the key \"dtype\" twice"));
}

TEST(Safetensors, Metadata) {
  EXPECT_THAT(HeaderComplaint(R"({"__metadata__":1})"), HasSubstr("bad __metadata__, expected an object, found 1"));
  EXPECT_THAT(HeaderComplaint(R"({"__metadata__":{"k":1}})"),
              HasSubstr("\"k\" in __metadata__, expected a string, found 1"));
  EXPECT_THAT(HeaderComplaint(R"({"__metadata__":{"k":{}}})"), HasSubstr("expected a string, found an object"));
  EXPECT_THAT(HeaderComplaint(R"({"__metadata__":{"k":null}})"), HasSubstr("found null"));
}

TEST(Safetensors, BadDescriptions) {
  EXPECT_THAT(HeaderComplaint(R"({"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", "1234"),
              HasSubstr("tensor \"a\" has an unknown dtype, expected one of F32, F64, BF16"));
  EXPECT_THAT(HeaderComplaint(R"({"a":{"dtype":32}})"), HasSubstr("bad dtype, expected a string, found 32"));
  EXPECT_THAT(HeaderComplaint(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", "1234"), HasSubstr("has no \"dtype\""));
  EXPECT_THAT(HeaderComplaint(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", "1234"), HasSubstr("has no \"shape\""));
  EXPECT_THAT(HeaderComplaint(R"({"a":{"dtype":"F32","shape":[1]}})", "1234"), HasSubstr("has no \"data_offsets\""));
  EXPECT_THAT(HeaderComplaint(R"({"a":{"x":1}})"),
              HasSubstr("unknown key, expected dtype, shape, data_offsets, found \"x\""));
  for (const char* offsets : {"[]", "[0]", "[0,4,8]"}) {
    EXPECT_THAT(HeaderComplaint("{" + F32("a", "[1]", offsets) + "}", "1234"),
                HasSubstr("bad data_offsets, expected 2"));
  }
  for (const char* number : {"-1", "1.5", "1.0", "true", "null", "\"1\"", "[]", "{}", "9223372036854775808", "1e2"}) {
    const std::string in_array = std::string("[") + number + "]";
    EXPECT_THAT(HeaderComplaint("{" + F32("a", in_array, "[0,4]") + "}", "1234"),
                HasSubstr("bad shape, expected sizes from 0 to 2^63 - 1, found "))
        << number;
    EXPECT_THAT(HeaderComplaint("{" + F32("a", "[1]", in_array) + "}", "1234"), HasSubstr("has bad data_offsets"))
        << number;
  }
}

TEST(Safetensors, SizesAndOffsets) {
  EXPECT_EQ(HeaderComplaint("{" + F32("a", "[2]", "[0,8]") + "}", "1234"),
            "w.safetensors: tensor \"a\" has offsets out of range, expected begin <= end <= 4, found [0, 8]");
  EXPECT_THAT(HeaderComplaint("{" + F32("a", "[1]", "[4,0]") + "}", "1234"), HasSubstr("found [4, 0]"));
  EXPECT_THAT(HeaderComplaint("{" + F32("a", "[1]", "[9223372036854775803,9223372036854775807]") + "}", "1234"),
              HasSubstr("out of range"));
  EXPECT_EQ(HeaderComplaint("{" + F32("a", "[3]", "[0,4]") + "}", "1234"),
            "w.safetensors: tensor \"a\" has offsets that do not match its shape, expected 12 bytes for F32 [3], "
            "found 4 bytes at [0, 4]");
  const std::string big = "[4294967296,4294967296,4]";  // 2^66 elements: wraps to 0
  EXPECT_THAT(HeaderComplaint("{" + F32("a", big, "[0,0]") + "}"),
              HasSubstr("is too large, expected less than 2^63 bytes"));
  const std::string wraps_at_bytes = "[4611686018427387905]";  // times 4 bytes wraps to 4
  EXPECT_THAT(HeaderComplaint("{" + F32("a", wraps_at_bytes, "[0,4]") + "}", "1234"), HasSubstr("is too large"));
  EXPECT_THAT(HeaderComplaint("{" + F32("a", "[4294967296,4294967296,0]", "[0,0]") + "}"), HasSubstr("is too large"));
}

TEST(Safetensors, EveryByteBelongsToOneTensor) {
  const std::string a = F32("a", "[1]", "[0,4]");
  EXPECT_EQ(HeaderComplaint("{" + a + "," + F32("b", "[1]", "[2,6]") + "}", "123456"),
            "w.safetensors: tensor \"b\" overlaps tensor \"a\", expected begin at byte 4, found 2");
  EXPECT_THAT(HeaderComplaint("{" + a + "," + F32("b", "[1]", "[0,4]") + "}", "1234"), HasSubstr("overlaps"));
  EXPECT_THAT(HeaderComplaint("{" + F32("z", "[0]", "[2,2]") + "," + a + "}", "1234"), HasSubstr("\"z\" overlaps"));
  EXPECT_EQ(HeaderComplaint("{" + F32("b", "[1]", "[5,9]") + "," + a + "}", "123456789"),
            "w.safetensors: tensor \"b\" leaves a gap before it, expected begin at byte 4, found 5");
  EXPECT_THAT(HeaderComplaint("{" + F32("b", "[1]", "[1,5]") + "}", "12345"), HasSubstr("leaves a gap"));
  EXPECT_EQ(HeaderComplaint("{" + a + "}", "12345"),
            "w.safetensors: bytes after the last tensor, expected 4 bytes of data, found 5");
  EXPECT_THAT(HeaderComplaint("{}", "x"), HasSubstr("bytes after the last tensor"));
}

TEST(Safetensors, MessagesAreOneReadableLine) {
  const std::string name = "evil\\n\\u001b[31m" + std::string(5000, 'n');
  const std::string complaint = HeaderComplaint("{\"" + name + "\":1}");
  EXPECT_THAT(complaint, AllOf(HasSubstr("evil\\n\\u001b[31m"), Not(HasSubstr("\n")), Not(HasSubstr("\x1b"))));
  EXPECT_LT(complaint.size(), 400u);
  std::string shape = "[2";
  for (int i = 0; i < 10'000; ++i) shape += ",1";
  EXPECT_LT(HeaderComplaint("{" + F32("a", shape + "]", "[0,4]") + "}", "1234").size(), 400u);
}

TEST(Safetensors, ReadingTheWrongThing) {
  const std::string file =
      FileOf("{" + F32("layer.weight", "[2]", "[0,8]") + R"(,"ids":{"dtype":"I32","shape":[1],"data_offsets":[8,12]}})",
             "123456781234");
  const SafetensorsFile f(file.data(), static_cast<int64_t>(file.size()), "w.safetensors");
  EXPECT_EQ(UserErrorOf([&] { f.At("layer.wieght"); }),
            "w.safetensors: tensor \"layer.wieght\" is missing (the nearest name in the file is \"layer.weight\")");
  EXPECT_THAT(UserErrorOf([&] { f.Read("something else"); }), HasSubstr("is missing (the file has 2 tensors)"));
  EXPECT_EQ(UserErrorOf([&] {
              f.ReadF32("layer.weight", {2, 1});
            }),
            "w.safetensors: tensor \"layer.weight\" has the wrong shape, expected [2, 1], found [2]");
  EXPECT_THAT(UserErrorOf([&] { f.ReadF32("ids", {1}); }), HasSubstr("expected F32, F64, BF16 or F16, found I32"));
}

// All of these are exact, at an address that is odd.
TEST(Safetensors, ConvertsToF32) {
  const double f64[] = {0.5, -3, 1e300};
  const uint16_t bf16[] = {0x3fc0, 0xc000, 0xff80, 0x0001};
  const uint16_t f16[] = {0x3e00, 0xc000, 0x0001, 0x83ff, 0x7bff, 0xfc00, 0x8000, 0x7e00};
  std::string data = "x";
  data.append(reinterpret_cast<const char*>(f64), sizeof f64);
  data.append(reinterpret_cast<const char*>(bf16), sizeof bf16);
  data.append(reinterpret_cast<const char*>(f16), sizeof f16);
  const std::string file = FileOf(
      R"({"x":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},"d":{"dtype":"F64","shape":[3],"data_offsets":[1,25]},)"
      R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[25,33]},)"
      R"("h":{"dtype":"F16","shape":[8],"data_offsets":[33,49]}})",
      data);
  const SafetensorsFile f(file.data(), static_cast<int64_t>(file.size()), "w");
  const float inf = std::numeric_limits<float>::infinity();
  const Tensor d = f.ReadF32("d", {3}), b = f.ReadF32("b", {4}), h = f.ReadF32("h", {8});
  EXPECT_THAT(std::vector<float>(d.F32(), d.F32() + 3), ElementsAre(0.5f, -3.f, inf));
  EXPECT_THAT(std::vector<float>(b.F32(), b.F32() + 4), ElementsAre(1.5f, -2.f, -inf, 0x1p-133f));
  EXPECT_THAT(std::vector<float>(h.F32(), h.F32() + 6),
              ElementsAre(1.5f, -2.f, 0x1p-24f, -1023 * 0x1p-24f, 65504.f, -inf));
  EXPECT_EQ(h.F32()[6], 0.f);
  EXPECT_TRUE(std::signbit(h.F32()[6]));
  EXPECT_TRUE(std::isnan(h.F32()[7]));
}

TEST(Safetensors, MissingAndTruncatedFiles) {
  TestFolder folder;
  EXPECT_THAT(UserErrorOf([&] { SafetensorsFile f(folder / "none"); }), HasSubstr((folder / "none") + ": cannot open"));
  const std::vector<float> values(100, 1.f);
  WriteSafetensors(folder / "f", {{"a", DType::kF32, {100}, values.data()}});
  const std::string whole = ReadFile(folder / "f");
  for (size_t length = 0; length < whole.size(); ++length) {
    ASSERT_NE(ComplaintAbout(whole.substr(0, length)), "") << length;
  }
}

TEST(Safetensors, WritesWhatItReads) {
  TestFolder folder;
  const float a[] = {1, 2, 3, 4, 5, 6};
  const uint8_t b[] = {7, 8, 9};
  const std::vector<SafetensorsItem> items = {{"z.weight", DType::kF32, {2, 3}, a},
                                              {"b \"q\" \u00e9", DType::kU8, {3}, b},
                                              {"none", DType::kBF16, {0, 4}, nullptr}};
  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"note", "line\nbreak"}};
  WriteSafetensors(folder / "1", items, metadata);
  WriteSafetensors(folder / "2", items, metadata);
  EXPECT_EQ(ReadFile(folder / "1"), ReadFile(folder / "2"));
  EXPECT_THAT(ListDirectory(folder.path()), ElementsAre("1", "2"));

  SafetensorsFile opened(folder / "1");
  const SafetensorsFile f = std::move(opened);
  EXPECT_EQ(f.metadata(), metadata);
  EXPECT_EQ(f.entries().size(), 3u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(f.At("z.weight").data) % 64, 0u);
  EXPECT_EQ(std::memcmp(f.ReadF32("z.weight", {2, 3}).data(), a, sizeof a), 0);
  EXPECT_EQ(std::memcmp(f.Read("b \"q\" \u00e9").data(), b, sizeof b), 0);
  EXPECT_LT(ReadFile(folder / "1").find("z.weight"), ReadFile(folder / "1").find("none"));  // in the order given
}

TEST(Safetensors, QuantizedMatricesAreBytesWithATypeInTheMetadata) {
  const TestFolder folder;
  Tensor values({3, 64});
  for (int64_t i = 0; i < values.size(); ++i) values.F32()[i] = static_cast<float>(i % 16) - 8;
  SafetensorsItem item{.name = "w", .shape = {3, 64}};
  item.values = [&] { return values; };
  item.quantized = GgmlType::kQ4_0;
  WriteSafetensors(folder / "w.safetensors", {item}, {{"format", "pt"}});
  const SafetensorsFile file(folder / "w.safetensors");
  EXPECT_EQ(file.At("w").dtype, DType::kU8);  // for readers that know nothing of it
  EXPECT_THAT(file.At("w").shape, ElementsAre(3, 2 * 18));
  EXPECT_EQ(file.metadata().at("quantized.w"), "Q4_0");
  const StoredTensor stored = file.Stored("w");
  EXPECT_EQ(stored.type, "Q4_0");
  EXPECT_THAT(stored.shape, ElementsAre(3, 64));
  EXPECT_EQ(stored.quantized, GgmlType::kQ4_0);
  const Tensor back = file.ReadF32("w", {3, 64});
  EXPECT_EQ(std::memcmp(back.data(), values.data(), static_cast<size_t>(back.bytes())), 0);
}

TEST(Safetensors, BadQuantizedTypes) {
  const auto complaint = [](const std::string& type, const std::string& dtype, const std::string& shape) {
    return HeaderComplaint(R"({"__metadata__":{"quantized.w":")" + type + R"("},"w":{"dtype":")" + dtype +
                               R"(","shape":)" + shape + R"(,"data_offsets":[0,36]}})",
                           std::string(36, 'x'));
  };
  EXPECT_EQ(complaint("Q4_0", "U8", "[1,36]"), "");
  EXPECT_THAT(complaint("Q9", "U8", "[1,36]"),
              AllOf(HasSubstr("\"w\" has a bad quantized type"), HasSubstr("found \"Q9\"")));
  EXPECT_THAT(complaint("F16", "U8", "[1,36]"), HasSubstr("that has blocks"));
  EXPECT_THAT(complaint("Q4_0", "U8", "[2,18]"), "");
  EXPECT_THAT(complaint("Q4_0", "U8", "[3,12]"), HasSubstr("rows of a multiple of 18, found U8 [3, 12]"));
  EXPECT_THAT(complaint("Q4_0", "U8", "[36]"), HasSubstr("found U8 [36]"));
  EXPECT_THAT(complaint("Q4_0", "I8", "[1,36]"), HasSubstr("found I8"));
  EXPECT_THAT(HeaderComplaint(R"({"__metadata__":{"quantized.v":"Q4_0"}})"), HasSubstr("a tensor of that name"));
}

TEST(Safetensors, WriterRefusesOurBugs) {
  TestFolder folder;
  const float a[] = {1};
  const SafetensorsItem item{"a", DType::kF32, {1}, a};
  EXPECT_THROW(WriteSafetensors(folder / "f", {item, item}), InternalError);
  EXPECT_THROW(WriteSafetensors(folder / "f", {{"__metadata__", DType::kF32, {1}, a}}), InternalError);
  EXPECT_THROW(WriteSafetensors(folder / "f", {{"a", DType::kF32, {1}, nullptr}}), InternalError);
  EXPECT_THAT(ListDirectory(folder.path()), ElementsAre());
}

// Written by the safetensors library of PyTorch.
TEST(Safetensors, FilesOfPyTorch) {
  const std::filesystem::path models = "tests/golden/models";
  if (!std::filesystem::exists(models)) GTEST_SKIP() << "run from the source folder";
  int files = 0;
  for (const auto& model : std::filesystem::directory_iterator(models)) {
    if (!model.is_directory()) continue;  // a GGUF file
    const SafetensorsFile f((model.path() / "model.safetensors").string());
    EXPECT_FALSE(f.entries().empty());
    for (const auto& [name, entry] : f.entries()) {
      const Tensor t = f.ReadF32(name, entry.shape);
      for (int64_t i = 0; i < t.size(); ++i) ASSERT_TRUE(std::isfinite(t.F32()[i])) << name;
    }
    ++files;
  }
  EXPECT_GT(files, 0);
}

}  // namespace
}  // namespace taipan
