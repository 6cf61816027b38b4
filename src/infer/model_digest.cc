#include "infer/model_digest.h"

#include <algorithm>

#include "base/content_hash.h"
#include "tensor/bf16.h"

namespace taipan {
namespace {

// Elements of a matrix that are looked at, evenly spread.
constexpr int64_t kSamples = 64;

void AddEmbedding(const Weight& embedding, ContentHash& hash) {
  const int64_t rows = embedding.spec.shape[0], width = embedding.spec.shape[1];
  std::vector<float> row(static_cast<size_t>(width));
  for (int64_t i = 0; i < kSamples; ++i) {
    const int32_t token = static_cast<int32_t>(rows * i / kSamples);
    LookUp(embedding, {&token, 1}, {row.data(), 1, width});
    hash.Add(row.data(), width * static_cast<int64_t>(sizeof(float)));
  }
}

void AddRows(const QuantMatrixView& weight, ContentHash& hash) {
  constexpr int64_t kRows = 4;
  hash.Add(&weight.type, sizeof weight.type);
  std::vector<float> row(static_cast<size_t>(weight.cols));
  for (int64_t i = 0; i < kRows; ++i) {
    DecodeRow(weight, weight.rows * i / kRows, row.data());
    hash.Add(row.data(), weight.cols * static_cast<int64_t>(sizeof(float)));
  }
}

// As bf16, which is what the values are in either type.
void AddSample(const Weight& weight, ContentHash& hash) {
  const int64_t size = std::max(weight.f32.size(), weight.bf16.size());
  for (int64_t i = 0; i < kSamples && size > 0; ++i) {
    const int64_t at = size * i / kSamples;
    const BF16 value =
        weight.bf16.empty() ? ToBF16(weight.F32()[at]) : static_cast<const BF16*>(weight.bf16.data())[at];
    hash.Add(&value, sizeof value);
  }
}

}  // namespace

std::string ModelDigest(const LanguageModel& model) {
  ContentHash hash;
  const std::string config = ToJson(model.config());
  hash.Add(config.data(), static_cast<int64_t>(config.size()));
  AddEmbedding(model.params().embedding, hash);
  const Weight* const embedding = &model.params().embedding;
  model.params().ForEach([&](const Weight& weight) {
    if (&weight == embedding) return;
    if (!weight.quant.empty()) {
      AddRows(weight.quant.View(), hash);
    } else if (weight.spec.role == Role::kLinear) {
      AddSample(weight, hash);
    } else {
      hash.Add(weight.f32.data(), weight.f32.bytes());
    }
  });
  return fmt::format("{:016x}", hash.Finish());
}

}  // namespace taipan
