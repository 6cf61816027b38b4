#include "train/run_data.h"

#include <fmt/format.h>

#include "base/error.h"
#include "train/run_validation.h"

namespace taipan {

RunData OpenData(TrainSettings& settings, const std::string& model_directory, const ModelConfig& config, bool follow) {
  int64_t vocab_size = config.vocab_size;
  RunData data;
  data.text = ChooseTokenizer(settings, model_directory);
  if (follow && data.text.tokenizer) vocab_size = data.text.tokenizer->vocab_size();
  CheckVocabulary(data.text, vocab_size, settings.model);
  if (settings.data.empty()) throw UserError({"--data", "no data to train on", "at least one path", "none"});
  const Tokenizer* tokenizer = data.text.tokenizer.get();
  const std::optional<int32_t> eos = ChooseEos(settings.eos, tokenizer, config.eos_token_id, vocab_size);
  settings.eos = eos ? fmt::format("{}", *eos) : "none";
  if (eos && tokenizer) data.text.tokenizer->set_eos(eos);
  data.train = std::make_unique<Corpus>(settings.data, tokenizer, vocab_size, CorpusOptions{.eos = eos});
  data.stamps = data.train->stamps();
  for (const auto& [name, content] : data.text.files) {
    const int64_t bytes = static_cast<int64_t>(content.size());
    data.stamps.push_back({name, bytes, HashContent(content.data(), bytes)});
  }
  data.valid = OpenValidation(settings, tokenizer, *data.train);
  return data;
}

}  // namespace taipan
