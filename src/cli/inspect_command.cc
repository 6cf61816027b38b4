// taipan inspect: what a model is, what it costs to train and to run.

#include "base/error.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/inspect_selection.h"
#include "cli/model_argument.h"
#include "cli/output.h"
#include "model/checkpoint.h"
#include "model/memory_plan.h"
#include "model/model_files.h"
#include "model/training_memory.h"

namespace taipan {
namespace {

constexpr TrainingShape kDefaultStep{.rows = 8, .context = 512};  // the default step of `taipan train`

// What is in the files of a model; none for presets and config files.
struct Files {
  std::string format;
  std::map<std::string, int64_t> types;  // tensors of each element type
};

// A damaged file, or one that does not fit its config, shows here without reading the weights.
std::optional<Files> InspectFiles(const NamedConfig& named) {
  if (!named.checkpoint) return std::nullopt;
  return Files{named.checkpoint->format, named.checkpoint->ElementTypes()};
}

// Quantized weights run as they are stored; others are counted in f32.
RunTypes TypesToRun(const NamedConfig& named) {
  if (!named.checkpoint || !HoldsQuantized(named.checkpoint->Tensors())) return {};
  const DType dtype = BoundDType(named.config, Binding::kStored);
  return {BoundBytes(*named.checkpoint, Binding::kStored), dtype, dtype};
}

std::string TypesText(const Files& files) {
  std::string text;
  for (const auto& [type, count] : files.types) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, type);
  return text;
}

OrderedJson ReportJson(const NamedConfig& named, const std::optional<Files>& files, const MemoryPlan& plan) {
  OrderedJson json = {{"model", named.source},
                      {"config", OrderedJson::parse(ToJson(named.config))},
                      {"parameters", plan.parameter_count}};
  if (files) json["files"] = {{"format", files->format}, {"tensors", files->types}};
  for (const ParameterCount& p : plan.parameters) {
    json["parameter_groups"].push_back({{"group", p.group}, {"count", p.count}});
  }
  const TrainingMemory train = PlanTraining(named.config, kDefaultStep);
  json["train"] = {{"weight_bytes", train.weights},  {"gradient_bytes", train.gradients},
                   {"moment_bytes", train.moments},  {"activation_bytes", train.kept},
                   {"scratch_bytes", train.scratch}, {"tokens", kDefaultStep.tokens()},
                   {"total_bytes", train.total()}};
  for (const RunCost& r : plan.run) {
    json["run"].push_back({{"context", r.context},
                           {"weight_bytes", r.weight_bytes},
                           {"fixed_state_bytes", r.fixed_state_bytes},
                           {"window_bytes", r.window_bytes},
                           {"full_attention_bytes", r.full_bytes},
                           {"state_bytes", r.state_bytes()},
                           {"total_bytes", r.total_bytes()},
                           {"flops_per_token", r.flops_per_token}});
  }
  return json;
}

// "mamba2 x 6, selective_attention, mamba2 x 6, selective_attention"
std::string PatternText(const std::vector<LayerKind>& pattern) {
  std::string text;
  for (size_t i = 0; i < pattern.size();) {
    size_t end = i;
    while (end < pattern.size() && pattern[end] == pattern[i]) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", NameOf(pattern[i]));
    if (end - i > 1) text += fmt::format(" x {}", end - i);
    i = end;
  }
  return text;
}

std::string Size(int64_t bytes) { return FormatBytes(bytes); }

std::string ContextName(int64_t context) {
  if (context % (1 << 20) == 0) return fmt::format("{}M", context >> 20);
  if (context % 1024 == 0) return fmt::format("{}K", context / 1024);
  return FormatExact(context);
}

void PrintReport(const NamedConfig& named, const std::optional<Files>& files, const MemoryPlan& plan) {
  const std::string stored = files ? fmt::format("format: {}\ntensors: {}\n", files->format, TypesText(*files)) : "";
  Print(fmt::format("{}\n{}layers: {}\n\nconfig\n{}\n", named.source, stored, PatternText(named.config.layer_pattern),
                    ToJson(named.config)));
  std::vector<std::vector<std::string>> rows;
  for (const ParameterCount& p : plan.parameters) {
    rows.push_back(
        {p.group, FormatExact(p.count),
         fmt::format("{:.2f} %", 100.0 * static_cast<double>(p.count) / static_cast<double>(plan.parameter_count))});
  }
  rows.push_back({"total", FormatExact(plan.parameter_count), "100.00 %"});
  Print(FormatTable({{"group", true}, {"parameters"}, {"share"}}, rows));
  Print(fmt::format("\nto train with AdamW in f32, {} tokens in a micro-batch: {}\n\n", kDefaultStep.tokens(),
                    Describe(PlanTraining(named.config, kDefaultStep))));
  rows.clear();
  for (const RunCost& r : plan.run) {
    rows.push_back({ContextName(r.context), Size(r.weight_bytes), Size(r.fixed_state_bytes), Size(r.window_bytes),
                    Size(r.full_bytes), Size(r.total_bytes()), fmt::format("{:.4g}", r.flops_per_token * 1e-9)});
  }
  Print("to run one sequence\n");
  Print(FormatTable(
      {{"context"}, {"weights"}, {"fixed state"}, {"windows"}, {"full attention"}, {"total"}, {"GFLOP a token"}},
      rows));
}

void RunInspect(const std::string& model, bool json) {
  const NamedConfig named = ResolveConfig(model);
  const std::optional<Files> files = InspectFiles(named);
  const MemoryPlan plan = PlanMemory(named.config, StandardContexts(), TypesToRun(named));
  if (json) {
    PrintJson(ReportJson(named, files, plan));
  } else {
    PrintReport(named, files, plan);
  }
}

}  // namespace

void AddInspectCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("inspect", "Show a model's config, parameters and memory");
  auto model = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("MODEL", *model, "A model directory or GGUF file, a preset or a config file")->required();
  const auto inspect_selection = AddSelectionFlags(*command);
  AddJsonFlag(*command, *json);
  AddLoadFlags(*command);
  AddThreadsFlag(*command);
  command->callback([model, json, inspect_selection] {
    if (!inspect_selection(*model, *json)) RunInspect(*model, *json);
  });
}

}  // namespace taipan
