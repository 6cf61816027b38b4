// taipan bench: measures speed.

#include "cli/commands.h"
#include "cli/flags.h"

namespace taipan {

void AddBenchCommand(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "Measure speed");
  bench->require_subcommand(1);
  AddBenchRoof(*bench);
  AddBenchTrain(*bench);
  AddBenchPrefill(*bench);
  AddBenchDecode(*bench);
  AddBenchLatency(*bench);
  AddBenchState(*bench);
  AddBenchKernels(*bench);
}

}  // namespace taipan
