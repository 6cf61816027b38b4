// Loss by position, and the file of logits.

#include <bit>

#include "base/files.h"
#include "cli/score_internal.h"
#include "formats/safetensors.h"
#include "plot/plot.h"

namespace taipan {

void LogitsFile::Begin(int64_t tokens) {
  if (!path_.empty()) tensors_.push_back(Tensor({tokens, vocab_}));
}

void LogitsFile::AddTo(ScoreOptions& options) {
  if (path_.empty()) return;
  options.on_logits = [this](int64_t first, ConstMatrixView part) {
    CopyMatrix(part, tensors_.back().Matrix().Rows(first, part.rows));
  };
}

void LogitsFile::Write() const {
  if (path_.empty()) return;
  std::vector<SafetensorsItem> items;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    items.push_back({std::to_string(i), DType::kF32, tensors_[i].shape(), tensors_[i].data()});
  }
  WriteSafetensors(path_, items);
}

void PositionLoss::Add(int64_t before, std::span<const float> logprobs) {
  for (size_t i = 0; i < logprobs.size(); ++i) {
    const auto position = static_cast<uint64_t>(before) + i;
    Bucket& bucket = buckets_[static_cast<int64_t>(std::bit_floor(position))];
    bucket.tokens += 1;
    bucket.nll -= logprobs[i];
  }
}

OrderedJson PositionLoss::Json() const {
  OrderedJson list = OrderedJson::array();
  for (const auto& [from, bucket] : buckets_) {
    list.push_back({{"from", from},
                    {"to", 2 * from - 1},
                    {"tokens", bucket.tokens},
                    {"nll", bucket.nll / static_cast<double>(bucket.tokens)}});
  }
  return list;
}

std::string PositionLoss::Table() const {
  std::vector<std::vector<std::string>> rows;
  for (const auto& [from, bucket] : buckets_) {
    const double nll = bucket.nll / static_cast<double>(bucket.tokens);
    rows.push_back({from == 1 ? "1" : fmt::format("{} to {}", FormatExact(from), FormatExact(2 * from - 1)),
                    FormatExact(bucket.tokens), fmt::format("{:.6f}", nll), fmt::format("{:.4f}", std::exp(nll))});
  }
  return FormatTable({{"tokens before"}, {"scored"}, {"nats a token"}, {"perplexity"}}, rows);
}

void PositionLoss::WriteSvg(const std::string& path) const {
  PlotSeries series;
  for (const auto& [from, bucket] : buckets_) {
    series.x.push_back(static_cast<double>(from));
    series.y.push_back(bucket.nll / static_cast<double>(bucket.tokens));
  }
  WriteFileAtomically(path, SvgPlot({series}, {.title = "Loss by position",
                                               .x_label = "tokens before the predicted one",
                                               .y_label = "nats a token",
                                               .log_x = true}));
}

}  // namespace taipan
