// taipan: train, run and measure Taipan language models. The one place where failures become messages and exit codes:
// 0 success, 2 wrong usage, 1 everything else.

#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string_view>

#include "base/error.h"
#include "base/file_faults.h"
#include "base/parallel.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "kernels/isa.h"

namespace taipan {
namespace {

constexpr int kFailed = 1, kWrongUsage = 2;

int Fail(const std::string& message, int code) {
  std::fflush(stdout);
  fmt::print(stderr, "taipan: error: {}\n", message);
  return code;
}

// The subcommand furthest down that the user named.
const CLI::App* Deepest(const CLI::App* app) {
  while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
  return app;
}

// "(did you mean --prompt?)" for the first argument that nothing took, or a pointer to the help.
std::string UsageHint(const CLI::App& app) {
  const CLI::App* command = Deepest(&app);
  std::vector<std::string> names;
  for (const CLI::Option* option : command->get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  for (const CLI::App* sub : command->get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(sub->get_name());
  for (const std::string& argument : app.remaining(true)) {
    const std::string nearest = NearestName(argument.substr(0, argument.find('=')), names);
    if (!nearest.empty()) return fmt::format(" (did you mean {}?)", nearest);
  }
  std::string path = command->get_name();
  for (const CLI::App* parent = command->get_parent(); parent != nullptr; parent = parent->get_parent()) {
    path = parent->get_name() + " " + path;
  }
  return fmt::format(" (see {} --help)", path);
}

int UsageError(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> unknown = app.remaining(true);
  std::string message = error.what();
  if (!unknown.empty()) message = fmt::format("unknown argument {}", unknown.front());
  while (!message.empty() && message.back() == '\n') message.pop_back();
  return Fail(message + UsageHint(app), kWrongUsage);
}

// A line that begins with a flag says that the command was wrong, not a file or the system, wherever that was found.
bool NamesAFlag(const UserError& error) { return std::string_view(error.what()).starts_with("--"); }

int Run(int argc, char** argv) {
  CLI::App app("Taipan language models: Mamba-2 blocks with selective attention, trained and run on CPUs.", "taipan");
  app.set_version_flag("--version", "taipan " TAIPAN_VERSION);
  app.require_subcommand(1);
  AddPresetsCommand(app);
  AddInitCommand(app);
  AddInspectCommand(app);
  AddConvertCommand(app);
  AddTrainCommand(app);
  AddGenerateCommand(app);
  AddScoreCommand(app);
  AddCompareCommand(app);
  AddTokenizerCommand(app);
  AddBenchCommand(app);
  SetNumThreads(DefaultNumThreads());
  try {
    if (const char* isa = std::getenv("TAIPAN_ISA"); isa != nullptr && *isa != '\0') LimitIsa(isa, "TAIPAN_ISA");
    app.parse(argc, argv);
    FlushOutput();
    return 0;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    return UsageError(app, error);
  } catch (const UserError& error) {
    return Fail(error.what(), NamesAFlag(error) ? kWrongUsage : kFailed);
  } catch (const std::bad_alloc&) {
    return Fail("out of memory: the system has no room for this model, context or batch size", kFailed);
  } catch (const InternalError& error) {
    return Fail(fmt::format("this is a bug in taipan, please report it: {}", error.what()), kFailed);
  } catch (const std::exception& error) {
    return Fail(fmt::format("unexpected failure, please report it: {}", error.what()), kFailed);
  }
}

}  // namespace
}  // namespace taipan

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is an error of the write that meets it, with the file's name
  taipan::ReportFileFaults();
  return taipan::Run(argc, argv);
}
