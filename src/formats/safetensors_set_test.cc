#include "formats/safetensors_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/fields.h"
#include "base/files.h"
#include "base/test_folder.h"

namespace taipan {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const float kValues[] = {1, 2, 3, 4, 5, 6};
const char* const kIndex = "model.safetensors.index.json";

SafetensorsItem Item(const std::string& name, int64_t n) { return {name, DType::kF32, {n}, kValues}; }

void WriteShard(const std::string& path, const std::vector<std::string>& names) {
  std::vector<SafetensorsItem> items;
  for (const std::string& name : names) items.push_back(Item(name, 2));
  WriteSafetensors(path, items);
}

std::string ComplaintAbout(const TestFolder& folder) {
  return UserErrorOf([&] { SafetensorsSet set(folder.path()); });
}
std::string IndexComplaint(const TestFolder& folder, const std::string& index) {
  WriteFileAtomically(folder / kIndex, index);
  return ComplaintAbout(folder);
}

TEST(SafetensorsSet, OneFile) {
  TestFolder folder;
  WriteSafetensorsSet(folder.path(), {Item("b", 2), Item("a", 3)}, 20);
  EXPECT_THAT(ListDirectory(folder.path()), ElementsAre("model.safetensors"));
  const SafetensorsSet set(folder.path());
  EXPECT_EQ(set.path(), folder.path());
  EXPECT_EQ(set.files().size(), 1u);
  EXPECT_THAT(set.Names(), ElementsAre("a", "b"));
  EXPECT_EQ(set.Stored("a").file, folder / "model.safetensors");
  EXPECT_EQ(set.Stored("a").type, "F32");
  EXPECT_EQ(set.ReadF32("a", {3}).F32()[2], 3);
  EXPECT_THAT(UserErrorOf([&] { set.At("c"); }), HasSubstr("model.safetensors: tensor \"c\" is missing"));
}

TEST(SafetensorsSet, ShardsAsTransformersWritesThem) {
  TestFolder folder;
  // 8, 8 | 24 (alone, larger than a shard may be) | 12: limits are on the bytes of tensors.
  WriteSafetensorsSet(folder.path(), {Item("a", 2), Item("b", 2), Item("c", 6), Item("d", 3)}, 16, {{"format", "pt"}});
  EXPECT_THAT(ListDirectory(folder.path()),
              ElementsAre("model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                          "model-00003-of-00003.safetensors", kIndex));
  const Json index = ParseJson(ReadFile(folder / kIndex), kIndex);
  EXPECT_EQ(index["metadata"]["total_size"], 52);
  EXPECT_EQ(index["weight_map"]["b"], "model-00001-of-00003.safetensors");
  EXPECT_EQ(index["weight_map"]["c"], "model-00002-of-00003.safetensors");
  const SafetensorsSet set(folder.path());
  EXPECT_EQ(set.files().size(), 3u);
  EXPECT_EQ(set.files()[0].metadata().at("format"), "pt");
  EXPECT_THAT(set.Names(), ElementsAre("a", "b", "c", "d"));
  EXPECT_EQ(set.Stored("d").file, folder / "model-00003-of-00003.safetensors");
  EXPECT_EQ(set.ReadF32("c", {6}).F32()[5], 6);
  EXPECT_THAT(UserErrorOf([&] { set.ReadF32("c", {5}); }),
              HasSubstr("model-00002-of-00003.safetensors: tensor \"c\" has the wrong shape"));
  EXPECT_THAT(UserErrorOf([&] { set.At("e"); }), HasSubstr(folder.path() + ": tensor \"e\" is missing"));
  const auto source = OpenTensors(folder.path());
  EXPECT_EQ(source->Names(), set.Names());
}

TEST(SafetensorsSet, WriterDoesNotMixForms) {
  TestFolder folder;
  WriteSafetensorsSet(folder.path(), {Item("a", 2)}, 100);
  EXPECT_THAT(UserErrorOf([&] {
                WriteSafetensorsSet(folder.path(), {Item("a", 2), Item("b", 2)}, 8);
              }),
              HasSubstr("stands in the way"));
}

TEST(SafetensorsSet, ValuesAreNarrowedWhenTheirTurnComes) {
  TestFolder folder;
  std::vector<SafetensorsItem> items;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    items.push_back({NameOf(dtype), dtype, {2, 2}, nullptr, [] {
                       Tensor t({2, 2});
                       t.F32()[3] = 1.0f + 0x1p-9f;  // F16 holds it, BF16 does not
                       return t;
                     }});
  }
  WriteSafetensorsSet(folder.path(), items, 1000);
  const SafetensorsSet set(folder.path());
  EXPECT_EQ(set.At("F16").dtype, DType::kF16);
  EXPECT_EQ(set.ReadF32("F32", {2, 2}).F32()[3], 1.0f + 0x1p-9f);
  EXPECT_EQ(set.ReadF32("F16", {2, 2}).F32()[3], 1.0f + 0x1p-9f);
  EXPECT_EQ(set.ReadF32("BF16", {2, 2}).F32()[3], 1.0f);
  EXPECT_EQ(set.ReadF32("BF16", {2, 2}).F32()[0], 0.0f);
  items[1].values = [] {
    Tensor t({2, 2});
    t.F32()[0] = 70000;
    return t;
  };
  EXPECT_THAT(UserErrorOf([&] { WriteSafetensors(folder / "f", items); }),
              HasSubstr("tensor \"F16\" cannot be stored as F16"));
  EXPECT_FALSE(PathExists(folder / "f"));
}

TEST(SafetensorsSet, NoWeights) {
  TestFolder folder;
  EXPECT_THAT(ComplaintAbout(folder),
              HasSubstr("no weights, expected model.safetensors or model.safetensors.index.json, found neither"));
  WriteFileAtomically(folder / "pytorch_model-00001-of-00002.bin", "PK");
  EXPECT_THAT(ComplaintAbout(folder), AllOf(HasSubstr("pickle"), HasSubstr("python3 -c \"import glob, sys, torch;")));
  EXPECT_THAT(UserErrorOf([] { SafetensorsSet set("/nowhere"); }), HasSubstr("/nowhere: no such folder"));
  EXPECT_THAT(UserErrorOf([&] { OpenTensors(folder / "x.bin"); }), HasSubstr("not a checkpoint"));
}

TEST(SafetensorsSet, MissingShardsAreNamed) {
  TestFolder folder;
  WriteShard(folder / "s2", {"b"});
  EXPECT_THAT(IndexComplaint(folder, R"({"weight_map":{"a":"s1","b":"s2","c":"s3","d":"s1"}})"),
              AllOf(HasSubstr("2 of 3 shards missing"), HasSubstr("missing: \"s1\", \"s3\"")));
  std::string map;
  for (int i = 10; i < 20; ++i) map += fmt::format(R"({}"t{}":"s{}")", map.empty() ? "" : ",", i, i);
  EXPECT_THAT(IndexComplaint(folder, "{\"weight_map\":{" + map + "}}"), HasSubstr("\"s14\" and 5 more"));
}

TEST(SafetensorsSet, FilesOutsideTheFolder) {
  TestFolder outside, folder;
  WriteShard(outside / "s", {"a"});
  for (const std::string& bad : {outside / "s", std::string("../s"), std::string("a/../s"), std::string("sub/s"),
                                 std::string(".."), std::string("."), std::string(), std::string("s\\u0000.x")}) {
    EXPECT_THAT(IndexComplaint(folder, R"({"weight_map":{"a":")" + bad + "\"}}"),
                HasSubstr("bad file of tensor \"a\", expected the name of a file in the same folder"))
        << bad;
  }
  std::filesystem::create_symlink(outside / "s", folder / "s");  // as caches of downloads lay them out
  EXPECT_EQ(IndexComplaint(folder, R"({"weight_map":{"a":"s"}})"), "");
}

TEST(SafetensorsSet, EveryTensorIsInExactlyOneFile) {
  TestFolder folder;
  WriteShard(folder / "s1", {"a", "b"});
  WriteShard(folder / "s2", {"c"});
  WriteShard(folder / "s3", {"b"});
  EXPECT_EQ(IndexComplaint(folder, R"({"weight_map":{"a":"s1","c":"s2"}})"), "");  // b is there all the same
  EXPECT_THAT(IndexComplaint(folder, R"({"weight_map":{"a":"s1","c":"s1","d":"s2"}})"),
              HasSubstr("tensor \"c\" is not in the shard that the index names, expected \"s1\", found "));
  EXPECT_THAT(IndexComplaint(folder, R"({"weight_map":{"a":"s1","x":"s2"}})"),
              HasSubstr("tensor \"x\" is not in the shard that the index names, expected \"s2\", found in none"));
  WriteShard(folder / "s4", {"b", "d"});
  EXPECT_THAT(IndexComplaint(folder, R"({"weight_map":{"a":"s1","d":"s4"}})"),
              HasSubstr("s4: tensor \"b\" is in two shards and not in the index"));
}

// Some programs save a tied tensor into every shard that uses it.
TEST(SafetensorsSet, TheIndexSaysWhichCopyCounts) {
  TestFolder folder;
  const float other[] = {7, 8};
  WriteShard(folder / "s1", {"a", "b"});
  WriteSafetensors(folder / "s2", {Item("c", 2), {"b", DType::kF32, {2}, other}});
  EXPECT_EQ(IndexComplaint(folder, R"({"weight_map":{"a":"s1","b":"s1","c":"s2"}})"), "");
  EXPECT_EQ(SafetensorsSet(folder.path()).ReadF32("b", {2}).F32()[0], 1);
  EXPECT_EQ(IndexComplaint(folder, R"({"weight_map":{"a":"s1","b":"s2","c":"s2"}})"), "");
  const SafetensorsSet set(folder.path());
  EXPECT_EQ(set.ReadF32("b", {2}).F32()[0], 7);
  EXPECT_EQ(set.Stored("b").file, folder / "s2");
  EXPECT_THAT(set.Names(), ElementsAre("a", "b", "c"));
}

TEST(SafetensorsSet, BadIndex) {
  TestFolder folder;
  WriteShard(folder / "s", {"a"});
  EXPECT_THAT(IndexComplaint(folder, "{"), HasSubstr("not valid JSON"));
  EXPECT_THAT(IndexComplaint(folder, R"({"weight_map":{"a":"s","a":"s"}})"), HasSubstr("a second time"));
  EXPECT_THAT(IndexComplaint(folder, "[]"), HasSubstr("no list of shards"));
  EXPECT_THAT(IndexComplaint(folder, R"({"weight_map":[]})"), HasSubstr("found a list of 0 values"));
  EXPECT_THAT(IndexComplaint(folder, R"({"weight_map":{"a":1}})"),
              HasSubstr("bad file of tensor \"a\", expected a string, found the number 1"));
  EXPECT_THAT(IndexComplaint(folder, R"({"weight_map":{}})"), HasSubstr("an empty weight_map"));
}

}  // namespace
}  // namespace taipan
