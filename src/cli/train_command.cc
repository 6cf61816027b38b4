// taipan train: trains a model on text or tokens into a run folder.

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file_checks.h"
#include "base/files.h"
#include "base/logging.h"
#include "base/parallel.h"
#include "base/signals.h"
#include "cli/bench/bench_model_roof.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/model_argument.h"
#include "cli/output.h"
#include "infer/generator.h"
#include "model/checkpoint.h"
#include "text/unicode/utf8.h"
#include "train/run.h"
#include "train/run_ranks.h"
#include "train/settings_effect.h"

namespace taipan {
namespace {

struct TrainArguments {
  Json given = Json::object();  // what the command line sets, keys as in a run file
  std::string run_file;
  bool resume = false;
  std::string sample_prompt = "The ";
  int64_t sample_tokens = 128;
  std::string sample_flags;  // those given
};

std::string FlagOf(const std::string& key) {
  std::string flag = "--" + key;
  std::replace(flag.begin(), flag.end(), '_', '-');
  return key == "model" ? "-m," + flag : key == "out" ? "-o," + flag : flag;
}

template <class T>
CLI::Option* AddFlag(CLI::App& command, const FieldInfo& info, const std::shared_ptr<TrainArguments>& args) {
  const std::string name = info.name;
  return command.add_option_function<T>(
      FlagOf(name), [args, name](const T& value) { args->given[name] = value; }, info.help);
}

template <class T>
CLI::Option* AddNumber(CLI::App& command, const FieldInfo& info, const std::shared_ptr<TrainArguments>& args,
                       const std::optional<T>& initial) {
  CLI::Option* option = AddFlag<T>(command, info, args);
  option->check(std::is_integral_v<T> ? WholeNumberIn(info.range) : NumberIn(info.range));
  if (initial) option->default_str(fmt::format("{}", *initial));
  return option;
}

struct FlagAdder {
  CLI::App& command;
  const FieldInfo& info;
  const std::shared_ptr<TrainArguments>& args;

  void operator()(int64_t* v) const { AddNumber<int64_t>(command, info, args, *v); }
  void operator()(double* v) const { AddNumber<double>(command, info, args, *v); }
  void operator()(std::optional<int64_t>* v) const { AddNumber<int64_t>(command, info, args, *v); }
  void operator()(std::optional<double>* v) const { AddNumber<double>(command, info, args, *v); }
  void operator()(std::string* v) const {
    CLI::Option* option = AddFlag<std::string>(command, info, args);
    std::vector<std::string> choices = info.choices;
    std::erase(choices, "");
    if (!choices.empty()) option->check(CLI::IsMember(choices));
    if (!v->empty()) option->default_str(*v);
  }
  void operator()(std::vector<std::string>*) const {
    TakeTextsAsTheyAre(*AddFlag<std::vector<std::string>>(command, info, args)->type_name("PATH ..."));
  }
  template <class Other>
  void operator()(Other*) const {
    CHECK(false);  // no setting has this type
  }
};

// Writes a short continuation of the prompt to stderr and returns both.
std::string ShowSample(const LanguageModel& model, const Tokenizer* tokenizer, int64_t step, const TrainArguments& args,
                       uint64_t seed) {
  if (!tokenizer) return "";  // nothing to read
  const std::vector<int32_t> prompt = tokenizer->Encode(args.sample_prompt);
  if (prompt.empty()) return "";
  Generator generator(model);
  generator.Read(prompt);
  GenerationOptions options;
  options.max_tokens = args.sample_tokens;
  options.sampling.seed = seed;
  if (const auto eos = tokenizer->eos()) options.stop_tokens = {*eos};
  DecodeStream stream(*tokenizer);
  stream.Append(prompt.back());
  std::string text = args.sample_prompt;
  generator.Generate(options, [&](int32_t id) {
    text += stream.Append(id);
    return true;
  });
  text += stream.Flush();
  Note(fmt::format("sample after step {}:\n{}\n", step, text));
  return text;
}

std::set<std::string> GivenKeys(const TrainArguments& args) {
  std::set<std::string> given;
  for (const auto& [key, value] : args.given.items()) given.insert(key);
  if (args.run_file.empty()) return given;
  const Json file = ParseJson(ReadFile(args.run_file), args.run_file);
  for (const auto& [key, value] : file.items()) given.insert(UnderscoreKey(key));
  return given;
}

// A line each for what was chosen by the CPU, and for flags and keys of the run file that this run does not look at.
void NoteDefaults(const TrainArguments& args, const RunRequest& request) {
  if (!request.config) return;
  const bool new_weights = !request.weights;
  const TrainSettings resolved = ResolveSettings(request.settings, *request.config, new_weights);
  std::string idle = WithoutEffect(GivenKeys(args), resolved, *request.config, new_weights);
  if (!args.sample_flags.empty() && resolved.sample_every == 0) {
    idle += (idle.empty() ? "" : "; ") + args.sample_flags + ": without --sample-every";
  }
  if (!idle.empty()) Note("without effect: " + idle);
}

RunRequest RequestOf(const TrainArguments& args) {
  RunRequest request;
  request.resume = args.resume;
  request.settings = RequestedSettings(args.run_file, args.given, args.resume);
  const TrainSettings& s = request.settings;
  if (s.out.empty()) throw CLI::RequiredError("--out");
  const bool continues = args.resume && PathExists(s.out + "/run.json");
  if (s.model.empty()) throw CLI::RequiredError("--model");
  if (s.data.empty()) throw CLI::RequiredError("--data");
  CheckCanMakeFolder(s.out);
  try {
    const NamedConfig named = ResolveConfig(s.model);
    request.config = named.config;
    request.weights = named.checkpoint;
    request.preset = named.source.starts_with("preset ");
    if (named.checkpoint && named.checkpoint->gguf) {
      throw UserError({.where = s.model,
                       .problem = "training does not start from a GGUF file",
                       .expected = "a folder",
                       .hint = "taipan convert " + s.model + " FOLDER writes one"});
    }
  } catch (const UserError&) {
    // A run needs the model that it began with no more, once it has checkpoints.
    if (!continues || args.given.contains("model")) throw;
  }
  return request;
}

// Measured where the run is long enough to be worth the seconds it takes.
double TokensPerSecondAtRoof(const ModelConfig& config, const TrainSettings& s, bool again) {
  constexpr double kLong = 2e13;  // FLOPs: minutes on a small machine
  const Workload work{.phase = Phase::kTrain,
                      .context = s.context,
                      .sequences = s.batch_size,
                      .selected_share = config.expected_share(),
                      .element_bytes = SizeOf(DTypeOf(s.dtype))};
  const double flops = TotalFlops(CostByOperation(config, work));
  if (flops * static_cast<double>(s.steps) < kLong) return 0;
  const ModelRoof roof = RoofOf(config, work, s.context * s.micro_batch_size.value(), NameIn(s.dtype), again);
  return roof.gflops.median * 1e9 * static_cast<double>(TokensOf(work)) / flops;
}

// What the command line says about the run, for the ranks to compare.
std::string AskedOf(const TrainArguments& args) {
  Json asked = args.given;
  asked["config"] = args.run_file;
  asked["resume"] = args.resume;
  return asked.dump();
}

// Ranks that may use the same CPUs share them out.
void ShareThreads(const Group& group) {
  if (group.alone() || std::getenv("OMP_NUM_THREADS") != nullptr) return;
  SetNumThreads(std::max(1, DefaultNumThreads() / group.on_cpus()));
}

// A rank that fails where the others do not notice ends them all.
void Follow(Group& group, Ranks& ranks) {
  SetLogLevel(LogLevel::kError);
  const NoteStopSignals signals;  // the first rank decides what they mean
  try {
    FollowTraining(ranks);
  } catch (const std::exception& error) {
    LogError("rank {}: {}", group.rank(), error.what());
    group.Abort(1);
  }
}

void RunTrain(const TrainArguments& args, bool threads_given, int& exit_code) {
  const std::unique_ptr<Group> group = JoinGroup();
  if (!threads_given) ShareThreads(*group);
  Ranks ranks(*group, AskedOf(args));
  if (!group->leads()) return Follow(*group, ranks);
  const RunRequest request = RequestOf(args);
  NoteDefaults(args, request);
  const uint64_t seed = static_cast<uint64_t>(request.settings.seed);
  RunHooks hooks;
  hooks.sample = [&](const LanguageModel& model, const Tokenizer* tokenizer, int64_t step) {
    return ShowSample(model, tokenizer, step, args, seed);
  };
  hooks.roof = TokensPerSecondAtRoof;
  hooks.ranks = &ranks;
  if (RunTraining(request, hooks) == RunEnd::kInterrupted) exit_code = 128 + StopSignal();
}

}  // namespace

void AddTrainCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("train", "Train a model on text or tokens into a run folder");
  auto args = std::make_shared<TrainArguments>();
  TrainSettings defaults;
  defaults.dtype = ComputeType::kAuto;
  VisitFields(defaults, [&](const FieldInfo& info, FieldPointer field) {
    std::visit(FlagAdder{*command, info, args}, field);
  });
  command->add_option("--config", args->run_file, "A JSON run file with these settings as keys; flags override it")
      ->type_name("FILE");
  command->add_flag("--resume", args->resume, "Continue the run in --out from its newest checkpoint");
  command->add_option("--sample-prompt", args->sample_prompt, "What samples while training continue")
      ->capture_default_str();
  command->add_option("--sample-tokens", args->sample_tokens, "Tokens of a sample")
      ->check(WholeNumber(1, int64_t{1} << 20))
      ->capture_default_str();
  command->add_flag(
      "--paper",
      [args](int64_t) {
        args->given["refinement"] = NameIn(Refinement::kMix);
        args->given["selection"] = NameIn(Selection::kArgmax);
      },
      "Selective layers exactly as the paper has them: --refinement mix --selection argmax");
  AddLoadFlags(*command);
  AddThreadsFlag(*command);
  command->callback([command, args, &exit_code] {
    args->sample_flags = GivenFlags(*command, {"--sample-prompt", "--sample-tokens"});
    RunTrain(*args, command->count("--threads") > 0, exit_code);
  });
}

}  // namespace taipan
