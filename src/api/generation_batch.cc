#include "api/core.h"
#include "infer/batcher.h"

namespace taipan {
inline namespace v1 {

struct GenerationBatch::Impl {
  std::shared_ptr<Model::Impl> model;
  Batcher batcher;

  Impl(std::shared_ptr<Model::Impl> m, int64_t most)
      : model(std::move(m)), batcher(model->model, {.most_sequences = most}) {}

  // continued: the session that goes on, or null.
  int64_t Add(BatchRequest request, const GenerateOptions& options, const TokenCallback& on_token, const End& on_end,
              Session::Impl* continued = nullptr) {
    request.options = model->OptionsOf(options);
    auto stop = std::make_shared<StopWatch>(model->StopWatchOf(options));
    auto generated = std::make_shared<Tokens>();
    request.on_token = [=](int32_t token, std::span<const float>) {
      generated->push_back(token);
      const bool wanted = !on_token || on_token(token);
      return !stop->Found(token) && wanted;
    };
    request.keep_state = continued != nullptr;
    request.on_end = [=](BatchResult result) {
      if (continued != nullptr) {
        continued->generator.Continue(std::move(*result.snapshot));
        continued->KeepLogits();
      }
      if (on_end) on_end(*generated);
    };
    return batcher.Add(std::move(request));
  }

  BatchRequest RequestFrom(const Session::Impl& session) const {
    if (session.model != model) throw UserError({"session", "it is of another model", "one of this model"});
    return {.from = session.generator.Snapshot()};
  }
};

GenerationBatch::GenerationBatch(const Model& model, int64_t most)
    : impl_(Guarded([&] {
        if (most < 1) throw UserError({"most", "out of range", "1 or more", std::to_string(most)});
        return std::make_unique<Impl>(model.impl_, most);
      })) {}
GenerationBatch::GenerationBatch(GenerationBatch&&) noexcept = default;
GenerationBatch::~GenerationBatch() = default;

int64_t GenerationBatch::Add(const Tokens& prompt, const GenerateOptions& options, const TokenCallback& on_token,
                             const End& on_end) {
  return Guarded([&] {
    BatchRequest request;
    request.prompt = prompt;
    return impl_->Add(std::move(request), options, on_token, on_end);
  });
}

int64_t GenerationBatch::Add(const Session& from, const GenerateOptions& options, const TokenCallback& on_token,
                             const End& on_end) {
  return Guarded([&] { return impl_->Add(impl_->RequestFrom(*from.impl_), options, on_token, on_end); });
}

int64_t GenerationBatch::Continue(Session& session, const GenerateOptions& options, const TokenCallback& on_token,
                                  const End& on_end) {
  return Guarded(
      [&] { return impl_->Add(impl_->RequestFrom(*session.impl_), options, on_token, on_end, session.impl_.get()); });
}

void GenerationBatch::Cancel(int64_t id) { impl_->batcher.Cancel(id); }
bool GenerationBatch::Step() {
  return Guarded([&] { return impl_->batcher.Step(); });
}

}  // namespace v1
}  // namespace taipan
