// Keys and values kept in another type than the run computes in: files, forks, steps and pieces.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/test_folder.h"
#include "infer/divergence.h"
#include "infer/sequence_reader.h"
#include "infer/state_io.h"
#include "infer/test_continuation.h"
#include "infer/test_model.h"

namespace taipan {
namespace {

using testing::HasSubstr;

// Every kind of layer with keys, in every type that may keep them.
TEST(KvDType, KeysInAnotherTypeThanTheRunContinueTheSame) {
  const TestFolder folder;
  const std::string path = folder / "state.safetensors";
  for (const LayerKind kind : {LayerKind::kAttention, LayerKind::kSlidingAttention, LayerKind::kSelectiveAttention}) {
    LanguageModel model = TinyModel(kind);
    model.SetDType(kind == LayerKind::kSlidingAttention ? DType::kBF16 : DType::kF32);
    for (const DType kv : {DType::kI8, DType::kBF16, DType::kF32}) {
      model.SetKvDType(kv);
      for (const int64_t length : {10, 150}) {
        SequenceState original = StateAfter(model, length);
        SaveSequence(model, {original}, path);
        SequenceState fork = original;
        SequenceReader(model).Read(RandomTokens(33, 4), fork);
        SequenceSnapshot restored = LoadSequence(model, path);
        EXPECT_EQ(restored.state.bytes(), original.bytes());
        EXPECT_EQ(Continuation(model, restored.state), Continuation(model, original))
            << NameOf(kind) << " " << NameOf(kv) << " length " << length;
      }
    }
    const SafetensorsFile file(path);
    EXPECT_TRUE(file.At("layers.1.k").dtype == DType::kF32);
    model.SetKvDType(DType::kI8);
    EXPECT_THAT(UserErrorOf([&] { LoadSequence(model, path); }),
                HasSubstr("keys and values in another number format, expected int8, found F32"));
  }
}

// A quarter of the bytes, and little changes.
TEST(KvDType, IntegerKeysAreSmallAndClose) {
  LanguageModel model = TinyModel(LayerKind::kAttention), integers = TinyModel(LayerKind::kAttention);
  integers.SetKvDType(DType::kI8);
  const std::vector<int32_t> tokens = RandomTokens(400);
  const Divergence divergence = CompareModels(model, integers, tokens, 200);
  EXPECT_GT(divergence.mean_kl, 0);
  EXPECT_LT(divergence.mean_kl, 0.01);
  EXPECT_GT(divergence.same_top, 0.9);
  const auto kv_bytes = [](const SequenceState& state) { return state.layers[1].kv.bytes(); };
  // Of 8 numbers of a head 32 bytes, or 8 and a scale.
  EXPECT_EQ(kv_bytes(StateAfter(integers, 300)) * 32, kv_bytes(StateAfter(model, 300)) * 12);
  // Steps see what pieces see: keys are rounded before attention reads them.
  SequenceState whole = StateAfter(integers, 40), steps = integers.NewState();
  Tensor logits({1, 256});
  SequenceState* const pointer = &steps;
  SequenceReader reader(integers);
  for (const int32_t token : RandomTokens(40)) reader.Step({&token, 1}, {&pointer, 1}, logits.Matrix());
  const std::vector<float> a = Continuation(integers, whole), b = Continuation(integers, steps);
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += a[i] * a[i];
  }
  EXPECT_LT(std::sqrt(difference / norm), 0.01);  // an integer may fall to the other side of a half
}

}  // namespace
}  // namespace taipan
