#include "infer/divergence.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/parallel.h"
#include "infer/scoring.h"

namespace taipan {
namespace {

struct Row {
  double nll_before = 0, nll_after = 0, kl = 0;
  bool same_top = false;
};

// KL = sum p (a - b) + log sum exp b - log sum exp a, over logits a and b, with p = softmax a.
Row CompareRows(const float* a, const float* b, int64_t n, int32_t target) {
  const float *top_a = std::max_element(a, a + n), *top_b = std::max_element(b, b + n);
  double sum_a = 0, sum_b = 0, difference = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double p = std::exp(a[i] - *top_a);
    sum_a += p;
    sum_b += std::exp(b[i] - *top_b);
    difference += p * (static_cast<double>(a[i]) - b[i]);
  }
  const double log_a = std::log(sum_a) + *top_a, log_b = std::log(sum_b) + *top_b;
  const double kl = difference / sum_a + log_b - log_a;
  return {log_a - a[target], log_b - b[target], std::max(kl, 0.0), top_a - a == top_b - b};
}

}  // namespace

Divergence CompareModels(const LanguageModel& before, const LanguageModel& after, std::span<const int32_t> tokens,
                         int64_t context, const std::function<void(int64_t tokens_done)>& on_progress) {
  const int64_t n = static_cast<int64_t>(tokens.size()), vocab = before.config().vocab_size;
  CHECK_EQ(vocab, after.config().vocab_size);
  CHECK_GE(context, 2);
  Tensor logits({std::min(context, n), vocab});
  std::vector<Row> rows;
  for (int64_t begin = 0; begin + 1 < n; begin += context) {
    const std::span<const int32_t> window =
        tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(std::min(context, n - begin)));
    const int64_t scored = static_cast<int64_t>(window.size()) - 1;  // none follows the last
    ScoreOptions options;
    options.on_logits = [&](int64_t first, ConstMatrixView part) {
      CopyMatrix(part, logits.Matrix().Rows(first, part.rows));
    };
    ScoreTokens(before, window, options);
    const size_t done = rows.size();
    rows.resize(done + static_cast<size_t>(scored));
    options.on_logits = [&](int64_t first, ConstMatrixView part) {
      ParallelFor(std::min(part.rows, scored - first), [&](int64_t r) {
        const auto at = static_cast<size_t>(first + r);
        rows[done + at] = CompareRows(logits.Matrix().F32(first + r), part.F32(r), vocab, window[at + 1]);
      });
    };
    ScoreTokens(after, window, options);
    if (on_progress) on_progress(begin + scored + 1);
  }
  Divergence d;
  std::vector<double> kls;
  for (const Row& row : rows) {
    d.nll_before += row.nll_before;
    d.nll_after += row.nll_after;
    d.same_top += row.same_top;
    kls.push_back(row.kl);
    d.mean_kl += row.kl;
  }
  d.scored = static_cast<int64_t>(rows.size());
  if (d.scored == 0) return d;
  d.same_top /= static_cast<double>(d.scored);
  d.mean_kl /= static_cast<double>(d.scored);
  const auto high = kls.begin() + static_cast<int64_t>(0.999 * static_cast<double>(kls.size() - 1));
  std::nth_element(kls.begin(), high, kls.end());
  d.high_kl = *high;
  return d;
}

}  // namespace taipan
