#pragma once
// What attending is worth at each token of a text, and how well a gate's margins rank the tokens by it.
//
// The benefit of a token in one SAL is what its attention takes off the loss of the window, in nats: the sum of -log p
// of the tokens behind it without its attention, minus the same with it. All other selections, of this SAL and of the
// others, stay as the model made them.

#include <functional>
#include <span>
#include <vector>

#include "infer/selection_trace.h"

namespace taipan {

using BenefitProgress = std::function<void(int64_t tokens_done)>;

// To first order, -dL/dm at the model's own selection: [SAL][token], from a forward and a backward a window. Attention
// is computed for every token; no gradient passes through any selection. Needs weights in f32.
std::vector<std::vector<double>> FirstOrderBenefits(const LanguageModel& model, const SelectionTrace& trace,
                                                    const BenefitProgress& on_progress = nullptr);

// Exact, of some tokens (ascending) in one SAL: the selection of each is switched and the window read again.
std::vector<double> ExactBenefits(const LanguageModel& model, const SelectionTrace& trace, size_t sal,
                                  std::span<const int64_t> tokens, const BenefitProgress& on_progress = nullptr);

// -log p of each token as it was predicted, in nats; 0 at the start of a window.
std::vector<double> Surprises(const LanguageModel& model, const SelectionTrace& trace);

// Tokens with a successor in their window, ascending: all of them, or `count` drawn.
std::vector<int64_t> TokensWithSuccessor(const SelectionTrace& trace);
std::vector<int64_t> DrawTokens(const SelectionTrace& trace, int64_t count, uint64_t seed);

// How often one of the share `share` of the tokens with the largest benefits has a larger score than one of the rest;
// a tie counts half. NaN where either would be empty.
double RankingAuc(std::span<const double> scores, std::span<const double> benefits, double share);
// Spearman's: of the ranks, ties sharing theirs. NaN where one of the lists has a single value.
double RankCorrelation(std::span<const double> a, std::span<const double> b);

// Of one SAL.
struct GateRanking {
  std::vector<double> first_order;  // [tokens]
  std::vector<double> exact;        // of the sample
  double auc = 0;                   // of the margins against first_order;
  double equal_auc = 0;             // against first_order / alpha: were all tokens to attend with the same weight;
  double surprise_auc = 0;          // of the tokens' surprise, which asks no gate, against the same;
  double exact_auc = 0;             // on the sample against exact; NaN without a sample
  double correlation = 0;           // of exact and first_order on the sample; NaN without one
  double benefit_selected = 0, benefit_other = 0;  // means of first_order; NaN where there are no such tokens
};
// A SAL each. share: of the tokens that attention helps most (RankingAuc); samples: of ExactBenefits, 0 for none.
std::vector<GateRanking> RankGates(const LanguageModel& model, const SelectionTrace& trace, double share,
                                   int64_t samples, const BenefitProgress& on_progress = nullptr);
// What on_progress counts up to.
int64_t RankGatesWork(const SelectionTrace& trace, int64_t samples);

}  // namespace taipan
