// What weights are bound as, from which files, and that a model computes the same from them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <set>

#include "base/file_faults.h"
#include "base/rng.h"
#include "base/test_folder.h"
#include "model/default_dtype.h"
#include "model/export.h"
#include "model/hf_config_test_text.h"
#include "model/model_files.h"
#include "model/parameters.h"
#include "model/quantize.h"

namespace taipan {
namespace {

using testing::HasSubstr;

// Sizes that keep every matrix aligned in the files.
ModelConfig Config(LayerKind kind, bool tied) {
  ModelConfig c;
  c.vocab_size = 256;
  c.hidden_size = 64;
  c.intermediate_size = 96;
  c.layer_pattern = {LayerKind::kMamba2, kind};
  c.head_dim = 16;
  c.state_size = 16;
  c.chunk_size = 16;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.attention_head_dim = 16;
  c.sliding_window = 24;
  c.tie_word_embeddings = tied;
  return c;
}

LanguageModel Fresh(const ModelConfig& config) {
  LanguageModel model(config);
  model.Initialise(7, /*gate_bias=*/0.0);
  return model;
}

std::vector<float> LogitsOf(const LanguageModel& model) {
  Batch batch;
  for (uint64_t i = 0; i < 40; ++i) {
    batch.tokens.push_back(
        static_cast<int32_t>(RandomBelow({1, kTestStream}, i, static_cast<uint64_t>(model.config().vocab_size))));
  }
  batch.segments = {{.begin = 0, .length = 40}};
  ForwardContext context;
  model.Forward(batch, {}, /*keep=*/false, context);
  const std::vector<int64_t> rows = {0, 1, 20, 39};
  Tensor logits({4, model.config().vocab_size});
  model.Logits(context, rows, logits.Matrix());
  return {logits.F32(), logits.F32() + logits.size()};
}

const std::vector<int32_t> kTokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4};

// The residual stream behind every layer.
std::vector<float> StreamOf(const LanguageModel& model) {
  Batch batch;
  batch.tokens = kTokens;
  batch.segments = {{.length = static_cast<int64_t>(kTokens.size())}};
  ForwardContext context;
  std::vector<float> stream;
  model.Forward(batch, {}, /*keep=*/false, context,
                [&](int64_t, ConstMatrixView h) { stream.insert(stream.end(), h.F32(), h.F32() + h.rows * h.cols); });
  return stream;
}

double RelativeError(const std::vector<float>& got, const std::vector<float>& expected) {
  double error = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += std::pow(static_cast<double>(got[i]) - expected[i], 2);
    size += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(error / size);
}

struct Held {
  int64_t f32 = 0, bf16 = 0, views = 0;  // bytes: of our own, and of files
  int64_t quant = 0;
};
Held HeldBy(LanguageModel& model) {
  Held held;
  model.params().ForEach([&](Weight& w) {
    held.quant += w.quant.bytes();
    for (const Tensor* t : {&w.f32, &w.bf16}) {
      (t->is_view() ? held.views : t == &w.f32 ? held.f32 : held.bf16) += t->bytes();
    }
  });
  return held;
}

// Bytes of the weights that kernels read in f32, and elements of matrices.
struct Sizes {
  int64_t vectors = 0, linear = 0;
};
Sizes SizesOf(const ModelConfig& config) {
  Sizes sizes;
  for (const WeightSpec& spec : WeightSpecs(config)) {
    const auto n = static_cast<int64_t>(spec.count());
    (spec.role == Role::kLinear ? sizes.linear : sizes.vectors) += spec.role == Role::kLinear ? n : 4 * n;
  }
  return sizes;
}

class Binds : public testing::Test {
 protected:
  std::string Folder(const ModelConfig& config, GgmlType type) {
    LanguageModel model = Fresh(config);
    const std::string path = folder_ / NameOf(type);
    MakeDirectories(path);
    ExportFolder(model, Naming::kTaipan, type, path, "a");
    return path;
  }
  std::string Gguf(const ModelConfig& config, GgmlType type) {
    LanguageModel model = Fresh(config);
    const std::string path = folder_ / (NameOf(type) + ".gguf");
    ExportGguf(model, type, {}, path, "a");
    return path;
  }

  TestFolder folder_;
};

// Two bytes a weight, whatever the file holds.
TEST_F(Binds, InBF16EachMatrixOnce) {
  for (const bool tied : {true, false}) {
    const ModelConfig config = Config(LayerKind::kSelectiveAttention, tied);
    const Sizes sizes = SizesOf(config);
    const int64_t embedding = config.vocab_size * config.hidden_size;
    for (const GgmlType type : {GgmlType::kF32, GgmlType::kF16, GgmlType::kBF16}) {
      LanguageModel model = LoadModel(Folder(config, type), Binding::kBF16);
      EXPECT_EQ(model.dtype(), DType::kBF16);
      const Held held = HeldBy(model);
      const bool stored = type == GgmlType::kBF16;
      EXPECT_EQ(held.f32, sizes.vectors) << NameOf(type);
      EXPECT_EQ(held.views, 0) << NameOf(type);
      // An embedding that is no head stays in the file.
      EXPECT_EQ(held.bf16, 2 * (sizes.linear - (tied || stored ? 0 : embedding))) << NameOf(type);
      EXPECT_EQ(model.params().embedding.rows != nullptr, !stored) << NameOf(type);
    }
  }
}

TEST_F(Binds, AViewOfAFileThatHoldsF32IsNoCopy) {
  const ModelConfig config = Config(LayerKind::kMamba2Mlp, false);
  const Sizes sizes = SizesOf(config);
  LanguageModel mapped = LoadModel(Folder(config, GgmlType::kF32), Binding::kView);
  EXPECT_EQ(HeldBy(mapped).f32, sizes.vectors);
  EXPECT_EQ(HeldBy(mapped).views, 4 * sizes.linear);
  LanguageModel read = LoadModel(Folder(config, GgmlType::kF16), Binding::kView);
  EXPECT_EQ(HeldBy(read).f32, sizes.vectors + 4 * sizes.linear);
  LanguageModel masters = LoadModel(folder_ / "F32");
  EXPECT_EQ(HeldBy(masters).f32, sizes.vectors + 4 * sizes.linear);
  EXPECT_EQ(HeldBy(masters).views, 0);
}

// Each matrix once, as the file has it; many rows are what they are where it is decoded first, bit for bit.
TEST_F(Binds, QuantizedMatricesStayAsTheyAreStored) {
  for (const char* text : {kMambaSsmText, kHfLlamaText}) {
    for (const bool tied : {true, false}) {
      ModelConfig config = ParseModelConfig(text, "a");
      if (config.intermediate_size > 0) config.intermediate_size = 64;
      config.tie_word_embeddings = tied;
      const Sizes sizes = SizesOf(config);
      const std::string path = Gguf(config, GgmlType::kQ8_0);
      LanguageModel stored = LoadModel(path, Binding::kStored), decoded = LoadModel(path, BindingOf(FastDType(config)));
      EXPECT_EQ(stored.dtype(), decoded.dtype());
      const Held held = HeldBy(stored);
      const int64_t products = sizes.linear - (tied ? 0 : config.vocab_size * config.hidden_size);
      EXPECT_GE(held.quant, products / 32 * 34) << text;
      EXPECT_LE(held.quant, products / 32 * 40) << text;  // groups of rows that are not full
      EXPECT_EQ(held.bf16 + held.views, 0) << text;
      EXPECT_EQ(held.f32, sizes.vectors) << text;
      EXPECT_EQ(StreamOf(stored), StreamOf(decoded)) << text;
      EXPECT_LE(RelativeError(LogitsOf(stored), LogitsOf(decoded)), 4e-3) << text;  // a head rounded to bf16 or not
      if (!tied) continue;
      EXPECT_THAT(UserErrorOf([&] { stored.RequireMasters("training"); }),
                  HasSubstr("found quantized weights, as the model was loaded"));
    }
  }
}

// Every type, in folders of our own; wide embeddings and heads, where K types fit.
TEST_F(Binds, EveryTypeOfBlocksRunsAsItIsStored) {
  ModelConfig config = Config(LayerKind::kSelectiveAttention, false);
  config.hidden_size = 256;
  config.num_attention_heads = 16;
  config.num_key_value_heads = 8;
  LanguageModel model = Fresh(config);
  for (const GgmlType type : {GgmlType::kQ8_0, GgmlType::kQ4_0, GgmlType::kQ4_1, GgmlType::kQ5_0, GgmlType::kQ5_1,
                              GgmlType::kQ4_K, GgmlType::kIQ4_NL, GgmlType::kQ5_K, GgmlType::kQ6_K}) {
    const std::string path = folder_ / NameOf(type);
    MakeDirectories(path);
    ExportQuantizedFolder(model, {QuantTypes(config, type, {{"o_proj", GgmlType::kBF16}})}, path);
    LanguageModel stored = LoadModel(path, Binding::kStored);
    std::set<std::string> types;
    int64_t bytes = 0;
    std::as_const(stored).params().ForEach(
        [&](const Weight& w) { bytes += w.quant.bytes() + w.f32.bytes() + w.bf16.bytes(); });
    const int64_t planned = BoundBytes(OpenCheckpoint(path), Binding::kStored);
    EXPECT_GE(planned, bytes);
    EXPECT_LE(planned, bytes + 64 * 40) << "each begins at a multiple of 64";
    stored.params().ForEach([&](Weight& w) {
      if (!w.quant.empty()) types.insert(NameOf(w.quant.View().type));
      EXPECT_EQ(w.quant.empty(), !stored.IsProduct(w) || w.spec.name.find("o_proj") != std::string::npos)
          << w.spec.name;
    });
    EXPECT_TRUE(types.count(NameOf(type))) << NameOf(type);  // and others, where the rows are not wide enough
    EXPECT_EQ(StreamOf(stored), StreamOf(LoadModel(path, BindingOf(stored.dtype())))) << NameOf(type);
  }
}

// Token by token, too: few rows read the blocks themselves.
TEST_F(Binds, StepsWithQuantizedMatricesAreCloseToTheWhole) {
  ModelConfig config = ParseModelConfig(kHfLlamaText, "a");
  config.intermediate_size = 64;
  const LanguageModel model = LoadModel(Gguf(config, GgmlType::kQ8_0), Binding::kStored);
  const std::vector<float> whole = StreamOf(model);
  SequenceState state;
  std::vector<float> last;
  for (const int32_t token : kTokens) {
    Batch step;
    step.tokens = {token};
    step.segments = {{.length = 1, .state_in = &state, .state_out = &state}};
    ForwardContext context;
    model.Forward(step, {}, false, context,
                  [&](int64_t, ConstMatrixView h) { last.assign(h.F32(), h.F32() + h.cols); });
  }
  EXPECT_LE(RelativeError(last, {whole.end() - config.hidden_size, whole.end()}), 0.02);  // a few roundings to bf16
}

TEST(Initialise, InBF16KeepsNoMasters) {
  const ModelConfig config = Config(LayerKind::kMamba2, true);
  LanguageModel model(config);
  model.Initialise(7, 0.0, Binding::kBF16);
  LanguageModel with_masters = Fresh(config);
  with_masters.SetDType(DType::kBF16);
  EXPECT_EQ(LogitsOf(model), LogitsOf(with_masters));
  const Sizes sizes = SizesOf(config);
  EXPECT_EQ(HeldBy(model).bf16, 2 * sizes.linear);
  EXPECT_EQ(HeldBy(model).f32, sizes.vectors + 4 * config.vocab_size * config.hidden_size);
}

// Bit for bit what masters and their copies give.
TEST_F(Binds, LogitsAreThoseOfMasters) {
  const auto check = [&](const std::string& path) {
    LanguageModel masters = LoadModel(path);
    EXPECT_EQ(LogitsOf(LoadModel(path, Binding::kView)), LogitsOf(masters)) << path;
    masters.SetDType(DType::kBF16);
    EXPECT_EQ(LogitsOf(LoadModel(path, Binding::kBF16)), LogitsOf(masters)) << path;
  };
  for (const bool tied : {true, false}) {
    for (const LayerKind kind : {LayerKind::kSelectiveAttention, LayerKind::kMamba2Mlp}) {
      for (const GgmlType type : {GgmlType::kF32, GgmlType::kF16, GgmlType::kBF16}) {
        check(Folder(Config(kind, tied), type));
      }
    }
  }
  for (const char* text : {kMambaSsmText, kHfLlamaText}) {
    ModelConfig config = ParseModelConfig(text, "a");
    if (config.intermediate_size > 0) config.intermediate_size = 64;  // q8_0 has blocks of 32
    for (const GgmlType type : {GgmlType::kF32, GgmlType::kF16, GgmlType::kBF16, GgmlType::kQ8_0}) {
      check(Gguf(config, type));
    }
  }
}

// Of other programs' files, whose tensors may hold several weights.
TEST_F(Binds, LogitsOfForeignFoldersAreThoseOfMasters) {
  for (const char* text : {kHfMamba2Text, kHfBambaText, kHfGraniteHybridText, kHfNemotronHText, kHfFalconH1Text}) {
    const ModelConfig config = ParseCheckpointConfig(text, "a").config;
    LanguageModel model = Fresh(config);
    for (const GgmlType type : {GgmlType::kF32, GgmlType::kF16, GgmlType::kBF16}) {
      const TestFolder folder;
      ExportFolder(model, TransformersNaming(config, "a"), type, folder.path(), "a");
      LanguageModel masters = LoadModel(folder.path());
      EXPECT_EQ(LogitsOf(LoadModel(folder.path(), Binding::kView)), LogitsOf(masters)) << text;
      masters.SetDType(DType::kBF16);
      EXPECT_EQ(LogitsOf(LoadModel(folder.path(), Binding::kBF16)), LogitsOf(masters)) << text;
    }
  }
}

TEST_F(Binds, WhatChangesOrSavesRefusesIt) {
  const std::string path = Folder(Config(LayerKind::kMamba2, true), GgmlType::kF32);
  LanguageModel narrow = LoadModel(path, Binding::kBF16);
  const std::string save = UserErrorOf([&] { SaveModel(narrow, folder_.path()); });
  EXPECT_THAT(save, HasSubstr("saving a model needs the weights in f32, expected f32, found bf16 alone"));
  EXPECT_THAT(UserErrorOf([&] { narrow.SetDType(DType::kF32); }), HasSubstr("computing in f32"));
  EXPECT_THAT(UserErrorOf([&] { ExportGguf(narrow, GgmlType::kF16, {}, folder_ / "x.gguf", "a"); }),
              HasSubstr("exporting a model needs the weights in f32"));
  EXPECT_THAT(UserErrorOf([&] { narrow.RequireMasters("training"); }), HasSubstr("training needs the weights in f32"));
  LanguageModel mapped = LoadModel(path, Binding::kView);
  EXPECT_THAT(UserErrorOf([&] { mapped.RequireMasters("training"); }),
              HasSubstr("training needs weights that may be changed"));
  EXPECT_NO_THROW(SaveModel(mapped, folder_.path()));
  EXPECT_EQ(ReadFile(folder_ / "model.safetensors"), ReadFile(path + "/model.safetensors"));
}

// The old file stays while it is open.
TEST_F(Binds, AFileThatIsReplacedKeepsWorking) {
  const std::string path = Folder(Config(LayerKind::kMamba2, true), GgmlType::kF32);
  const std::string weights = path + "/model.safetensors";
  const LanguageModel model = LoadModel(path, Binding::kBF16);
  const std::vector<float> before = LogitsOf(model);
  WriteFileAtomically(weights, "another");
  EXPECT_EQ(LogitsOf(model), before);
  RemoveTree(path);
  EXPECT_EQ(LogitsOf(model), before);
}

void Write(const std::string& path) {
  std::fstream(path + "/model.safetensors", std::ios::in | std::ios::out | std::ios::binary).seekp(5000).put('x');
}

TEST_F(Binds, AFileThatIsStillReadIsNotToBeWrittenTo) {
  const std::string path = Folder(Config(LayerKind::kMamba2, true), GgmlType::kF32);
  for (const Binding binding : {Binding::kView, Binding::kBF16}) {  // views; rows of the embedding
    const LanguageModel model = LoadModel(path, binding);
    LogitsOf(model);
    Write(path);
    EXPECT_THAT(UserErrorOf([&] { LogitsOf(model); }),
                HasSubstr("model.safetensors: the file changed while it was read"));
  }
  const LanguageModel model = LoadModel(path, Binding::kBF16);
  ASSERT_EQ(::truncate((path + "/model.safetensors").c_str(), 4096), 0);
  EXPECT_THAT(UserErrorOf([&] { LogitsOf(model); }),
              HasSubstr("model.safetensors: the file changed while it was read"));
}

TEST_F(Binds, AFileThatHoldsWhatRunsIsNotReadAfterwards) {
  const std::string path = Folder(Config(LayerKind::kMamba2, true), GgmlType::kBF16);
  const LanguageModel model = LoadModel(path, Binding::kBF16);
  const std::vector<float> before = LogitsOf(model);
  Write(path);
  EXPECT_EQ(LogitsOf(model), before);
}

void RunCut(const std::string& path) {
  ReportFileFaults();
  const LanguageModel model = LoadModel(path, Binding::kView);
  CHECK_EQ(::truncate((path + "/model.safetensors").c_str(), 4096), 0);
  LogitsOf(model);
  std::_Exit(77);
}

TEST(BindsDeathTest, AMappedFileThatIsCutEndsWithItsName) {
  const TestFolder folder;
  LanguageModel model = Fresh(Config(LayerKind::kMamba2, true));
  ExportFolder(model, Naming::kTaipan, GgmlType::kF32, folder.path(), "a");
  EXPECT_EXIT(RunCut(folder.path()), testing::ExitedWithCode(1),
              "model.safetensors: the file was cut, or its disk failed, while it was read\n$");
}

// The most memory of this process since the last call, in KiB; 0 where the system does not say.
int64_t PeakKib() {
  int64_t peak = 0;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) peak = std::stoll(line.substr(6));
  }
  std::ofstream("/proc/self/clear_refs") << 5;
  return peak;
}

// Loading takes one copy in bf16 and little else, whatever the file holds.
TEST_F(Binds, LoadingTakesNoMoreThanWhatStays) {
  ModelConfig config = Config(LayerKind::kMamba2, true);
  config.vocab_size = 1 << 15;
  config.hidden_size = 128;
  const double weights = 2 * static_cast<double>(CountParameters(config));
  for (const GgmlType type : {GgmlType::kF32, GgmlType::kBF16}) {
    const std::string path = Folder(config, type);
    PeakKib();
    const int64_t before = PeakKib();
    const LanguageModel model = LoadModel(path, Binding::kBF16);
    const double taken = 1024 * static_cast<double>(PeakKib() - before);
    EXPECT_LE(taken, weights + 3e6) << NameOf(type);  // a huge page at the end and buffers of threads
  }
}

// Everything comes from what was opened: the files may go.
TEST_F(Binds, OpensAModelOnce) {
  const std::string path = Gguf(ParseModelConfig(kHfLlamaText, "a"), GgmlType::kF32);
  const Checkpoint checkpoint = OpenCheckpoint(path);
  const std::vector<float> before = LogitsOf(LoadModel(path));
  RemoveTree(path);
  EXPECT_EQ(LogitsOf(LoadModel(checkpoint)), before);
  EXPECT_EQ(LogitsOf(LoadModel(checkpoint, Binding::kView)), before);
}

}  // namespace
}  // namespace taipan
