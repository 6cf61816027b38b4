#include <map>

#include "api/core.h"
#include "infer/choices.h"
#include "infer/prefix_cache.h"

namespace taipan {
inline namespace v1 {

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
    StopWatch stop = impl_->model->StopWatchOf(o);
    Tokens generated;
    impl_->generator.Generate(impl_->model->OptionsOf(o), [&](int32_t token) {
      generated.push_back(token);
      const bool wanted = !on_token || on_token(token);
      return !stop.Found(token) && wanted;
    });
    impl_->KeepLogits();
    return generated;
  });
}

std::vector<Completion> Session::GenerateBestOf(int64_t n, int64_t best_of, const GenerateOptions& o) const {
  return Guarded([&] {
    if (!impl_->generator.has_logits()) {
      throw UserError({"session", "generation needs a token to start from", "one that has read something", "none"});
    }
    impl_->model->StopWatchOf(o);  // refuses at once what it cannot watch for
    std::map<int64_t, StopWatch> watches;
    const auto on_token = [&](int64_t candidate, int32_t token) {
      auto watch = watches.find(candidate);
      if (watch == watches.end()) watch = watches.emplace(candidate, impl_->model->StopWatchOf(o)).first;
      return !watch->second.Found(token);
    };
    Choices drawn = GenerateChoices(impl_->model->model, impl_->generator.Snapshot(), impl_->model->OptionsOf(o),
                                    {.n = n, .best_of = best_of, .on_token = on_token});
    std::vector<Completion> best;
    for (Choice& choice : drawn.best) best.push_back({std::move(choice.tokens), choice.seed, choice.mean_logprob});
    return best;
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
