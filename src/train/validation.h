#pragma once
// How well a model predicts data it is not trained on.

#include <functional>
#include <optional>

#include "data/corpus.h"
#include "model/model.h"
#include "train/metrics.h"

namespace taipan {

struct ValidationOptions {
  int64_t context = 512;                 // tokens a window
  bool separate = false;                 // each document by itself; else as one text
  int64_t rows = 8;                      // windows a forward
  int64_t max_tokens = 65536;            // scored from the start of the data
  bool noise = true;                     // gates are trained with noise: also the shares that it makes
  uint64_t seed = 0;                     // of that noise
  int64_t step = 0;                      // updates before, reported
  std::function<bool()> stop = nullptr;  // asked between forwards: true gives up
};

// Consecutive windows, each a fresh document, the last one as long as the data allows, so that every token but the
// first is scored once; of separate documents, every token but the first of each that carries a loss. Without noise;
// where the model has SALs that are trained with noise, a second forward over at most a quarter of the windows measures
// the selected shares with it, else these are the same. No value where `stop` gave up.
std::optional<ValidMetrics> Validate(const LanguageModel& model, const Corpus& corpus, const Tokenizer* tokenizer,
                                     const ValidationOptions& options, ForwardContext& context);

// Bytes of text a token, over the first tokens of the data: 1 for bytes, 0 where no tokenizer says.
double BytesPerToken(const Corpus& corpus, const Tokenizer* tokenizer);

}  // namespace taipan
