#include <limits>

#include "api/core.h"
#include "base/files.h"
#include "base/parallel.h"
#include "model/hf_config.h"
#include "model/parameters.h"
#include "model/presets.h"
#include "text/tokenizer_config.h"

namespace taipan {
inline namespace v1 {

namespace {

constexpr double kOpenGate = 3;  // s_1 - s_0 of new weights: where training starts well

}  // namespace

Model::Impl::Impl(LanguageModel fresh) : model(std::move(fresh)) {
  if (model.config().vocab_size != 256) return;
  text.tokenizer = LoadTokenizer("byte");
  text_files = {{"tokenizer.json", ByteTokenizerJson()}};
}

// A tokenizer that cannot be read does not keep anybody from working with token ids.
Model::Impl::Impl(const Checkpoint& checkpoint, Binding binding) : model(LoadModel(checkpoint, binding)) {
  try {
    text = LoadModelText(checkpoint);
  } catch (const UserError& error) {
    tokenizer_problem = error.what();
  }
  if (!checkpoint.gguf) text_files = ReadTokenizerFiles(checkpoint.path);
}

const Tokenizer& Model::Impl::RequireTokenizer() const {
  if (!tokenizer_problem.empty()) throw UserError({.problem = tokenizer_problem, .hint = "work with token ids"});
  if (!text.tokenizer)
    throw UserError({.where = "model",
                     .problem = "it has no tokenizer",
                     .expected = "a tokenizer file in its folder",
                     .hint = "work with token ids"});
  return *text.tokenizer;
}

Model::Model(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Model Model::Load(const std::string& path, const LoadOptions& options) {
  return Guarded([&] {
    if (options.threads != 0) SetThreadCount(options.threads);
    const Binding binding = options.dtype == NumberFormat::kBF16     ? Binding::kBF16
                            : options.dtype == NumberFormat::kStored ? Binding::kStored
                                                                     : Binding::kMasters;
    return Model(std::make_shared<Impl>(OpenCheckpoint(path, {.ignore_extra = options.ignore_extra}), binding));
  });
}

Model Model::FromPreset(const std::string& name, uint64_t seed) {
  return Guarded([&] { return Model(Impl::New(FindPreset(name).config, seed)); });
}

Model Model::FromConfig(const std::string& file, uint64_t seed) {
  return Guarded([&] { return Model(Impl::New(LoadModelConfig(file), seed)); });
}

std::shared_ptr<Model::Impl> Model::Impl::New(const ModelConfig& config, uint64_t seed) {
  auto impl = std::make_shared<Impl>(LanguageModel(config));
  impl->model.Initialise(seed, kOpenGate);
  return impl;
}

void Model::Save(const std::string& directory) const {
  Guarded([&] {
    impl_->model.RequireF32("saving a model");  // before a folder is made
    MakeDirectories(directory);
    SaveModel(impl_->model, directory);
    for (const auto& [name, content] : impl_->text_files) WriteFileAtomically(directory + "/" + name, content);
  });
}

int64_t Model::vocab_size() const { return impl_->model.config().vocab_size; }
int64_t Model::parameter_count() const { return CountParameters(impl_->model.config()); }

Tokens Model::Encode(std::string_view text) const {
  return Guarded([&] { return impl_->RequireTokenizer().Encode(text); });
}

std::string Model::Decode(const Tokens& tokens) const {
  return Guarded([&] {
    CheckTokenIds(tokens, vocab_size(), "tokens");
    return impl_->RequireTokenizer().Decode(tokens);
  });
}

std::vector<double> Model::Score(const Tokens& tokens) const {
  return Guarded([&] {
    std::vector<double> logprobs(tokens.size(), std::numeric_limits<double>::quiet_NaN());
    ScoreOptions options;
    options.on_logprobs = [&](int64_t first, std::span<const float> part) {
      std::copy(part.begin(), part.end(), logprobs.begin() + first);
    };
    ScoreTokens(impl_->model, tokens, options);
    return logprobs;
  });
}

Tokens Model::Generate(const Tokens& prompt, const GenerateOptions& options, const TokenCallback& on_token) const {
  Session session(*this);
  session.Append(prompt);
  return session.Generate(options, on_token);
}

void SetThreadCount(int threads) {
  if (threads < 1 || threads > 4096)
    throw UserError({"SetThreadCount", "impossible number of threads", "1 to 4096", std::to_string(threads)});
  SetNumThreads(threads);
}

}  // namespace v1
}  // namespace taipan
