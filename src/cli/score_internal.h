#pragma once
// What the forms of `taipan score` share.

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/output.h"
#include "infer/scoring.h"
#include "model/default_dtype.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace taipan {

struct ScoreFlags {
  std::string model, tokenizer;
  ComputeType dtype = ComputeType::kAuto;
  KvType kv_dtype = KvType::kAuto;
  std::string text, tokens, pairs;  // one of them: what is scored
  int64_t context = 0;              // of a window (text), at most (pairs); 0: everything before a token
  int64_t stride = 0;               // 0: half of context
  std::string logits, svg;
  std::optional<double> budget;  // of selective layers
  bool by_position = false, recall_hits = false;
  bool json = false;
};

void ScoreText(const LanguageModel& model, const Tokenizer& tokenizer, const ScoreFlags& flags);
int64_t CountTextTokens(const Tokenizer& tokenizer, const std::string& path);  // 0 for what cannot be read twice
void ScorePairs(const LanguageModel& model, const Tokenizer& tokenizer, const ScoreFlags& flags);

OrderedJson NullUnlessFinite(double value);

// Logits of all sequences until they are written: safetensors wants the sizes first.
class LogitsFile {
 public:
  LogitsFile(std::string path, int64_t vocab) : path_(std::move(path)), vocab_(vocab) {}

  void Begin(int64_t tokens);
  void AddTo(ScoreOptions& options);
  void Write() const;

 private:
  std::string path_;
  int64_t vocab_;
  std::vector<Tensor> tensors_;
};

// Mean -log p by how many tokens stand before the predicted one: 1, 2-3, 4-7, ...
class PositionLoss {
 public:
  void Add(int64_t before, std::span<const float> logprobs);  // of consecutive tokens
  OrderedJson Json() const;                                   // [{"from", "to", "tokens", "nll"}]
  std::string Table() const;
  void WriteSvg(const std::string& path) const;

 private:
  struct Bucket {
    int64_t tokens = 0;
    double nll = 0;
  };
  std::map<int64_t, Bucket> buckets_;  // by their first position, a power of two
};

}  // namespace taipan
