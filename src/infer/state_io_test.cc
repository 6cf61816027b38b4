#include "infer/state_io.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/test_folder.h"
#include "base/test_fuzz.h"
#include "formats/safetensors.h"
#include "infer/sequence_reader.h"
#include "infer/test_continuation.h"
#include "infer/test_model.h"

namespace taipan {
namespace {

using testing::HasSubstr;

// With 40 tokens read and logits that no model gives.
SequenceSnapshot Example(const LanguageModel& model) {
  const std::vector<int32_t> tokens = RandomTokens(40);
  return {StateAfter(model, 40), tokens, DigestTokens(tokens), std::vector<float>(256, 0.5f)};
}

struct KindAndType {
  LayerKind kind;
  DType dtype;
};
std::vector<KindAndType> AllKindsInAllTypes() {
  std::vector<KindAndType> out;
  for (const LayerKind kind : AllKinds()) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) out.push_back({kind, dtype});
  }
  return out;
}

// Shorter than the window of 24, on its edge, and past several pages of keys.
TEST(SequenceState, ContinuesTheSameWhenSavedCopiedAndForked) {
  const TestFolder folder;
  const std::string path = folder / "state.safetensors";
  for (const auto& [kind, dtype] : AllKindsInAllTypes()) {
    SCOPED_TRACE(NameOf(dtype));
    LanguageModel model = TinyModel(kind);
    model.SetDType(dtype);
    for (const int64_t length : {0, 10, 24, 300}) {
      SequenceState original = StateAfter(model, length);
      SaveSequence(model, {original}, path);
      SequenceState copy = original;
      SequenceState fork = original;
      SequenceReader(model).Read(RandomTokens(33, 4), fork);  // writes to its own pages only
      SequenceSnapshot restored = LoadSequence(model, path);
      EXPECT_EQ(restored.state.position, length);
      EXPECT_TRUE(restored.logits.empty());
      const std::vector<float> expected = Continuation(model, original);
      EXPECT_EQ(Continuation(model, copy), expected) << NameOf(kind) << " length " << length;
      EXPECT_EQ(Continuation(model, restored.state), expected) << NameOf(kind) << " length " << length;
      EXPECT_NE(Continuation(model, fork), expected) << NameOf(kind) << " length " << length;
    }
  }
}

TEST(SequenceState, TheFileHasTheDocumentedTensors) {
  const TestFolder folder;
  const std::string path = folder / "state.safetensors";
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  const SequenceSnapshot example = Example(model);
  SaveSequence(model, example, path);
  const SafetensorsFile file(path);
  EXPECT_EQ(file.At("layers.0.ssm_state").shape, (std::vector<int64_t>{4, 16, 8}));
  EXPECT_EQ(file.At("layers.0.conv_state").shape, (std::vector<int64_t>{3, 64 + 2 * 8}));
  EXPECT_EQ(file.At("layers.1.k").shape, (std::vector<int64_t>{24, 2, 8}));
  EXPECT_EQ(file.At("layers.1.v").shape, (std::vector<int64_t>{24, 2, 8}));
  EXPECT_TRUE(file.At("tokens").dtype == DType::kI32);
  EXPECT_EQ(file.entries().size(), 2u * 4 + 2);
  EXPECT_EQ(file.metadata().at("format"), "taipan-state-3");
  EXPECT_EQ(file.metadata().at("position"), "40");
  EXPECT_EQ(file.metadata().at("dtype"), "f32");
  EXPECT_EQ(file.metadata().size(), 6u);
  const SequenceSnapshot loaded = LoadSequence(model, path);
  EXPECT_EQ(loaded.logits, example.logits);
  EXPECT_EQ(loaded.tokens, example.tokens);
  EXPECT_EQ(loaded.token_digest, example.token_digest);
  const StateFileInfo info = ReadStateInfo(model, path);
  EXPECT_EQ(info.position, 40);
  EXPECT_EQ(info.token_digest, example.token_digest);
}

TEST(SequenceState, KeysAndValuesKeepTheirType) {
  const TestFolder folder;
  LanguageModel model = TinyModel(LayerKind::kSlidingAttention);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const std::string path = folder / NameOf(dtype);
    model.SetDType(dtype);
    SaveSequence(model, {StateAfter(model, 40)}, path);
    const SafetensorsFile file(path);
    EXPECT_TRUE(file.At("layers.1.k").dtype == dtype);
    EXPECT_TRUE(file.At("layers.1.v").dtype == dtype);
    EXPECT_TRUE(LoadSequence(model, path).state.layers[1].kv.dtype() == dtype);
  }
  const auto error = [&](const char* file) { return UserErrorOf([&] { LoadSequence(model, folder / file); }); };
  EXPECT_EQ(error("BF16"), "");
  EXPECT_THAT(error("F32"), HasSubstr("another number format, expected bf16, found \"f32\""));
  model.SetDType(DType::kF32);
  EXPECT_THAT(error("BF16"), HasSubstr("another number format, expected f32, found \"bf16\""));
}

TEST(SequenceState, AnotherQuantizationsStateIsRefused) {
  const TestFolder folder;
  const std::string path = folder / "state.safetensors";
  const std::vector<Kept> all = {Kept::kF32, Kept::kQ8, Kept::kQ4};  // they all compute in f32
  for (const Kept saved : all) {
    const LanguageModel model = TinyPatternModel("taipan", saved);
    SaveSequence(model, {StateAfter(model, 40)}, path);
    for (const Kept other : all) {
      const std::string message = UserErrorOf([&] { LoadSequence(TinyPatternModel("taipan", other), path); });
      if (other == saved) {
        EXPECT_EQ(message, "");
      } else {
        EXPECT_THAT(message, HasSubstr("another model"));
        EXPECT_THAT(message, HasSubstr("the same weight types"));
      }
    }
  }
}

TEST(SequenceState, AnotherModelsStateIsRefused) {
  const TestFolder folder;
  const std::string path = folder / "state.safetensors";
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  SaveSequence(model, {StateAfter(model, 40)}, path);
  const LanguageModel other_weights = TinyModel(LayerKind::kSelectiveAttention, 2);
  const LanguageModel other_pattern = TinyModel(LayerKind::kSlidingAttention);
  for (const LanguageModel* other : {&other_weights, &other_pattern}) {
    const std::string message = UserErrorOf([&] { LoadSequence(*other, path); });
    EXPECT_THAT(message, HasSubstr(path));
    EXPECT_THAT(message, HasSubstr("another model"));
  }
}

TEST(ModelDigest, ChangesWithWeightsAndConfigAndNotWithTheNumberFormat) {
  LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  const std::string digest = ModelDigest(model);
  EXPECT_EQ(digest.size(), 16u);
  model.SetDType(DType::kBF16);
  EXPECT_EQ(ModelDigest(model), digest);
  LanguageModel same = TinyModel(LayerKind::kSelectiveAttention);
  EXPECT_EQ(ModelDigest(same), digest);
  std::set<std::string> digests = {digest};
  same.params().ForEach([&](Weight& weight) {
    float& value = weight.F32()[0];
    const float before = std::exchange(value, value + 1);
    EXPECT_TRUE(digests.insert(ModelDigest(same)).second) << weight.spec.name;
    value = before;
  });
  same.SetSelectionThreshold({0.5, 0.25});
  EXPECT_TRUE(digests.insert(ModelDigest(same)).second);
}

TEST(SequenceState, FilesThatAreNoStatesOfThisVersionAreRefused) {
  const TestFolder folder;
  const std::string path = folder / "state.safetensors";
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  const auto error = [&] { return UserErrorOf([&] { LoadSequence(model, path); }); };
  EXPECT_THAT(error(), HasSubstr("state.safetensors"));  // missing
  const float value = 1;
  const std::vector<SafetensorsItem> items = {{"x", DType::kF32, {1}, &value}};
  WriteSafetensors(path, items);
  EXPECT_THAT(error(), HasSubstr("not a saved sequence state"));
  for (const char* format : {"taipan-state-2", "taipan-state-4"}) {
    WriteSafetensors(path, items, {{"format", format}});
    EXPECT_THAT(error(),
                HasSubstr(fmt::format("another version of the format, expected taipan-state-3, found \"{}\"", format)));
  }
}

// A state in a file that is then damaged.
class DamagedState : public testing::Test {
 protected:
  void SetUp() override {
    SaveSequence(model_, Example(model_), path_);
    whole_ = ReadFile(path_);
  }
  void Load(const std::string& bytes) const {
    LoadSequence(model_, SafetensorsFile(bytes.data(), static_cast<int64_t>(bytes.size()), path_));
  }

  const TestFolder folder_;
  const std::string path_ = folder_ / "state.safetensors";
  const LanguageModel model_ = TinyModel(LayerKind::kSelectiveAttention);
  std::string whole_;
};

TEST_F(DamagedState, CutAtEvery64thOfItsLength) {
  for (size_t part = 0; part < 64; ++part) {
    const std::string cut = whole_.substr(0, whole_.size() * part / 64);
    EXPECT_THAT(UserErrorOf([&] { Load(cut); }), HasSubstr(path_)) << part;
  }
  EXPECT_THROW(Load(whole_.substr(0, whole_.size() - 1)), UserError);
  EXPECT_THROW(Load(whole_ + "x"), UserError);
  EXPECT_NO_THROW(Load(whole_));
}

TEST_F(DamagedState, AnyFlippedBit) {
  for (size_t at = 0; at < whole_.size(); at += at < 2000 ? 1 : 13) {
    const char before = std::exchange(whole_[at], static_cast<char>(whole_[at] ^ (1 << at % 8)));
    EXPECT_THAT(UserErrorOf([&] { Load(whole_); }), HasSubstr(path_)) << "byte " << at;
    whole_[at] = before;
  }
  EXPECT_NO_THROW(Load(whole_));
}

TEST_F(DamagedState, RandomChanges) {
  const FuzzCounts counts = Fuzz(
      path_,
      [&](Draws& draw) {
        std::string bytes = whole_;
        for (size_t n = draw.Below(4) + 1; n > 0; --n) ChangeBytes(bytes, draw);
        Load(bytes);
        EXPECT_EQ(bytes, whole_);
      },
      1000);
  EXPECT_GT(counts.problems.size(), 5u);
}

// A state in parts, to be changed where its checksum then says that nothing was.
struct StateParts {
  std::map<std::string, std::string> metadata;
  struct Part {
    std::string name, bytes;
    DType dtype = DType::kF32;
    std::vector<int64_t> shape;
  };
  std::vector<Part> parts;

  explicit StateParts(const SafetensorsFile& file) : metadata(file.metadata()) {
    for (const auto& [name, entry] : file.entries()) {
      const std::string bytes(static_cast<const char*>(entry.data), static_cast<size_t>(entry.bytes));
      parts.push_back({name, bytes, entry.dtype, entry.shape});
    }
  }
  std::string File() const {
    nlohmann::json header = {{"__metadata__", metadata}};
    std::string data;
    for (const Part& part : parts) {
      header[part.name] = {{"dtype", NameOf(part.dtype)},
                           {"shape", part.shape},
                           {"data_offsets", {data.size(), data.size() + part.bytes.size()}}};
      data += part.bytes;
    }
    const std::string json = header.dump();
    const uint64_t size = json.size();
    return std::string(reinterpret_cast<const char*>(&size), sizeof size) + json + data;
  }
  // The same with its own checksum; "" where it is no safetensors file.
  std::string Sealed() {
    const std::string file = File();
    metadata["checksum"] = StateChecksum(SafetensorsFile(file.data(), static_cast<int64_t>(file.size()), "state"));
    return File();
  }
};

const std::vector<std::string> kNumbers = {"0",
                                           "1",
                                           "39",
                                           "41",
                                           "-1",
                                           "24",
                                           "",
                                           "4x",
                                           "1e3",
                                           "9223372036854775807",
                                           "1099511627776",
                                           "18446744073709551616",
                                           "ffffffffffffffff",
                                           "f32",
                                           "bf16"};

void ChangeShape(StateParts::Part& part, Draws& draw) {
  const std::vector<int64_t> sizes = {0, 1, 2, 8, 16, 24, 40, 256, int64_t{1} << 40, INT64_MAX, -1};
  switch (draw.Below(5)) {
    case 0:
      if (!part.shape.empty()) part.shape[draw.Below(part.shape.size())] = draw.OneOf(sizes);
      break;
    case 1:
      part.shape.insert(part.shape.begin(), draw.Below(2) == 0 ? 1 : draw.OneOf(sizes));
      break;
    case 2:
      if (part.shape.size() > 1) std::swap(part.shape[0], part.shape.back());
      break;
    case 3:  // fewer or more rows, with the bytes to it
      if (!part.shape.empty() && part.shape[0] > 0) {
        const size_t row = part.bytes.size() / static_cast<size_t>(part.shape[0]);
        part.shape[0] += draw.Below(2) == 0 ? -1 : 1;
        part.bytes.resize(row * static_cast<size_t>(part.shape[0]));
      }
      break;
    default:
      part.bytes.resize(draw.Below(2 * part.bytes.size() + 1));
  }
}

void ChangeParts(StateParts& state, Draws& draw) {
  StateParts::Part& part = state.parts[draw.Below(state.parts.size())];
  switch (draw.Below(7)) {
    case 0: {
      auto entry = state.metadata.begin();
      std::advance(entry, draw.Below(state.metadata.size()));
      entry->second = draw.OneOf(kNumbers);
      break;
    }
    case 1:
      state.metadata["position"] = draw.OneOf(kNumbers);
      break;
    case 2:
      part.dtype = draw.OneOf(std::vector{DType::kF32, DType::kBF16, DType::kI32, DType::kF16});
      if (draw.Below(2) == 0) part.bytes.resize(part.bytes.size() / 2);
      break;
    case 3:
      ChangeShape(part, draw);
      break;
    case 4:
      part.name = draw.Below(2) == 0 ? "layers.9.k" : state.parts[draw.Below(state.parts.size())].name;
      break;
    case 5:
      if (state.parts.size() > 1)
        state.parts.erase(state.parts.begin() + static_cast<int64_t>(draw.Below(state.parts.size())));
      break;
    default:
      for (size_t n = 1 + draw.Below(8); n > 0 && !part.bytes.empty(); --n) {
        part.bytes[draw.Below(part.bytes.size())] =
            static_cast<char>(draw.OneOf(std::vector{0, 0x7f, 0x80, 0xff, 0x3f}));
      }
  }
}

// What is accepted can be gone on from; nothing is read that is not there.
TEST_F(DamagedState, ChangesUnderItsChecksum) {
  const LanguageModel full = TinyModel(LayerKind::kAttention);
  SaveSequence(full, Example(full), folder_ / "full");
  const SafetensorsFile files[] = {SafetensorsFile(path_), SafetensorsFile(folder_ / "full")};
  int64_t accepted = 0;
  const FuzzCounts counts = Fuzz(
      path_,
      [&](Draws& draw) {
        const size_t which = draw.Below(2);
        const LanguageModel& model = which == 0 ? model_ : full;
        StateParts parts(files[which]);
        for (size_t n = draw.Below(3) + 1; n > 0; --n) ChangeParts(parts, draw);
        std::string bytes = parts.File();
        SafetensorsFile(bytes.data(), static_cast<int64_t>(bytes.size()), path_);  // refused where it is none
        bytes = parts.Sealed();
        SequenceSnapshot loaded =
            LoadSequence(model, SafetensorsFile(bytes.data(), static_cast<int64_t>(bytes.size()), path_));
        if (draw.Below(4) == 0) Continuation(model, loaded.state);
        ++accepted;
      },
      1000);
  EXPECT_GT(counts.problems.size(), 10u);
  EXPECT_GT(accepted, counts.inputs / 20);
}

TEST_F(DamagedState, IdsThatTheModelDoesNotHave) {
  StateParts parts(SafetensorsFile(whole_.data(), static_cast<int64_t>(whole_.size()), path_));
  for (StateParts::Part& part : parts.parts) {
    if (part.name != "tokens") continue;
    auto* const tokens = reinterpret_cast<int32_t*>(part.bytes.data());
    tokens[39] = -7;
    parts.metadata["token_digest"] = fmt::format("{:016x}", DigestTokens({tokens, 40}));
  }
  EXPECT_THAT(UserErrorOf([&] { Load(parts.Sealed()); }), HasSubstr("outside the model's vocabulary"));
  parts.metadata["position"] = "9223372036854775807";
  EXPECT_THAT(UserErrorOf([&] { Load(parts.Sealed()); }), HasSubstr("impossible position"));
}

TEST_F(DamagedState, AFullDiskLeavesTheOldFile) {
  const SequenceState state = StateAfter(model_, 50);
  const auto save_to_full_disk = [&] {
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit limit{};
    limit.rlim_cur = limit.rlim_max = 4096;  // of a file's size: the same to the writer
    CHECK_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    const std::string error = UserErrorOf([&] { SaveSequence(model_, {state}, path_); });
    const bool kept = ReadFile(path_) == whole_ && ListDirectory(folder_.path()).size() == 1;
    std::_Exit(kept && error.find("cannot write") != error.npos ? 0 : 1);
  };
  EXPECT_EXIT(save_to_full_disk(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace taipan
