#include "model/model_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/files.h"
#include "base/test_folder.h"

namespace taipan {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A folder with empty files, which nothing here looks into.
class Files {
 public:
  void Add(const std::string& name, const std::string& content = "") const {
    MakeDirectories(std::filesystem::path(folder_ / name).parent_path().string());
    WriteFileAtomically(folder_ / name, content);
  }
  std::string Find(const std::string& name) const { return FindModel(folder_ / name); }
  std::string Error(const std::string& name) const {
    return UserErrorOf([&] { ModelPathOf(folder_ / name); });
  }
  std::string operator/(const std::string& name) const { return folder_ / name; }

 private:
  TestFolder folder_;
};

TEST(ModelPath, AFolderOrAFileInIt) {
  const Files f;
  f.Add("m/config.json");
  EXPECT_EQ(f.Find("m"), f / "m");  // without weights, for those who ask for the config alone
  f.Add("m/model.safetensors");
  f.Add("m/m-Q4_K.gguf");
  f.Add("m/tokenizer.json");
  f.Add("m/README.md");
  for (const char* name : {"m", "m/", "m///", "m/config.json", "m/model.safetensors", "m/tokenizer.json"}) {
    EXPECT_EQ(f.Find(name), f / "m") << name;
  }
  EXPECT_EQ(f.Find("m/m-Q4_K.gguf"), f / "m/m-Q4_K.gguf");
  EXPECT_THAT(f.Error("m/README.md"), HasSubstr("not a model, expected a folder with config.json"));
  EXPECT_THAT(f.Error("m/README.md"), HasSubstr("found another file"));
  EXPECT_THAT(f.Error("none"), HasSubstr("found nothing of that name"));
  f.Add("empty/x.txt");
  EXPECT_THAT(f.Error("empty"), HasSubstr("found a folder with neither"));
  EXPECT_THAT(UserErrorOf([] { ModelPathOf(""); }), HasSubstr("an empty name"));
}

TEST(ModelPath, GgufByNameOrFirstBytes) {
  const Files f;
  f.Add("A.GGUF");
  f.Add("sha256-0123", "GGUF....");
  f.Add("short", "GGU");
  f.Add("folder.gguf/config.json");
  EXPECT_EQ(f.Find("A.GGUF"), f / "A.GGUF");
  EXPECT_EQ(f.Find("A.GGUF/"), f / "A.GGUF");
  EXPECT_EQ(f.Find("sha256-0123"), f / "sha256-0123");
  EXPECT_TRUE(IsGgufPath(f / "sha256-0123"));
  EXPECT_EQ(f.Find("short"), "");
  EXPECT_EQ(f.Find("folder.gguf"), f / "folder.gguf");
  EXPECT_FALSE(IsGgufPath(f / "folder.gguf"));
  EXPECT_FALSE(IsGgufPath(f / "none.gguf"));
}

TEST(ModelPath, AFolderWithOneGgufFile) {
  const Files f;
  f.Add("m/m.Q8_0.gguf");
  f.Add("m/mmproj-m.gguf");
  f.Add("m/config.json");  // of a download: its weights are elsewhere
  EXPECT_EQ(f.Find("m"), f / "m/m.Q8_0.gguf");
  f.Add("m/m.Q4_0.GGUF");
  EXPECT_THAT(f.Error("m"), AllOf(HasSubstr("2 GGUF files"), HasSubstr("m.Q4_0.GGUF, m.Q8_0.gguf")));
}

TEST(ModelPath, ARunFolder) {
  const Files f;
  f.Add("run/run.json");
  EXPECT_EQ(f.Find("run"), "");
  f.Add("run/model/config.json");
  EXPECT_EQ(f.Find("run"), f / "run/model");
}

TEST(ModelPath, ACacheOfDownloads) {
  const Files f;
  const std::string root = "hub/models--org--name";
  f.Add(root + "/blobs/11");
  f.Add(root + "/snapshots/aa/README.md");
  MakeDirectories(f / (root + "/snapshots/bb"));
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::create_symlink("../../blobs/11", f / (root + "/snapshots/bb/" + name));
  }
  f.Add(root + "/refs/main", "bb\n");
  for (const std::string& given : {root, root + "/", root + "/snapshots", root + "/snapshots/bb", std::string("hub")}) {
    EXPECT_EQ(std::filesystem::canonical(f.Find(given)), std::filesystem::canonical(f / (root + "/snapshots/bb")))
        << given;
  }
  const auto set_time = [&](const std::string& snapshot, int hours) {
    std::filesystem::last_write_time(f / (root + "/snapshots/" + snapshot),
                                     std::filesystem::file_time_type::clock::now() - std::chrono::hours(hours));
  };
  RemoveTree(f / (root + "/refs"));  // the newest, then
  set_time("aa", 5);
  set_time("bb", 1);
  EXPECT_EQ(f.Find(root), f / (root + "/snapshots/bb"));
  set_time("aa", 0);
  EXPECT_EQ(f.Find(root), "");
  f.Add(root + "/refs/main", "gone");
  set_time("bb", 0);
  set_time("aa", 5);
  EXPECT_EQ(f.Find(root), f / (root + "/snapshots/bb"));
  f.Add("hub/models--org--other/snapshots/cc/config.json");
  EXPECT_THAT(f.Error("hub"), AllOf(HasSubstr("2 cached models"), HasSubstr("models--org--name, models--org--other")));
}

TEST(ModelPath, LinksToNothing) {
  const Files f;
  f.Add("x");
  std::filesystem::create_symlink("../../blobs/22", f / "m");
  EXPECT_THAT(f.Error("m"), HasSubstr("found a symbolic link to nothing"));
}

}  // namespace
}  // namespace taipan
