// taipan presets: the configurations that ship with the program.

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "model/memory_plan.h"
#include "model/presets.h"
#include "model/training_memory.h"

namespace taipan {
namespace {

constexpr TrainingShape kTrainShape{.rows = 8, .context = 512};  // the default step of `taipan train`
constexpr int64_t kRunContext = 4096;

void RunPresets(bool json) {
  std::vector<std::vector<std::string>> rows;
  for (const Preset& preset : Presets()) {
    const MemoryPlan plan = PlanMemory(preset.config, {kRunContext});
    const int64_t train = PlanTraining(preset.config, kTrainShape).total(), run = plan.run.front().total_bytes();
    if (json) {
      OrderedJson line = {{"name", preset.name}, {"summary", preset.summary}, {"parameters", plan.parameter_count}};
      line["layers"] = preset.config.num_layers();
      for (const LayerKind kind : preset.config.layer_pattern) line["layer_pattern"].push_back(NameOf(kind));
      line["hidden_size"] = preset.config.hidden_size;
      line["vocab_size"] = preset.config.vocab_size;
      line["train_tokens"] = kTrainShape.tokens();
      line["train_bytes"] = train;
      line["run_context"] = kRunContext;
      line["run_bytes"] = run;
      rows.push_back({line.dump()});
      continue;
    }
    rows.push_back({preset.name, FormatExact(plan.parameter_count), std::to_string(preset.config.num_layers()),
                    FormatBytes(train), FormatBytes(run), preset.summary});
  }
  if (json) {
    std::string array;
    for (const auto& row : rows) array += (array.empty() ? "[" : ",\n ") + row.front();
    Print(array + "]\n");
    return;
  }
  Print(FormatTable({{"preset", true}, {"parameters"}, {"layers"}, {"to train"}, {"to run"}, {"", true}}, rows));
  Print(
      fmt::format("\nMemory with AdamW in f32 for {} tokens in a micro-batch, and to run one sequence of {} tokens.\n",
                  kTrainShape.tokens(), kRunContext));
}

}  // namespace

void AddPresetsCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("presets", "List the model presets: parameters, layers, memory");
  auto json = std::make_shared<bool>(false);
  AddJsonFlag(*command, *json);
  AddThreadsFlag(*command);
  command->callback([json] { RunPresets(*json); });
}

}  // namespace taipan
