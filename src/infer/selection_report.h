#pragma once
// Which tokens of a text the selective layers picked: shares by position, by class and by token, and how far layers
// agree.

#include <string>
#include <vector>

#include "infer/selection_trace.h"
#include "text/tokenizer.h"

namespace taipan {

// Some of the tokens, and the share of them that each SAL selected.
struct SelectedGroup {
  std::string name;
  int64_t tokens = 0;
  std::vector<double> share;  // [SAL]; 0 where there are no tokens
};

struct SelectionReport {
  SelectedGroup all;
  std::vector<double> mean_alpha;          // [SAL]
  std::vector<SelectedGroup> by_position;  // in the window: "0-63", ...
  // By TokenClass, those that occur; then by whether the next token is a recall hit (text/recall_hits.h), which is what
  // attending at a token can help to predict.
  std::vector<SelectedGroup> by_class;
  std::vector<SelectedGroup> by_token;  // the most selected first, named by their VisibleText
  // [SAL][SAL] tokens that both selected, over what independent choices of the same shares would give; NaN where one
  // selected none. 1: as by chance.
  std::vector<std::vector<double>> agreement;
  // A token each.
  std::vector<std::string> texts;  // VisibleText
  std::vector<bool> before_hit;    // the next token of the window is a recall hit
};

struct ReportOptions {
  int64_t reach = 4;         // of recall hits: the width of the convolution
  int64_t buckets = 16;      // of positions
  int64_t most_tokens = 40;  // in by_token
  int64_t least_seen = 5;    // of a token in by_token, unless the text has none so frequent
};
SelectionReport ReportSelection(const SelectionTrace& trace, const Tokenizer& tokenizer,
                                const ReportOptions& options = {});

}  // namespace taipan
