#pragma once
// What the public classes are made of.

#include "base/memory.h"
#include "infer/generator.h"
#include "infer/model_text.h"
#include "infer/scoring.h"
#include "infer/state_io.h"
#include "infer/stop_text.h"
#include "model/model.h"
#include "model/model_files.h"
#include "taipan/taipan.h"
#include "text/tokenizer.h"
#include "train/batch_source.h"
#include "train/step.h"

namespace taipan {
inline namespace v1 {

// Looks for stop texts in what is generated. UserError where one is empty.
class StopWatch {
 public:
  StopWatch(const Tokenizer* tokenizer, const std::vector<std::string>& texts);
  bool Found(int32_t token);  // after it

 private:
  std::optional<DecodeStream> text_;
  StopText stop_;
};

struct Model::Impl {
  LanguageModel model;
  ModelText text;                                               // no tokenizer: none, or none that can be read
  std::vector<std::pair<std::string, std::string>> text_files;  // name and content, for Save
  std::string tokenizer_problem;                                // why there is none

  explicit Impl(const Checkpoint& checkpoint, Binding binding);
  explicit Impl(LanguageModel fresh);
  static std::shared_ptr<Impl> New(const ModelConfig& config, uint64_t seed);
  const Tokenizer& RequireTokenizer() const;
  // What is asked for in the library's own words, with the model's ends of a text.
  GenerationOptions OptionsOf(const GenerateOptions& o) const;
  StopWatch StopWatchOf(const GenerateOptions& o) const;
};

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

// Bugs of ours and a lack of memory reach users of the library as std::runtime_error like everything else.
template <class F>
auto Guarded(F&& f) {
  try {
    return f();
  } catch (const std::bad_alloc& error) {
    throw std::runtime_error(OutOfMemoryMessage(error));
  } catch (const InternalError& error) {
    throw std::runtime_error(std::string("this is a bug in taipan, please report it: ") + error.what());
  }
}

}  // namespace v1
}  // namespace taipan
