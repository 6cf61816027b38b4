#include "train/run_data.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/logging.h"
#include "train/task_source.h"
#include "train/trainer.h"

namespace taipan {
namespace {

bool Separate(const TrainSettings& settings) { return settings.packing == DocumentPacking::kDocuments; }

std::shared_ptr<const BatchSource> CarriedSourceOf(const TrainSettings& s, const Corpus& corpus) {
  if (corpus.weighted()) {
    throw UserError({"--state", "some tokens of the data carry no loss, and a step may meet none that does",
                     "none or random", NameIn(s.state)});
  }
  auto source = std::make_shared<CarriedSource>(
      corpus, CarriedWindows{.context = s.context, .windows = s.state_windows, .separate = Separate(s)}, s.batch_size,
      s.order, static_cast<uint64_t>(s.seed));
  LogInfo("states go on for {} windows, {} tokens", source->windows(), source->windows() * s.context);
  return source;
}

std::shared_ptr<const BatchSource> SourceOf(const TrainSettings& s, const Corpus& corpus, int64_t batch_size) {
  const auto seed = static_cast<uint64_t>(s.seed);
  if (s.state == StateStart::kCarry) return CarriedSourceOf(s, corpus);
  if (!Separate(s)) {
    if (corpus.weighted()) {
      throw UserError({"--packing", "some tokens of the data carry no loss, which windows over joined text do not keep",
                       "documents", NameIn(s.packing)});
    }
    WindowLoader loader(corpus, s.context, batch_size, s.order, seed);
    if (batch_size == s.batch_size) return MakeCorpusSource(std::move(loader), s);
    return std::make_shared<CorpusSource>(std::move(loader));
  }
  PackedRows rows(corpus, s.context, s.order, seed);
  LogInfo("packs {} documents into {} rows of at most {} tokens, {:.2f} % of their places empty", corpus.documents(),
          rows.rows(), s.context, 100 * rows.padding());
  return std::make_shared<PackedSource>(corpus, std::move(rows), batch_size);
}

// Throws where --order documents means nothing.
void CheckOrder(const TrainSettings& s, bool has_eos) {
  if (s.order != WindowOrder::kDocuments) return;
  const auto refuse = [&](const char* problem, const char* expected) {
    throw UserError({"--order", problem, expected, NameIn(s.order), "--order shuffled"});
  };
  if (Separate(s)) refuse("documents that are kept apart are shuffled as rows", "--packing join");
  if (s.state == StateStart::kCarry) refuse("states go on through the text as it stands", "--state none or random");
  if (!has_eos) refuse("documents that follow each other in any order need an end", "--eos and a token");
}

// Throws where the model would be judged by what it has learnt by heart.
void RefuseTrainingToValidate(const RunData& data) {
  for (const ValidPart& part : data.valid) {
    for (const FileStamp& valid : part.corpus->stamps()) {
      for (const FileStamp& train : data.stamps) {
        if (valid.bytes != train.bytes || valid.hash != train.hash) continue;
        throw UserError({.where = valid.name,
                         .problem = "has the content of a training file, " + train.name,
                         .expected = "other data to validate on",
                         .hint = "--valid-split 0.05 holds out a part of the training data"});
      }
    }
  }
}

TrainingPart OpenPart(const std::vector<std::string>& paths, const CorpusOptions& options, const RunData& data) {
  if (IsTask(paths[0])) return {.corpus = nullptr, .task = paths[0]};
  TrainingPart part;
  part.corpus = std::make_unique<Corpus>(paths, data.text.tokenizer.get(), data.vocab_size, options);
  return part;
}

void OpenTraining(const TrainSettings& settings, const CorpusOptions& options, RunData& data) {
  const std::vector<WeightedPath> given = DataOf(settings);
  const bool tasks = std::any_of(given.begin(), given.end(), [](const WeightedPath& d) { return IsTask(d.path); });
  if (given[0].weight == 0 && tasks && given.size() > 1) {
    throw UserError({"--data", "a task beside other data needs a weight", "PATH=WEIGHT and TASK=WEIGHT", "none"});
  }
  if (given[0].weight == 0) {
    data.train.push_back(OpenPart(settings.data, options, data));
    return;
  }
  if (settings.valid_split > 0) {
    throw UserError({"--valid-split", "not together with weights of --data", "--valid-data", "both"});
  }
  for (const WeightedPath& path : given) {
    data.train.push_back(OpenPart({path.path}, options, data));
    data.train.back().weight = path.weight;
  }
}

// What a resumed run compares: the files, the tasks, the weights.
void AddStamps(RunData& data) {
  const auto add = [&](const std::string& name, const void* bytes, size_t size) {
    const auto count = static_cast<int64_t>(size);
    data.stamps.push_back({name, count, HashContent(static_cast<const char*>(bytes), count)});
  };
  for (const TrainingPart& part : data.train) {
    if (part.corpus) {
      data.stamps.insert(data.stamps.end(), part.corpus->stamps().begin(), part.corpus->stamps().end());
    } else {
      add(part.task, part.task.data(), part.task.size());
    }
  }
  for (const TrainingPart& part : data.train) {
    if (part.weight > 0) add(fmt::format("a weight of --data, {}", part.weight), &part.weight, sizeof(part.weight));
  }
}

// The token behind every document, which shards know themselves; the same in all corpora.
std::optional<int32_t> EosOf(const RunData& data, std::optional<int32_t> asked) {
  const Corpus* const first = data.first();
  if (first == nullptr) return asked;
  for (const TrainingPart& part : data.train) {
    if (!part.corpus || part.corpus->eos() == first->eos()) continue;
    const Tokenizer* tokenizer = data.text.tokenizer.get();
    throw UserError({part.corpus->stamps()[0].name,
                     "its documents end with another token than those of the first corpus",
                     NameOfEos(first->eos(), tokenizer), NameOfEos(part.corpus->eos(), tokenizer), "see --eos"});
  }
  return first->eos();
}

// Throws where shards were made with different tokenizers, of which a corpus compares its own.
void CheckOneTokenizer(const RunData& data) {
  const Corpus* first = nullptr;
  const auto check = [&](const Corpus* corpus) {
    if (corpus == nullptr || !corpus->tokenizer_digest() || corpus->stamps().empty()) return;
    if (first == nullptr) first = corpus;
    if (corpus->tokenizer_digest() == first->tokenizer_digest()) return;
    throw UserError({corpus->stamps()[0].name, "the shard was made with another tokenizer",
                     fmt::format("digest {:016x}, that of {}", *first->tokenizer_digest(), first->stamps()[0].name),
                     fmt::format("digest {:016x}", *corpus->tokenizer_digest())});
  };
  for (const TrainingPart& part : data.train) check(part.corpus.get());
  for (const ValidPart& part : data.valid) check(part.corpus.get());
}

}  // namespace

Corpus* RunData::first() const {
  for (const TrainingPart& part : train) {
    if (part.corpus) return part.corpus.get();
  }
  return nullptr;
}

std::string RunData::Describe() const {
  std::string all;
  for (const TrainingPart& part : train) {
    all += (all.empty() ? "" : "; ") + (part.corpus ? part.corpus->Describe() : "the task " + part.task);
  }
  return all;
}

void RunData::CheckUnchanged() const {
  for (const TrainingPart& part : train) {
    if (part.corpus) part.corpus->CheckUnchanged();
  }
  for (const ValidPart& part : valid) part.corpus->CheckUnchanged();
}

RunData OpenData(TrainSettings& settings, const std::string& model_directory, const ModelConfig& config, bool follow) {
  if (settings.data.empty()) throw UserError({"--data", "no data to train on", "at least one path", "none"});
  RunData data;
  data.text = ChooseTokenizer(settings, model_directory);
  Tokenizer* const tokenizer = data.text.tokenizer.get();
  data.vocab_size = follow && tokenizer ? tokenizer->vocab_size() : config.vocab_size;
  CheckVocabulary(data.text, data.vocab_size, settings.model);
  CorpusOptions options;
  options.eos = ChooseEos(settings.eos, tokenizer, config.eos_token_id, data.vocab_size);
  options.separate = Separate(settings) || settings.order == WindowOrder::kDocuments;
  options.chat = data.text.chat.get();
  OpenTraining(settings, options, data);
  options.eos = data.eos = EosOf(data, options.eos);
  settings.eos = data.eos ? fmt::format("{}", *data.eos) : "none";
  if (data.eos && tokenizer) tokenizer->set_eos(data.eos);
  CheckOrder(settings, data.eos.has_value());
  AddStamps(data);
  data.valid = OpenValidation(settings, data.text, data.first(), options, data.vocab_size);
  CheckOneTokenizer(data);
  RefuseTrainingToValidate(data);
  for (const auto& [name, content] : data.text.files) {
    const int64_t bytes = static_cast<int64_t>(content.size());
    data.stamps.push_back({name, bytes, HashContent(content.data(), bytes)});
  }
  return data;
}

std::shared_ptr<const BatchSource> MakeSource(const TrainSettings& s, const RunData& data) {
  const auto source = [&](const TrainingPart& part, int64_t batch_size) {
    if (part.corpus) return SourceOf(s, *part.corpus, batch_size);
    return MakeTask(part.task, s.context, batch_size, data.vocab_size, data.text.tokenizer.get());
  };
  const bool one_text = data.train[0].corpus && data.train[0].weight == 0;
  const bool carry = s.state == StateStart::kCarry, windows = one_text && !Separate(s) && !carry;
  if (carry && !one_text) {
    throw UserError({"--state", "only one text has windows that follow each other",
                     "--data without weights and without tasks", NameIn(s.state)});
  }
  for (const auto& [flag, given] : {std::pair("--context-schedule", !s.context_schedule.empty()),
                                    std::pair("--batch-size-schedule", !s.batch_size_schedule.empty())}) {
    if (given && !windows) {
      throw UserError({flag, "only windows over one text follow a schedule",
                       "--packing join, without weights of --data, tasks and --state carry", "another kind of rows"});
    }
  }
  if (data.train[0].weight == 0) return source(data.train[0], s.batch_size);
  std::vector<std::shared_ptr<const BatchSource>> sources;
  std::vector<double> weights;
  for (const TrainingPart& part : data.train) {
    sources.push_back(source(part, /*batch_size=*/1));
    weights.push_back(part.weight);
  }
  return std::make_shared<MixedSource>(std::move(sources), weights, s.batch_size, static_cast<uint64_t>(s.seed));
}

}  // namespace taipan
