#pragma once
// The subcommands. Each Add function declares its flags below `app` and runs the command in its callback; failures
// leave as UserError and are printed by main.

namespace CLI {
class App;
}

namespace taipan {

void AddPresetsCommand(CLI::App& app);
void AddInitCommand(CLI::App& app);
void AddInspectCommand(CLI::App& app);
void AddConvertCommand(CLI::App& app);
void AddQuantizeCommand(CLI::App& app);
void AddTrainCommand(CLI::App& app, int& exit_code);  // written where a signal stops the run
void AddPlanCommand(CLI::App& app);
void AddGenerateCommand(CLI::App& app, int& exit_code);  // likewise
void AddChatCommand(CLI::App& app, int& exit_code);      // likewise
void AddScoreCommand(CLI::App& app);
void AddEvalCommand(CLI::App& app, int& exit_code);  // likewise
void AddCalibrateCommand(CLI::App& app);
void AddCompareCommand(CLI::App& app);
void AddTokenizeCommand(CLI::App& app);
void AddContaminationCommand(CLI::App& app);
void AddTokenizerCommand(CLI::App& app);
void AddTokenizerApplyTemplate(CLI::App& tokenizer);
void AddTokenizerTrain(CLI::App& tokenizer);
void AddBenchCommand(CLI::App& app);
void AddBenchRoof(CLI::App& bench);
void AddBenchTrain(CLI::App& bench);
void AddBenchPrefill(CLI::App& bench);
void AddBenchDecode(CLI::App& bench);
void AddBenchKernels(CLI::App& bench);
void AddBenchLatency(CLI::App& bench);
void AddBenchState(CLI::App& bench);

}  // namespace taipan
