#include "infer/continuations.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>

#include "base/error.h"
#include "infer/scoring.h"
#include "infer/sequence_reader.h"

namespace taipan {
namespace {

constexpr int64_t kLogitsAtOnce = int64_t{16} << 20;   // numbers: 64 MiB
constexpr int64_t kStateBytes = int64_t{512} << 20;    // of the contexts that wait for their continuations
constexpr size_t kNoResult = static_cast<size_t>(-1);  // a segment that is only read

using Tokens = std::span<const int32_t>;

// Several segments that run as one forward, and whose labelled rows are scored.
class Bundle {
 public:
  Bundle(const LanguageModel& model, std::vector<ContinuationScore>& scores)
      : model_(model), gate_(InferenceGate(model.config())), scores_(scores) {}

  // Reads `inputs`; labels are what should follow the last labels.size() of them, for scores[result].
  void Add(Tokens inputs, Tokens labels, size_t result, const SequenceState* in, SequenceState* out) {
    const int64_t begin = batch_.size(), length = static_cast<int64_t>(inputs.size());
    batch_.tokens.insert(batch_.tokens.end(), inputs.begin(), inputs.end());
    batch_.segments.push_back({.begin = begin,
                               .length = length,
                               .row = static_cast<int64_t>(batch_.segments.size()),
                               .state_in = in,
                               .state_out = out});
    for (size_t i = 0; i < labels.size(); ++i) {
      rows_.push_back(begin + length - static_cast<int64_t>(labels.size() - i));
      asked_.push_back({labels[i], result});
    }
  }

  int64_t tokens() const { return batch_.size(); }

  void Run() {
    if (batch_.size() == 0) return;
    model_.Forward(batch_, gate_, /*keep=*/false, context_);
    const int64_t vocab = model_.config().vocab_size, count = static_cast<int64_t>(rows_.size());
    const int64_t step = std::clamp<int64_t>(kLogitsAtOnce / vocab, 1, std::max<int64_t>(count, 1));
    Tensor logits({std::min(step, count), vocab});
    for (int64_t begin = 0; begin < count; begin += step) {
      const int64_t rows = std::min(step, count - begin);
      const MatrixView part = logits.Matrix().Rows(0, rows);
      model_.Logits(context_, std::span(rows_).subspan(static_cast<size_t>(begin), static_cast<size_t>(rows)), part);
      for (int64_t i = 0; i < rows; ++i) ScoreRow({part.F32(i), static_cast<size_t>(vocab)}, asked_[begin + i]);
    }
    batch_ = {};
    rows_.clear();
    asked_.clear();
  }

 private:
  struct Question {
    int32_t token;
    size_t result;
  };

  void ScoreRow(std::span<const float> logits, Question question) {
    const TokenScore score = ScoreToken(logits, question.token);
    if (!std::isfinite(score.logprob)) {
      throw UserError({fmt::format("question {}", question.result), "the model's log-probability is not a number",
                       "a finite value", fmt::format("{}", score.logprob),
                       "its weights are damaged or its training diverged"});
    }
    scores_[question.result].sum_logprob += score.logprob;
    if (score.likeliest != question.token) scores_[question.result].greedy = false;
  }

  const LanguageModel& model_;
  const GateOptions gate_;
  std::vector<ContinuationScore>& scores_;
  ForwardContext context_;
  Batch batch_;
  std::vector<int64_t> rows_;  // labelled rows of the batch
  std::vector<Question> asked_;
};

class ContinuationScorer {
 public:
  ContinuationScorer(const LanguageModel& model, std::span<const Continuation> questions)
      : model_(model),
        questions_(questions),
        scores_(questions.size()),
        piece_(PieceLength(model.config())),
        reader_(model),
        bundle_(model, scores_) {
    for (size_t i = 0; i < questions.size(); ++i) {
      const std::string where = fmt::format("question {}", i);
      CHECK(!questions[i].context.empty() && !questions[i].continuation.empty());
      CheckTokenIds(questions[i].context, model.config().vocab_size, where);
      CheckTokenIds(questions[i].continuation, model.config().vocab_size, where);
      groups_[questions[i].context].push_back(i);
    }
  }

  std::vector<ContinuationScore> Run(const std::function<void(int64_t)>& progress) {
    const int64_t state_bytes = std::max<int64_t>(model_.NewState().bytes(), 1);
    for (auto group = groups_.begin(); group != groups_.end();) {
      std::deque<Context> contexts;  // of one wave; addresses stay
      for (int64_t read = 0; group != groups_.end() && read < piece_; ++group) {
        if (static_cast<int64_t>(contexts.size()) * state_bytes > kStateBytes) break;
        read += static_cast<int64_t>(group->first.size());
        contexts.push_back({group->first, group->second, model_.NewState()});
        ReadContext(contexts.back());
      }
      bundle_.Run();
      for (const Context& context : contexts) AskAll(context);
      bundle_.Run();
      for (const Context& context : contexts) done_ += static_cast<int64_t>(context.questions.size());
      if (progress) progress(done_);
    }
    return std::move(scores_);
  }

 private:
  struct Context {
    const std::vector<int32_t>& tokens;
    const std::vector<size_t>& questions;
    SequenceState state;  // after all tokens but the last, whose logits each continuation needs
  };

  void ReadContext(Context& context) {
    const Tokens tokens(context.tokens.data(), context.tokens.size() - 1);
    if (tokens.empty()) return;
    if (static_cast<int64_t>(tokens.size()) > piece_) {
      reader_.Read(tokens, context.state);
      return;
    }
    if (bundle_.tokens() + static_cast<int64_t>(tokens.size()) > 2 * piece_) bundle_.Run();
    bundle_.Add(tokens, {}, kNoResult, nullptr, &context.state);
  }

  void AskAll(const Context& context) {
    for (const size_t question : context.questions) {
      const std::vector<int32_t>& labels = questions_[question].continuation;
      std::vector<int32_t> inputs = {context.tokens.back()};
      inputs.insert(inputs.end(), labels.begin(), labels.end() - 1);
      if (static_cast<int64_t>(inputs.size()) > piece_) {
        AskInPieces(inputs, labels, question, context.state);
        continue;
      }
      bundle_.Add(inputs, labels, question, &context.state, nullptr);
      if (bundle_.tokens() >= piece_) bundle_.Run();
    }
  }

  void AskInPieces(Tokens inputs, Tokens labels, size_t question, SequenceState state) {
    bundle_.Run();
    ForEachPiece(state.position, static_cast<int64_t>(inputs.size()), piece_, [&](int64_t begin, int64_t count) {
      const size_t from = static_cast<size_t>(begin), n = static_cast<size_t>(count);
      bundle_.Add(inputs.subspan(from, n), labels.subspan(from, n), question, &state, &state);
      bundle_.Run();
    });
  }

  const LanguageModel& model_;
  std::span<const Continuation> questions_;
  std::vector<ContinuationScore> scores_;
  const int64_t piece_;
  SequenceReader reader_;
  Bundle bundle_;
  std::map<std::vector<int32_t>, std::vector<size_t>> groups_;
  int64_t done_ = 0;
};

}  // namespace

TokenScore ScoreToken(std::span<const float> logits, int32_t token) {
  const auto best = std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - *best);
  return {logits[static_cast<size_t>(token)] - static_cast<double>(*best) - std::log(sum), best - logits.begin()};
}

std::vector<ContinuationScore> ScoreContinuations(const LanguageModel& model, std::span<const Continuation> questions,
                                                  const std::function<void(int64_t)>& progress) {
  return ContinuationScorer(model, questions).Run(progress);
}

}  // namespace taipan
