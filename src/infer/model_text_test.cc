#include "infer/model_text.h"

#include <gtest/gtest.h>

#include "base/test_folder.h"
#include "infer/gguf_text.h"
#include "infer/test_model.h"
#include "model/export.h"
#include "model/model_files.h"
#include "text/gguf/test_gguf_vocabularies.h"

namespace taipan {
namespace {

// Weights, tokenizer and chat template come from what was opened: the file may go.
TEST(ModelText, AGgufFileIsOpenedOnce) {
  const TestFolder folder;
  GgufVocabulary vocabulary = Gpt2Like();
  vocabulary.chat_template = "{{ messages }}";
  ModelConfig config = TinyConfig(LayerKind::kAttention);
  config.layer_pattern = {LayerKind::kAttention};
  config.rope_theta = 10000;
  config.vocab_size = static_cast<int64_t>(vocabulary.tokens.size());
  LanguageModel model(config);
  model.Initialise(1, 0);
  ExportGguf(model, GgmlType::kF32, VocabularyMetadata(vocabulary), folder / "x.gguf", "a");
  const Checkpoint checkpoint = OpenCheckpoint(folder / "x.gguf");
  RemoveTree(folder / "x.gguf");
  const ModelText text = LoadModelText(checkpoint);
  ASSERT_NE(text.tokenizer, nullptr);
  EXPECT_EQ(text.tokenizer->vocab_size(), config.vocab_size);
  EXPECT_EQ(text.chat_template, "{{ messages }}");
  EXPECT_EQ(text.stop_tokens, (std::vector<int32_t>{261}));
  EXPECT_EQ(LoadModel(checkpoint, Binding::kBF16).dtype(), DType::kBF16);
}

}  // namespace
}  // namespace taipan
