// taipan: train, run and measure Taipan language models. The one place where failures become messages and exit codes:
// 0 success, 2 wrong usage, 128 + its number for a signal that stopped a run after it was saved, 1 everything else.

#include <execinfo.h>
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <new>
#include <set>
#include <sstream>
#include <string_view>

#include "base/cpu.h"
#include "base/error.h"
#include "base/file_faults.h"
#include "base/logging.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/signals.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "kernels/isa.h"

namespace taipan {
namespace {

constexpr int kFailed = 1, kWrongUsage = 2;

int Fail(const std::string& message, int code) {
  OutputWorks();  // what there is goes out before
  WriteText(stderr, fmt::format("taipan: error: {}\n", message));
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
  // CLI11: "--steps: 1 required INT:from 1 to 9 missing"
  const size_t required = message.find(": 1 required ");
  if (required != message.npos && message.ends_with(" missing"))
    message.replace(required, message.npos, " needs a value");
  return Fail(message + UsageHint(app), kWrongUsage);
}

// A line that begins with a flag says that the command was wrong, not a file or the system, wherever that was found.
bool NamesAFlag(const UserError& error) { return std::string_view(error.what()).starts_with("--"); }

// `--svg "$UNSET"` would be taken for no --svg, and the result lost.
void RefuseEmptyNames(CLI::App& command) {
  static const std::set<std::string> kNames = {
      "--cache",  "--config", "--load-state", "--save-state", "--data",        "--jsonl", "--logits", "--messages",
      "--model",  "--out",    "--pairs",      "--preset",     "--prompt-file", "--svg",   "--text",   "--tokenizer",
      "--tokens", "--tools",  "--valid-data", "IN",           "MODEL",         "OUT",     "RUN"};
  for (CLI::Option* option : command.get_options([](const CLI::Option*) { return true; })) {
    const std::string name = option->get_lnames().empty() ? option->get_name() : "--" + option->get_lnames().front();
    if (kNames.count(name) == 0) continue;
    option->check([](const std::string& text) { return text.empty() ? "the name is empty" : std::string(); });
  }
  for (CLI::App* sub : command.get_subcommands([](CLI::App*) { return true; })) RefuseEmptyNames(*sub);
}

// Runs the command that the arguments name and returns its exit code.
int RunCommand(CLI::App& app, int argc, char** argv) {
  int exit_code = 0;
  AddPresetsCommand(app);
  AddInitCommand(app);
  AddInspectCommand(app);
  AddConvertCommand(app);
  AddQuantizeCommand(app);
  AddTrainCommand(app, exit_code);
  AddPlanCommand(app);
  AddGenerateCommand(app, exit_code);
  AddChatCommand(app, exit_code);
  AddScoreCommand(app);
  AddEvalCommand(app, exit_code);
  AddCalibrateCommand(app);
  AddCompareCommand(app);
  AddTokenizeCommand(app);
  AddContaminationCommand(app);
  AddTokenizerCommand(app);
  AddBenchCommand(app);
  RefuseEmptyNames(app);
  try {
    if (const char* isa = std::getenv("TAIPAN_ISA"); isa != nullptr && *isa != '\0') LimitIsa(isa, "TAIPAN_ISA");
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) return UsageError(app, error);
    std::ostringstream text;
    app.exit(error, text, text);  // --help, --version
    Print(text.str());
  }
  FlushOutput();
  return exit_code;
}

int Run(int argc, char** argv) {
  try {
    WatchStopSignals();
    UseSignalStack();
    // The C library loads what it needs to pass exceptions through its own functions when it first needs it, and ends
    // the process where memory has run out by then.
    void* frame = nullptr;
    ::backtrace(&frame, 1);
    SetNumThreads(DefaultNumThreads());
    if (const char* wanted = std::getenv("OMP_NUM_THREADS");
        wanted && std::strtol(wanted, nullptr, 10) > kMostThreads) {
      Note(fmt::format("OMP_NUM_THREADS={}: more than {}, takes the {} CPUs instead", wanted, kMostThreads,
                       NumThreads()));
    }
    CLI::App app("Taipan language models: Mamba-2 blocks with selective attention, trained and run on CPUs.", "taipan");
    app.set_version_flag("--version", "taipan " TAIPAN_VERSION);
    app.require_subcommand(1);
    return RunCommand(app, argc, argv);
  } catch (const UserError& error) {
    return Fail(error.what(), NamesAFlag(error) ? kWrongUsage : kFailed);
  } catch (const std::bad_alloc& error) {
    return Fail(OutOfMemoryMessage(error), kFailed);
  } catch (const InternalError& error) {
    return Fail(fmt::format("this is a bug in taipan, please report it: {}", error.what()), kFailed);
  } catch (const std::exception& error) {
    return Fail(fmt::format("unexpected failure, please report it: {}", error.what()), kFailed);
  }
}

}  // namespace
}  // namespace taipan

int main(int argc, char** argv) {
  taipan::OpenStandardStreams();
  taipan::ReportFileFaults();
  return taipan::Run(argc, argv);
}
