#include "infer/gate_benefit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace taipan {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kTokensOfBatch = 4096;  // of windows that are read side by side

// The window's tokens `rows` times, and selections that are given instead of found.
class ForcedWindows {
 public:
  ForcedWindows(const SelectionTrace& trace, int64_t begin, int64_t length, int64_t rows)
      : length_(length), pairs_(trace.sals.size(), std::vector<float>(static_cast<size_t>(2 * length * rows))) {
    for (int64_t row = 0; row < rows; ++row) {
      const auto first = trace.tokens.begin() + begin;
      batch_.tokens.insert(batch_.tokens.end(), first, first + length);
      batch_.targets.insert(batch_.targets.end(), first + 1, first + length);
      batch_.targets.push_back(-1);
      batch_.segments.push_back({.begin = row * length, .length = length, .row = row});
      for (size_t s = 0; s < pairs_.size(); ++s) {
        for (int64_t i = 0; i < length; ++i) {
          Select(s, row, i, trace.sals[s].selected[static_cast<size_t>(begin + i)] != 0);
        }
      }
    }
  }

  void Select(size_t sal, int64_t row, int64_t token, bool selected) {
    pairs_[sal][static_cast<size_t>(2 * (row * length_ + token) + 1)] = selected ? kDecisive : -kDecisive;
  }
  const Batch& batch() const { return batch_; }
  GateOptions Gate() const {
    GateOptions gate;
    gate.noise = GateNoise::kGiven;
    for (const std::vector<float>& of_sal : pairs_) gate.given.push_back(of_sal.data());
    return gate;
  }

 private:
  // Beyond any margin. m_soft is 0 or 1 behind it, so no gradient passes through a selection.
  static constexpr float kDecisive = 1e9f;

  const int64_t length_;
  Batch batch_;
  std::vector<std::vector<float>> pairs_;  // [SAL][2 T]
};

std::vector<float> LogprobsOf(const LanguageModel& model, const ForcedWindows& windows, ForwardContext& context) {
  std::vector<float> logprobs(windows.batch().tokens.size());
  model.Forward(windows.batch(), windows.Gate(), /*keep=*/false, context);
  model.Score(context, logprobs.data());
  return logprobs;
}

// Of the values at `tokens`.
std::vector<double> At(const auto& values, std::span<const int64_t> tokens) {
  std::vector<double> picked;
  for (const int64_t token : tokens) picked.push_back(static_cast<double>(values[static_cast<size_t>(token)]));
  return picked;
}

// Mean benefit of the tokens that were selected, or of the others.
double MeanBenefit(const SelectionTrace::Sal& sal, std::span<const double> benefits, std::span<const int64_t> tokens,
                   bool selected) {
  double sum = 0;
  int64_t count = 0;
  for (const int64_t token : tokens) {
    if ((sal.selected[static_cast<size_t>(token)] != 0) != selected) continue;
    sum += benefits[static_cast<size_t>(token)];
    ++count;
  }
  return count > 0 ? sum / static_cast<double>(count) : kNone;
}

// From 1; equal values share the mean of theirs.
std::vector<double> Ranks(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin + 1;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    for (size_t i = begin; i < end; ++i) ranks[order[i]] = static_cast<double>(begin + end + 1) / 2;
    begin = end;
  }
  return ranks;
}

}  // namespace

std::vector<std::vector<double>> FirstOrderBenefits(const LanguageModel& model, const SelectionTrace& trace,
                                                    const BenefitProgress& on_progress) {
  std::vector<std::vector<double>> benefits(trace.sals.size());
  ModelParams gradients = model.NewGradients();
  ForwardContext context;
  trace.ForEachWindow([&](int64_t begin, int64_t length) {
    const ForcedWindows window(trace, begin, length, 1);
    GateOptions gate = window.Gate();
    gate.attend_all = true;
    model.Forward(window.batch(), gate, /*keep=*/true, context);
    StepTotals totals = TotalsOf({&window.batch(), 1});
    totals.targets = 1;  // the sum, not the mean
    model.Backward(context, totals, {}, {}, gradients);
    for (size_t s = 0; s < benefits.size(); ++s) {
      for (const float dm : context.gate_gradients()[s].dm) benefits[s].push_back(-static_cast<double>(dm));
    }
    if (on_progress) on_progress(begin + length);
  });
  return benefits;
}

std::vector<double> ExactBenefits(const LanguageModel& model, const SelectionTrace& trace, size_t sal,
                                  std::span<const int64_t> tokens, const BenefitProgress& on_progress) {
  std::vector<double> benefits;
  ForwardContext context;
  trace.ForEachWindow([&](int64_t begin, int64_t length) {
    const auto mine = [&] { return benefits.size() < tokens.size() && tokens[benefits.size()] < begin + length; };
    if (!mine()) return;
    const std::vector<float> base = LogprobsOf(model, ForcedWindows(trace, begin, length, 1), context);
    while (mine()) {
      const auto left = static_cast<int64_t>(std::count_if(tokens.begin() + std::ssize(benefits), tokens.end(),
                                                           [&](int64_t t) { return t < begin + length; }));
      const int64_t rows = std::min(left, std::max<int64_t>(kTokensOfBatch / length, 1));
      ForcedWindows windows(trace, begin, length, rows);
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t token = tokens[benefits.size() + static_cast<size_t>(row)];
        windows.Select(sal, row, token - begin, trace.sals[sal].selected[static_cast<size_t>(token)] == 0);
      }
      const std::vector<float> switched = LogprobsOf(model, windows, context);
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t token = tokens[benefits.size()];
        double lost = 0;  // log-likelihood, by switching
        for (int64_t i = token - begin; i < length; ++i) {
          lost += static_cast<double>(base[static_cast<size_t>(i)]) - switched[static_cast<size_t>(row * length + i)];
        }
        benefits.push_back(trace.sals[sal].selected[static_cast<size_t>(token)] != 0 ? lost : -lost);
      }
      if (on_progress) on_progress(std::ssize(benefits));
    }
  });
  CHECK_EQ(benefits.size(), tokens.size());
  return benefits;
}

std::vector<double> Surprises(const LanguageModel& model, const SelectionTrace& trace) {
  std::vector<double> surprises;
  ForwardContext context;
  trace.ForEachWindow([&](int64_t begin, int64_t length) {
    const std::vector<float> logprobs = LogprobsOf(model, ForcedWindows(trace, begin, length, 1), context);
    surprises.push_back(0);
    for (size_t i = 0; i + 1 < static_cast<size_t>(length); ++i) surprises.push_back(-static_cast<double>(logprobs[i]));
  });
  return surprises;
}

std::vector<int64_t> TokensWithSuccessor(const SelectionTrace& trace) {
  std::vector<int64_t> tokens;
  trace.ForEachWindow([&](int64_t begin, int64_t length) {
    for (int64_t i = begin; i + 1 < begin + length; ++i) tokens.push_back(i);
  });
  return tokens;
}

std::vector<int64_t> DrawTokens(const SelectionTrace& trace, int64_t count, uint64_t seed) {
  const std::vector<int64_t> all = TokensWithSuccessor(trace);
  std::vector<int64_t> drawn;
  for (uint64_t i = 0; i < std::min<uint64_t>(all.size(), static_cast<uint64_t>(count)); ++i) {
    drawn.push_back(all[RandomPermutation({seed, kSampleStream}, i, all.size())]);
  }
  std::sort(drawn.begin(), drawn.end());
  return drawn;
}

double RankingAuc(std::span<const double> scores, std::span<const double> benefits, double share) {
  CHECK_EQ(scores.size(), benefits.size());
  const auto n = static_cast<double>(scores.size());
  const double positives = std::round(share * n);
  if (positives < 1 || positives > n - 1) return kNone;
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return benefits[a] > benefits[b]; });
  const std::vector<double> ranks = Ranks(scores);
  double sum = 0;
  for (size_t i = 0; i < static_cast<size_t>(positives); ++i) sum += ranks[order[i]];
  return (sum - positives * (positives + 1) / 2) / (positives * (n - positives));
}

double RankCorrelation(std::span<const double> a, std::span<const double> b) {
  CHECK_EQ(a.size(), b.size());
  const std::vector<double> x = Ranks(a), y = Ranks(b);
  const double mean = (static_cast<double>(a.size()) + 1) / 2;
  double xx = 0, yy = 0, xy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
    xy += (x[i] - mean) * (y[i] - mean);
  }
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : kNone;
}

std::vector<GateRanking> RankGates(const LanguageModel& model, const SelectionTrace& trace, double share,
                                   int64_t samples, const BenefitProgress& on_progress) {
  std::vector<std::vector<double>> first_order = FirstOrderBenefits(model, trace, on_progress);
  const std::vector<int64_t> all = TokensWithSuccessor(trace), sample = DrawTokens(trace, samples, /*seed=*/0);
  const std::vector<double> surprises = At(Surprises(model, trace), all);
  std::vector<GateRanking> rankings;
  for (size_t s = 0; s < trace.sals.size(); ++s) {
    const SelectionTrace::Sal& sal = trace.sals[s];
    GateRanking& r = rankings.emplace_back();
    r.first_order = std::move(first_order[s]);
    r.exact = ExactBenefits(model, trace, s, sample, [&](int64_t done) {
      const auto before = trace.size() + static_cast<int64_t>(s * sample.size()) * trace.context;
      if (on_progress) on_progress(before + done * trace.context);
    });
    const std::vector<double> margins = At(sal.margin, all), alphas = At(sal.alpha, all);
    std::vector<double> benefits = At(r.first_order, all);
    r.auc = RankingAuc(margins, benefits, share);
    for (size_t i = 0; i < benefits.size(); ++i) {
      if (alphas[i] > 0) benefits[i] /= alphas[i];
    }
    r.equal_auc = RankingAuc(margins, benefits, share);
    r.surprise_auc = RankingAuc(surprises, benefits, share);
    r.exact_auc = RankingAuc(At(sal.margin, sample), r.exact, share);
    r.correlation = RankCorrelation(At(r.first_order, sample), r.exact);
    r.benefit_selected = MeanBenefit(sal, r.first_order, all, true);
    r.benefit_other = MeanBenefit(sal, r.first_order, all, false);
  }
  return rankings;
}

int64_t RankGatesWork(const SelectionTrace& trace, int64_t samples) {
  return trace.size() + static_cast<int64_t>(trace.sals.size()) * trace.context * std::min(samples, trace.size());
}

}  // namespace taipan
