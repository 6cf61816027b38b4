#pragma once
// Taipan language models in C++: load, score, generate, train a step. Link with the CMake target taipan::taipan.
//
// Tokens are ids in [0, vocab_size()). Everything that fails throws std::runtime_error with one line of text. Results
// do not depend on the number of threads. One object must not be used by several threads at a time; sessions of one
// model may run side by side while nothing trains it.
//
// Signals: matrix products use generated code that keeps data in the stack pointer. The library's own threads take no
// signals but faults, and the thread that calls it takes none during a product: they wait, for milliseconds at most,
// and no handler of yours has to be written for that. A handler of faults (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP,
// SIGSYS, SIGABRT) cannot wait: install it with SA_ONSTACK and give each of your threads that calls the library a stack
// for it (sigaltstack); the library's threads have theirs. The library installs no handler.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#define TAIPAN_API __attribute__((visibility("default")))

namespace taipan {
inline namespace v1 {

using Tokens = std::vector<int32_t>;

struct GenerateOptions {
  int64_t max_tokens = 256;
  double temperature = 0.8;  // 0: the most likely token
  int64_t top_k = 0;         // 0: off
  double top_p = 0.95;       // 1: off
  double min_p = 0;          // 0: off
  uint64_t seed = 0;         // the same seed draws the same tokens
  double typical_p = 1;      // 1: off
  // Of tokens among the last penalty_window read (0: all), by the definitions of Hugging Face and OpenAI.
  double repetition_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  int64_t penalty_window = 0;
  std::vector<std::pair<int32_t, double>> logit_bias = {};  // (id, what is added to its logit)
  // A grammar: which tokens may come after those generated so far. `allowed` has an entry for each id, true at first.
  std::function<void(const Tokens& generated, std::vector<bool>& allowed)> mask = {};
  std::optional<int32_t> stop_token =
      {};  // default: every token that ends a text or a turn of the model, if it has one
  // Generation also ends where the text holds one of these; the tokens that complete it are returned. Needs a
  // tokenizer.
  std::vector<std::string> stop_texts = {};
  // Speculation: guesses what followed where the last so many tokens (1 to 64) stood before. The same tokens, in less
  // time where a text repeats itself; a batch does without. 0: off.
  int64_t draft_match = 0;
};
using TokenCallback = std::function<bool(int32_t token)>;  // false ends the generation

enum class NumberFormat {
  kF32,   // weights as 32-bit floats, which can be trained and saved
  kBF16,  // to run the model only, in half the memory: products of matrices in bf16, sums and states in 32 bits. A file
          // that does not hold bf16 stays open, and tokens are looked up in it: while the model lives, replace it
          // (rename another over it), but do not write to it nor cut it (the next call throws)
  kStored,  // to run the model only, quantized matrices as the file has them; others in bf16 where the CPU has
            // instructions for it, else in f32. Of the file the same holds as with kBF16
};
struct LoadOptions {
  NumberFormat dtype = NumberFormat::kF32;
  bool ignore_extra = false;  // leave out tensors that the config does not have; else they are an error
  int threads = 0;            // SetThreadCount, for the whole process; 0: as it is
};

// A handle: copies share the weights.
class TAIPAN_API Model {
 public:
  // A folder with config.json and model.safetensors, a GGUF file, or a run folder.
  static Model Load(const std::string& path, const LoadOptions& options = {});
  static Model FromPreset(const std::string& name, uint64_t seed = 0);  // fresh weights; `taipan presets` lists names
  static Model FromConfig(const std::string& file, uint64_t seed = 0);  // fresh weights of a config.json
  void Save(const std::string& directory) const;                        // made if it does not exist

  int64_t vocab_size() const;
  int64_t parameter_count() const;
  Tokens Encode(std::string_view text) const;  // with the model's tokenizer: bytes where the vocabulary is 256
  std::string Decode(const Tokens& tokens) const;

  // Natural log p(token i | the tokens before it); NaN for the first. Any length at constant memory beside the result.
  std::vector<double> Score(const Tokens& tokens) const;
  // The tokens generated after the prompt, without the stop token. on_token (may be empty) sees each one at once.
  Tokens Generate(const Tokens& prompt, const GenerateOptions& options = {}, const TokenCallback& on_token = {}) const;

 private:
  friend class PromptCache;
  friend class GenerationBatch;
  friend class Session;
  friend class Trainer;
  struct Impl;
  explicit Model(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

struct Completion {
  Tokens tokens;            // without the stop token
  uint64_t seed = 0;        // that gives it alone
  double mean_logprob = 0;  // natural, a token, the stop token included; by the model's own distribution
};

// A sequence that is being read. A copy is a fork: both go on independently.
class TAIPAN_API Session {
 public:
  explicit Session(const Model& model);
  Session(const Session& other);
  Session& operator=(const Session& other);
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  // Reads at least one token; the logits [vocab_size] of the next.
  const std::vector<float>& Append(const Tokens& tokens);
  // Continues and reads what it generates.
  Tokens Generate(const GenerateOptions& options = {}, const TokenCallback& on_token = {});
  // Draws best_of candidates side by side, candidate i with the seed of the options + i, and returns the n with the
  // highest mean_logprob, that first. The session stays as it is. At most 1024, and one alone at temperature 0.
  std::vector<Completion> GenerateBestOf(int64_t n, int64_t best_of, const GenerateOptions& options = {}) const;
  int64_t position() const;  // tokens read

  // What it has read, in a file that only the same model in the same number format goes on from.
  void Save(const std::string& file) const;
  static Session Load(const Model& model, const std::string& file);

 private:
  friend class GenerationBatch;
  friend class PromptCache;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Prompts that begin alike are read once: a session that comes from here has the bits of one that read everything.
// The model must not be trained meanwhile.
class TAIPAN_API PromptCache {
 public:
  // States that take more than memory_bytes go, or to the folder if one is named, for later runs too.
  explicit PromptCache(const Model& model, int64_t memory_bytes = int64_t{1} << 30, const std::string& folder = "");
  PromptCache(PromptCache&&) noexcept;
  ~PromptCache();
  Session Read(const Tokens& prompt);
  int64_t reused() const;             // tokens of the last prompt
  const std::string& reason() const;  // why not all of them; "" where they were
  void Flush();                       // writes everything to the folder

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Many generations at a time. They join, end and are cancelled between any two steps, and each has the tokens that it
// has alone, whatever runs beside it. The model must not be trained meanwhile.
class TAIPAN_API GenerationBatch {
 public:
  explicit GenerationBatch(const Model& model, int64_t most = 64);  // at a time; others wait
  GenerationBatch(GenerationBatch&&) noexcept;
  ~GenerationBatch();
  using End = std::function<void(const Tokens& generated)>;
  // Returns a number for Cancel. on_token and on_end are called by Step, and may add and cancel.
  int64_t Add(const Tokens& prompt, const GenerateOptions& options = {}, const TokenCallback& on_token = {},
              const End& on_end = {});
  // Goes on with the session itself, which has read what was generated once on_end is called, and must not be used nor
  // go before.
  int64_t Continue(Session& session, const GenerateOptions& options = {}, const TokenCallback& on_token = {},
                   const End& on_end = {});
  // Goes on from a session, which stays as it is.
  int64_t Add(const Session& from, const GenerateOptions& options = {}, const TokenCallback& on_token = {},
              const End& on_end = {});
  void Cancel(int64_t id);
  bool Step();  // a token of each, and a piece of a prompt; false where nothing is left

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct TrainOptions {
  double learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.01;
  double clip_norm = 1;                             // 0: off
  double budget_loss_weight = 0;                    // lambda: how strongly gates are held to the budget of attention
  std::optional<bool> gumbel_noise = std::nullopt;  // on the gates; default: on where the model selects by argmax
  uint64_t seed = 0;                                // of the noise
};
struct TrainResult {
  int64_t step = 0;                                     // from 1
  double loss = 0, cross_entropy = 0, budget_loss = 0;  // nats a token; before the update
  double gradient_norm = 0;                             // before clipping
  std::vector<double> selected_share;                   // of each selective attention layer
};

// AdamW on a model's weights; the model and its sessions see the change.
class TAIPAN_API Trainer {
 public:
  explicit Trainer(const Model& model);
  Trainer(Trainer&&) noexcept;
  ~Trainer();
  // Each row is a document of at least two tokens; every token but its first is predicted. Options out of range, and a
  // loss or gradient that is not finite, throw and leave the weights as they were.
  TrainResult Step(const std::vector<Tokens>& rows, const TrainOptions& options = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Threads that computations use from now on; at first as many as OMP_NUM_THREADS says, else all that this process may
// use.
TAIPAN_API void SetThreadCount(int threads);

}  // namespace v1
}  // namespace taipan
