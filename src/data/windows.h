#pragma once
// Which tokens a row of a step reads: a pure function of (seed, step, row), so a resumed run needs the step alone.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/document_order.h"

namespace taipan {

// kDocuments: documents are shuffled before they are joined and cut, and then the windows are.
enum class WindowOrder { kSequential, kShuffled, kDocuments };
inline std::vector<std::string> NamesOf(WindowOrder) { return {"sequential", "shuffled", "documents"}; }

// Cuts N tokens into floor((N-1)/n) windows an epoch, window k starting at token k*n; a window has n inputs and n
// targets, n + 1 tokens of which the last is the next window's first. Rows of steps take windows in turn; after the
// last one the next epoch begins, in a new random order where shuffled.
class WindowLoader {
 public:
  // UserError where the data does not hold one window. The corpus must outlive the loader.
  WindowLoader(const Corpus& corpus, int64_t context, int64_t batch_size, WindowOrder order, uint64_t seed);

  int64_t context() const { return context_; }
  int64_t batch_size() const { return batch_size_; }
  int64_t windows_per_epoch() const { return windows_; }
  // First token of the window of a row, in the text of its epoch; step counts from 0.
  int64_t WindowStart(int64_t step, int64_t row) const;
  // out: n + 1 token ids.
  void Read(int64_t step, int64_t row, int32_t* out) const;

 private:
  const Corpus& corpus_;
  int64_t context_, batch_size_, windows_;
  WindowOrder order_;
  uint64_t seed_;
  std::optional<DocumentOrder> documents_;
};

}  // namespace taipan
