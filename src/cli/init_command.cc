// taipan init: a model directory with fresh weights.

#include "base/error.h"
#include "base/files.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/new_folder.h"
#include "cli/output.h"
#include "model/checkpoint.h"
#include "model/config_validate.h"
#include "model/hf_config.h"
#include "model/model_files.h"
#include "model/parameters.h"
#include "model/presets.h"
#include "text/tokenizer.h"

namespace taipan {
namespace {

struct InitOptions {
  std::string preset, config, out;
  uint64_t seed = 0;
  int64_t vocab_size = 0;  // 0: as the preset or file says
  double gate_bias = 3;
  bool gate_bias_given = false;
  double initializer_range = 0;  // 0: as the preset or file says
  bool paper = false;
};

// Of a config file or of a model.
ModelConfig ReadConfig(const std::string& path) {
  return IsDirectory(path) || IsGgufPath(path) ? OpenCheckpoint(path).config : LoadModelConfig(path);
}

void RunInit(const InitOptions& o) {
  const std::string target = NewFolderTarget(o.out);
  ModelConfig config = o.preset.empty() ? ReadConfig(o.config) : FindPreset(o.preset).config;
  if (o.vocab_size > 0) {
    config.vocab_size = o.vocab_size;
    ValidateModelConfig(config, "--vocab-size");
  }
  if (o.initializer_range > 0) config.initializer_range = o.initializer_range;
  if (o.paper) {
    config.refinement = Refinement::kMix;
    config.selection = Selection::kArgmax;
  }
  if (o.gate_bias_given && config.num_sals() == 0) {
    Note("without effect: --gate-bias: the model has no selective attention layers");
  }
  const TemporaryFolder folder(target);
  LanguageModel model(config);
  model.Initialise(o.seed, o.gate_bias);
  SaveModel(model, folder.path());
  const bool bytes = config.vocab_size == 256;
  if (bytes) WriteFileAtomically(folder.path() + "/tokenizer.json", ByteTokenizerJson());
  ReplaceDirectory(folder.path(), target);
  Note(fmt::format("wrote {}: {} parameters, seed {}{}", target, FormatExact(CountParameters(config)), o.seed,
                   bytes ? ", byte tokenizer" : ", no tokenizer (vocabulary other than 256)"));
}

}  // namespace

void AddInitCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("init", "Write a model directory with fresh weights");
  auto o = std::make_shared<InitOptions>();
  CLI::Option* preset = command->add_option("--preset", o->preset, "A preset, see `taipan presets`")->type_name("NAME");
  command->add_option("--config", o->config, "A config.json of your own, or a model to take the config of")
      ->type_name("FILE")
      ->excludes(preset);
  command->add_option("-o,--out", o->out, "Folder to write, new or empty")->type_name("DIR")->required();
  command->add_option("--seed", o->seed, "Of the weights")->check(SeedNumber())->capture_default_str();
  command->add_option("--vocab-size", o->vocab_size, "Tokens (default: as the preset or config says; 256 is bytes)")
      ->check(WholeNumber(1, (int64_t{1} << 31) - 1));
  command->add_option("--gate-bias", o->gate_bias, "Initial s_1 - s_0 of the gates; 3 selects nearly every token")
      ->check(NumberFromTo(-50.0, 50.0))
      ->capture_default_str();
  command
      ->add_option("--initializer-range", o->initializer_range,
                   "Standard deviation of the weights (default: the config's, 0.02; narrow models learn faster near "
                   "1/sqrt(d_model))")
      ->check(NumberFromTo(1e-6, 10.0));
  command->add_flag("--paper", o->paper,
                    "Selective layers exactly as the paper has them: refinement mix, selection argmax");
  AddThreadsFlag(*command);
  command->callback([command, o] {
    if (o->preset.empty() == o->config.empty()) throw CLI::RequiredError("init: one of --preset and --config");
    o->gate_bias_given = command->count("--gate-bias") > 0;
    RunInit(*o);
  });
}

}  // namespace taipan
