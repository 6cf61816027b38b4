#include "infer/selection_report.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <unordered_map>

#include "text/recall_hits.h"
#include "text/token_class.h"

namespace taipan {
namespace {

// Counts the tokens of one group.
class Counter {
 public:
  explicit Counter(const SelectionTrace& trace) : trace_(trace), selected_(trace.sals.size(), 0) {}

  void Add(size_t token) {
    ++tokens_;
    for (size_t s = 0; s < selected_.size(); ++s) selected_[s] += trace_.sals[s].selected[token];
  }
  int64_t tokens() const { return tokens_; }
  SelectedGroup Named(std::string name) const {
    SelectedGroup group{std::move(name), tokens_, {}};
    for (const int64_t n : selected_) {
      group.share.push_back(tokens_ > 0 ? static_cast<double>(n) / static_cast<double>(tokens_) : 0.0);
    }
    return group;
  }

 private:
  const SelectionTrace& trace_;
  int64_t tokens_ = 0;
  std::vector<int64_t> selected_;
};

std::vector<SelectedGroup> ByPosition(const SelectionTrace& trace, int64_t buckets) {
  const int64_t longest = std::min(trace.context, trace.size());
  const int64_t width = (longest + buckets - 1) / buckets;
  std::vector<Counter> counters(static_cast<size_t>((longest + width - 1) / width), Counter(trace));
  for (int64_t i = 0; i < trace.size(); ++i) {
    counters[static_cast<size_t>(i % trace.context / width)].Add(static_cast<size_t>(i));
  }
  std::vector<SelectedGroup> groups;
  for (int64_t first = 0; first < longest; first += width) {
    groups.push_back(counters[static_cast<size_t>(first / width)].Named(
        fmt::format("{}-{}", first, std::min(first + width, longest) - 1)));
  }
  return groups;
}

std::vector<SelectedGroup> ByClass(const SelectionTrace& trace, std::span<const std::string_view> bytes,
                                   const std::vector<bool>& before_hit) {
  const std::vector<std::string> names = NamesOf(TokenClass{});
  std::vector<Counter> counters(names.size(), Counter(trace));
  const std::vector<TokenClass> classes = TokenClasses(bytes);
  for (size_t i = 0; i < classes.size(); ++i) counters[static_cast<size_t>(classes[i])].Add(i);
  std::vector<SelectedGroup> groups;
  for (size_t c = 0; c < names.size(); ++c) {
    if (counters[c].tokens() > 0) groups.push_back(counters[c].Named(names[c]));
  }
  Counter hit(trace), other(trace);
  trace.ForEachWindow([&](int64_t begin, int64_t count) {
    for (int64_t i = begin; i + 1 < begin + count; ++i) {
      (before_hit[static_cast<size_t>(i)] ? hit : other).Add(static_cast<size_t>(i));
    }
  });
  groups.push_back(hit.Named("before a recall hit"));
  groups.push_back(other.Named("before another token"));
  return groups;
}

std::vector<SelectedGroup> ByToken(const SelectionTrace& trace, const std::vector<std::string>& texts,
                                   const ReportOptions& options) {
  std::unordered_map<int32_t, size_t> of_id;
  std::vector<Counter> counters;
  std::vector<std::string> names;
  for (size_t i = 0; i < trace.tokens.size(); ++i) {
    const auto [at, fresh] = of_id.try_emplace(trace.tokens[i], counters.size());
    if (fresh) {
      counters.emplace_back(trace);
      names.push_back(texts[i]);
    }
    counters[at->second].Add(i);
  }
  int64_t most_seen = 0;
  for (const Counter& counter : counters) most_seen = std::max(most_seen, counter.tokens());
  std::vector<SelectedGroup> groups;
  for (size_t i = 0; i < counters.size(); ++i) {
    if (counters[i].tokens() >= std::min(options.least_seen, most_seen)) groups.push_back(counters[i].Named(names[i]));
  }
  const auto sum = [](const SelectedGroup& g) { return std::accumulate(g.share.begin(), g.share.end(), 0.0); };
  std::stable_sort(groups.begin(), groups.end(), [&](const SelectedGroup& a, const SelectedGroup& b) {
    return std::pair(sum(a), a.tokens) > std::pair(sum(b), b.tokens);
  });
  if (static_cast<int64_t>(groups.size()) > options.most_tokens) {
    groups.resize(static_cast<size_t>(options.most_tokens));
  }
  return groups;
}

std::vector<std::vector<double>> Agreement(const SelectionTrace& trace, const std::vector<double>& shares) {
  std::vector<std::vector<double>> ratio;
  for (size_t a = 0; a < trace.sals.size(); ++a) {
    std::vector<double>& row = ratio.emplace_back();
    for (size_t b = 0; b < trace.sals.size(); ++b) {
      int64_t both = 0;
      for (size_t i = 0; i < trace.tokens.size(); ++i) both += trace.sals[a].selected[i] & trace.sals[b].selected[i];
      const double chance = shares[a] * shares[b] * static_cast<double>(trace.size());
      row.push_back(chance > 0 ? static_cast<double>(both) / chance : std::numeric_limits<double>::quiet_NaN());
    }
  }
  return ratio;
}

}  // namespace

SelectionReport ReportSelection(const SelectionTrace& trace, const Tokenizer& tokenizer, const ReportOptions& options) {
  CHECK_GT(trace.size(), 0);
  SelectionReport report;
  std::vector<std::string_view> bytes;
  Counter all(trace);
  for (size_t i = 0; i < trace.tokens.size(); ++i) {
    bytes.push_back(tokenizer.TokenBytes(trace.tokens[i]));
    report.texts.push_back(VisibleText(bytes.back()));
    all.Add(i);
  }
  trace.ForEachWindow([&](int64_t begin, int64_t count) {
    const std::vector<bool> hits = RecallHits(
        std::span(trace.tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(count)), options.reach);
    report.before_hit.insert(report.before_hit.end(), hits.begin(), hits.end());
    report.before_hit.push_back(false);
  });
  report.all = all.Named("all");
  for (const SelectionTrace::Sal& sal : trace.sals) {
    report.mean_alpha.push_back(std::accumulate(sal.alpha.begin(), sal.alpha.end(), 0.0) /
                                static_cast<double>(trace.size()));
  }
  report.by_position = ByPosition(trace, options.buckets);
  report.by_class = ByClass(trace, bytes, report.before_hit);
  report.by_token = ByToken(trace, report.texts, options);
  report.agreement = Agreement(trace, report.all.share);
  return report;
}

}  // namespace taipan
