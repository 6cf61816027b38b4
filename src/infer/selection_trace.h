#pragma once
// What the selective layers of a model did with each token of a text.

#include <functional>
#include <span>
#include <vector>

#include "model/model.h"

namespace taipan {

struct SelectionTrace {
  struct Sal {
    std::vector<float> margin, alpha;  // [tokens]
    std::vector<uint8_t> selected;
  };
  std::vector<int32_t> tokens;
  int64_t context = 0;  // tokens of a window, each read from a fresh state
  std::vector<Sal> sals;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  // f(begin, count) of each window.
  void ForEachWindow(const std::function<void(int64_t, int64_t)>& f) const;
};

// By the rule of use. on_progress: tokens read so far. UserError naming `where` for a model without selective layers,
// no tokens, and a gate that gives a margin that is no finite number.
SelectionTrace TraceSelection(const LanguageModel& model, std::span<const int32_t> tokens, int64_t context,
                              const std::string& where, const std::function<void(int64_t)>& on_progress = nullptr);

}  // namespace taipan
