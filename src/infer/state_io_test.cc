#include "infer/state_io.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/test_folder.h"
#include "formats/safetensors.h"
#include "infer/sequence_reader.h"
#include "infer/test_model.h"

namespace taipan {
namespace {

// Logits after a piece of 20 tokens and two single steps.
std::vector<float> Continuation(const LanguageModel& model, SequenceState& state) {
  SequenceReader reader(model);
  reader.Read(RandomTokens(20, 9), state);
  Tensor logits({1, 256});
  SequenceState* const pointer = &state;
  for (const int32_t token : {5, 250}) reader.Step({&token, 1}, {&pointer, 1}, logits.Matrix());
  return {logits.F32(), logits.F32() + 256};
}

SequenceState StateAfter(const LanguageModel& model, int64_t tokens) {
  SequenceState state = model.NewState();
  SequenceReader(model).Read(RandomTokens(tokens), state);
  return state;
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
      SaveSequenceState(model, original, path);
      SequenceState copy = original;
      SequenceState fork = original;
      SequenceReader(model).Read(RandomTokens(33, 4), fork);  // writes to its own pages only
      LoadedState restored = LoadSequenceState(model, path);
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
  const std::vector<float> logits(256, 0.5f);
  SaveSequenceState(model, StateAfter(model, 40), path, logits);
  const SafetensorsFile file(path);
  EXPECT_EQ(file.At("layers.0.ssm_state").shape, (std::vector<int64_t>{4, 16, 8}));
  EXPECT_EQ(file.At("layers.0.conv_state").shape, (std::vector<int64_t>{3, 64 + 2 * 8}));
  EXPECT_EQ(file.At("layers.1.k").shape, (std::vector<int64_t>{24, 2, 8}));
  EXPECT_EQ(file.At("layers.1.v").shape, (std::vector<int64_t>{24, 2, 8}));
  EXPECT_EQ(file.entries().size(), 2u * 4 + 2);
  EXPECT_EQ(LoadSequenceState(model, path).logits, logits);
}

TEST(SequenceState, KeysAndValuesKeepTheirTypeAndEitherIsRead) {
  const TestFolder folder;
  const std::string path = folder / "state.safetensors";
  LanguageModel model = TinyModel(LayerKind::kSlidingAttention);
  const auto saved_type = [&] {
    SaveSequenceState(model, StateAfter(model, 40), path);
    const SafetensorsFile file(path);
    EXPECT_TRUE(file.At("layers.1.k").dtype == file.At("layers.1.v").dtype);
    return file.At("layers.1.k").dtype;
  };
  EXPECT_TRUE(saved_type() == DType::kF32);
  model.SetDType(DType::kBF16);
  EXPECT_TRUE(saved_type() == DType::kBF16);
  LoadedState restored = LoadSequenceState(model, path);
  const int64_t bytes = restored.state.layers[1].kv.bytes();
  model.SetDType(DType::kF32);  // what was kept in bf16 is continued in f32
  restored = LoadSequenceState(model, path);
  EXPECT_TRUE(restored.state.layers[1].kv.dtype() == DType::kBF16);
  for (const float logit : Continuation(model, restored.state)) ASSERT_TRUE(std::isfinite(logit));
  EXPECT_TRUE(restored.state.layers[1].kv.dtype() == DType::kF32);
  EXPECT_EQ(restored.state.layers[1].kv.bytes(), 2 * bytes);
}

TEST(SequenceState, AnotherModelsStateIsRefused) {
  const TestFolder folder;
  const std::string path = folder / "state.safetensors";
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  SaveSequenceState(model, StateAfter(model, 40), path);
  const LanguageModel other_weights = TinyModel(LayerKind::kSelectiveAttention, 2);
  const LanguageModel other_pattern = TinyModel(LayerKind::kSlidingAttention);
  for (const LanguageModel* other : {&other_weights, &other_pattern}) {
    const std::string message = UserErrorOf([&] { LoadSequenceState(*other, path); });
    EXPECT_NE(message.find(path), std::string::npos) << message;
    EXPECT_NE(message.find("another model"), std::string::npos) << message;
  }
}

TEST(SequenceState, DamagedFilesAreRefused) {
  const TestFolder folder;
  const std::string path = folder / "state.safetensors";
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  EXPECT_THROW(LoadSequenceState(model, path), UserError);  // missing
  const float value = 1;
  WriteSafetensors(path, {{"position", DType::kF32, {1}, &value}});
  EXPECT_NE(UserErrorOf([&] { LoadSequenceState(model, path); }).find("not a saved"), std::string::npos);
  const std::map<std::string, std::string> metadata = {{"format", "taipan-state-1"},
                                                       {"fingerprint", ModelFingerprint(model)}};
  WriteSafetensors(path, {{"position", DType::kF32, {1}, &value}}, metadata);
  EXPECT_NE(UserErrorOf([&] { LoadSequenceState(model, path); }).find("position"), std::string::npos);
  const int64_t negative = -4;
  WriteSafetensors(path, {{"position", DType::kI64, {1}, &negative}}, metadata);
  EXPECT_NE(UserErrorOf([&] { LoadSequenceState(model, path); }).find("negative"), std::string::npos);
  const int64_t position = 7;
  WriteSafetensors(path, {{"position", DType::kI64, {1}, &position}}, metadata);  // no layers
  EXPECT_NE(UserErrorOf([&] { LoadSequenceState(model, path); }).find("ssm_state"), std::string::npos);
}

}  // namespace
}  // namespace taipan
