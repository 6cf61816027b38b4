#include "api/core.h"
#include "infer/prefix_cache.h"
#include "infer/stop_text.h"

namespace taipan {
inline namespace v1 {

struct Session::Impl {
  std::shared_ptr<Model::Impl> model;
  Generator generator;
  std::vector<float> logits;  // after the last token read

  explicit Impl(std::shared_ptr<Model::Impl> m) : model(std::move(m)), generator(model->model) {
    generator.KeepTokens();
  }
  // A fork shares the pages of keys and values until one of the two writes.
  Impl(const Impl& other) : Impl(other.model) {
    logits = other.logits;
    generator.Continue(other.generator.Snapshot());
  }
  void KeepLogits() { logits.assign(generator.logits().begin(), generator.logits().end()); }
};

namespace {

SamplingOptions SamplingOf(const GenerateOptions& o) {
  return {.temperature = o.temperature,
          .top_k = o.top_k,
          .top_p = o.top_p,
          .min_p = o.min_p,
          .seed = o.seed,
          .typical_p = o.typical_p,
          .repetition_penalty = o.repetition_penalty,
          .presence_penalty = o.presence_penalty,
          .frequency_penalty = o.frequency_penalty,
          .penalty_window = o.penalty_window,
          .logit_bias = o.logit_bias};
}

}  // namespace

Session::Session(const Model& model) : impl_(Guarded([&] { return std::make_unique<Impl>(model.impl_); })) {}
Session::Session(const Session& other) : impl_(Guarded([&] { return std::make_unique<Impl>(*other.impl_); })) {}
Session& Session::operator=(const Session& other) {
  if (this != &other) impl_ = Guarded([&] { return std::make_unique<Impl>(*other.impl_); });
  return *this;
}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

const std::vector<float>& Session::Append(const Tokens& tokens) {
  return *Guarded([&] {
    if (tokens.empty()) throw UserError({"tokens", "nothing to read", "at least one token", "none"});
    impl_->generator.Read(tokens);
    impl_->KeepLogits();
    return &impl_->logits;
  });
}

Tokens Session::Generate(const GenerateOptions& o, const TokenCallback& on_token) {
  return Guarded([&] {
    GenerationOptions options;
    options.sampling = SamplingOf(o);
    if (o.mask) {
      options.mask = [&](std::span<const int32_t> generated, std::vector<bool>& allowed) {
        o.mask({generated.begin(), generated.end()}, allowed);
      };
    }
    options.max_tokens = o.max_tokens;
    options.stop_tokens = impl_->model->text.stop_tokens;
    if (o.stop_token) options.stop_tokens = {*o.stop_token};
    for (const std::string& text : o.stop_texts) {
      if (text.empty()) throw UserError({"stop_texts", "a text is empty", "some text"});
    }
    std::optional<DecodeStream> text;
    if (!o.stop_texts.empty()) text.emplace(impl_->model->RequireTokenizer());
    StopText stop(o.stop_texts);
    Tokens generated;
    impl_->generator.Generate(options, [&](int32_t token) {
      generated.push_back(token);
      if (text) stop.Append(text->Append(token));
      const bool wanted = !on_token || on_token(token);
      return wanted && !stop.found();
    });
    impl_->KeepLogits();
    return generated;
  });
}

int64_t Session::position() const { return impl_->generator.state().position; }

void Session::Save(const std::string& file) const {
  Guarded([&] { SaveSequence(impl_->model->model, impl_->generator.Snapshot(), file); });
}

Session Session::Load(const Model& model, const std::string& file) {
  return Guarded([&] {
    Session session(model);
    SequenceSnapshot snapshot = LoadSequence(model.impl_->model, file);
    if (snapshot.logits.empty() && snapshot.state.position > 0) {
      throw UserError({file, "the state lacks the logits after its last token", "tensor logits", "none"});
    }
    session.impl_->logits = snapshot.logits;
    session.impl_->generator.Continue(std::move(snapshot));
    return session;
  });
}

struct PromptCache::Impl {
  Model model;
  PrefixCache cache;
  PrefixUse last;

  Impl(const Model& m, const LanguageModel& weights, const PrefixCacheOptions& options)
      : model(m), cache(weights, options) {}
};

PromptCache::PromptCache(const Model& model, int64_t memory_bytes, const std::string& folder)
    : impl_(Guarded([&] {
        if (memory_bytes < 0)
          throw UserError({"memory_bytes", "out of range", "0 or more", std::to_string(memory_bytes)});
        const PrefixCacheOptions options{.memory_bytes = memory_bytes, .folder = folder};
        return std::make_unique<Impl>(model, model.impl_->model, options);
      })) {}
PromptCache::PromptCache(PromptCache&&) noexcept = default;
PromptCache::~PromptCache() = default;

Session PromptCache::Read(const Tokens& prompt) {
  return Guarded([&] {
    if (prompt.empty()) throw UserError({"prompt", "nothing to read", "at least one token", "none"});
    Session session(impl_->model);
    impl_->last = impl_->cache.Read(prompt, {}, session.impl_->generator);
    session.impl_->KeepLogits();
    return session;
  });
}

int64_t PromptCache::reused() const { return impl_->last.reused; }
const std::string& PromptCache::reason() const { return impl_->last.reason; }

void PromptCache::Flush() {
  Guarded([&] {
    impl_->cache.Flush();
    if (!impl_->cache.folder_problem().empty()) throw UserError({.problem = impl_->cache.folder_problem()});
  });
}

}  // namespace v1
}  // namespace taipan
