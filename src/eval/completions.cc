#include "eval/completions.h"

#include <algorithm>
#include <deque>

#include "eval/encode.h"
#include "infer/batcher.h"

namespace taipan {
namespace {

using Prompt = std::span<const int32_t>;

size_t CommonPrefix(Prompt a, Prompt b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

// Prompts [begin, end) that have `shared` tokens in common. States are forked on the grid of chunks alone, where that
// changes no bit: a completion does not depend on its neighbours.
struct Family {
  size_t begin = 0, end = 0, shared = 0;
};

Family NextFamily(const std::vector<Prompt>& prompts, size_t begin, size_t grid) {
  Family family{begin, begin + 1, 0};
  for (; family.end < prompts.size(); ++family.end) {
    const size_t shorter = std::min(prompts[begin].size(), prompts[family.end].size()) - 1;  // a token is left to read
    const size_t common = std::min(CommonPrefix(prompts[begin], prompts[family.end]), shorter) / grid * grid;
    if (common == 0 || (family.shared > 0 && common < family.shared)) break;
    if (family.shared == 0) family.shared = common;
  }
  return family;
}

}  // namespace

bool LineWriter::Add(int32_t token) {
  text_ += stop_.Append(stream_.Append(token));
  return !stop_.found();
}

std::string LineWriter::Finish() {
  text_ += stop_.Append(stream_.Flush());
  return text_ + stop_.Flush();
}

std::vector<std::string> Complete(const LanguageModel& model, const Tokenizer& tokenizer,
                                  const std::vector<Prompt>& prompts, const std::vector<int32_t>& stop_tokens) {
  const size_t grid = static_cast<size_t>(std::max<int64_t>(model.config().chunk_size, 16));
  Batcher batcher(model);
  SequenceReader reader(model);
  std::deque<LineWriter> writers;
  for (size_t begin = 0; begin < prompts.size();) {
    const Family family = NextFamily(prompts, begin, grid);
    SequenceState shared = model.NewState();
    if (family.shared > 0) reader.Read(prompts[begin].first(family.shared), shared);
    for (size_t i = begin; i < family.end; ++i) {
      const Prompt rest = prompts[i].subspan(family.shared);
      LineWriter& writer = writers.emplace_back(tokenizer);
      BatchRequest request{.prompt = {rest.begin(), rest.end()},
                           .options = {.sampling = {.temperature = 0},
                                       .max_tokens = kCompletionTokens,
                                       .stop_tokens = stop_tokens,
                                       .vocab_limit = tokenizer.vocab_size()},
                           .on_token = [&writer](int32_t token, std::span<const float>) { return writer.Add(token); }};
      if (family.shared > 0) request.from = SequenceSnapshot{.state = shared};
      batcher.Add(std::move(request));
    }
    begin = family.end;
  }
  batcher.Run();
  std::vector<std::string> texts;
  for (LineWriter& writer : writers) texts.push_back(writer.Finish());
  return texts;
}

}  // namespace taipan
