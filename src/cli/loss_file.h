#pragma once
// The loss of a long text by position, written while it is read.

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/clock.h"

namespace taipan {

// Rows of CSV, or JSON lines under a name that ends in .jsonl: the positions from and to, the mean -log p (nats) of
// their tokens, tokens/s since the row before, resident bytes. A row ends at every multiple of `every`, and where a
// state was saved.
class LossFile {
 public:
  // position: of a state that is gone on from; what an earlier run wrote up to there stays. 0: a new file.
  LossFile(const std::string& path, int64_t every, int64_t position);

  // log p of consecutive tokens. UserError for one that is no finite number.
  void Add(int64_t first, std::span<const float> logprobs);
  // Writes what there is of the tokens before `position`.
  void Flush(int64_t position);

 private:
  void Take(int64_t position, float logprob);
  void WriteRow();

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  struct Token {
    int64_t position;
    float logprob;
  };

  const std::string path_;
  const bool json_;
  const int64_t every_;
  std::unique_ptr<std::FILE, Close> file_;
  std::optional<Token> waiting_;  // may not have been read when the run stops
  int64_t from_ = 1, to_ = 0;     // of the row; from_ > to_: empty
  double nll_ = 0, since_ = NowSeconds();
};

}  // namespace taipan
