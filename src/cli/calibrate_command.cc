// taipan calibrate: thresholds of a model's selective layers, fitted to a text after training.

#include "base/error.h"
#include "base/files.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/model_argument.h"
#include "cli/output.h"
#include "cli/token_lines.h"
#include "infer/calibration.h"

namespace taipan {
namespace {

struct CalibrateFlags {
  std::string model, text, tokenizer;
  ComputeType dtype = ComputeType::kAuto;
  double budget = 0;  // 0: the config's
  bool json = false;
};

void RunCalibrate(const CalibrateFlags& flags) {
  const Checkpoint checkpoint = OpenModel(flags.model);
  const std::string& folder = checkpoint.path;
  const std::string config_path = folder + "/config.json";
  if (checkpoint.gguf || checkpoint.config.num_sals() == 0) {
    throw UserError({flags.model, "has no selective attention layers to calibrate", "a folder of a taipan model"});
  }
  LanguageModel model = LoadToRun(checkpoint, flags.dtype);
  const auto tokenizer = RequireText(checkpoint, flags.tokenizer).tokenizer;
  const std::vector<int32_t> tokens = EncodeText(*tokenizer, ReadInput(flags.text));
  const double budget = flags.budget > 0 ? flags.budget : model.config().attention_budget;
  CountProgress progress("calibrating:", static_cast<int64_t>(tokens.size()) * model.config().num_sals());
  const SelectionQuantiles quantiles =
      Calibrate(model, tokens, budget, InputName(flags.text), [&](int64_t done) { progress.Update(done); });
  progress.Finish();
  ModelConfig config = model.config();
  config.attention_budget = budget;
  SaveSelectionQuantiles(quantiles, folder);
  WriteFileAtomically(config_path, ToJson(config));
  if (flags.json) {
    PrintJson({{"budget", budget}, {"tokens", quantiles.tokens}, {"selection_threshold", config.selection_threshold}});
    return;
  }
  std::vector<std::vector<std::string>> rows;
  for (size_t s = 0; s < config.selection_threshold.size(); ++s) {
    rows.push_back({std::to_string(s), fmt::format("{:.4f}", config.selection_threshold[s])});
  }
  Print(FormatTable({{"SAL"}, {"threshold"}}, rows));
  Note(fmt::format("wrote the thresholds for a budget of {} into {}, those for others into selection.json", budget,
                   config_path));
}

}  // namespace

void AddCalibrateCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("calibrate", "Fit the selection of a trained model to a budget, on a text");
  auto flags = std::make_shared<CalibrateFlags>();
  command->add_option("model", flags->model, "Model directory; its config.json gets the thresholds")
      ->type_name("DIR")
      ->required();
  command->add_option("--text", flags->text, "A text of the kind that the model will read, - for standard input")
      ->type_name("FILE")
      ->required();
  command->add_option("--budget", flags->budget, "Share of tokens that may attend (default: the config's)")
      ->check(NumberFromTo(1e-6, 1.0));
  command->add_option("--tokenizer", flags->tokenizer, "Another than the model's own")->type_name("PATH");
  AddDTypeFlag(*command, flags->dtype);
  AddLoadFlags(*command);
  AddThreadsFlag(*command);
  command->add_flag("--json", flags->json, "One JSON object instead of a table");
  command->callback([flags] { RunCalibrate(*flags); });
}

}  // namespace taipan
