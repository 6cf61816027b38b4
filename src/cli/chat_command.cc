// taipan chat: a conversation on a terminal, or with lines from a pipe.

#include "base/error.h"
#include "base/signals.h"
#include "cli/chat_session.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/model_argument.h"
#include "cli/output.h"

namespace taipan {
namespace {

// Takes lines until the end. Returns the exit code: what went wrong in a pipe nobody has seen.
int Converse(ChatSession& session, LineEditor& editor) {
  int failures = 0;
  for (;;) {
    const NoteStopSignals signals;  // of this line and its answer
    const std::optional<std::string> line = editor.Read("> ");
    try {
      if (line && !session.Take(*line)) break;
    } catch (const UserError& error) {
      OutputWorks();
      Note(fmt::format("error: {}", error.what()));
      ++failures;
    }
    const bool go_on = StopSignal() == SIGINT && editor.on_terminal();
    if (!OutputWorks()) break;
    if (StopSignal() != 0 && !go_on) return 128 + StopSignal();
    if (!line && !go_on) break;
    if (!line) Note("(/quit or Ctrl-D ends)");
  }
  return failures > 0 && !editor.on_terminal() ? 1 : 0;
}

int RunChat(const ChatFlags& flags) {
  ModelText text;
  const LanguageModel model = [&] {
    const Checkpoint checkpoint = OpenModel(flags.model);
    LanguageModel loaded = LoadToRun(checkpoint, flags.dtype);
    UseBudgetIfGiven(loaded, checkpoint, flags.budget);
    UseKvDType(loaded, flags.kv_dtype);
    text = RequireText(checkpoint, flags.tokenizer);
    return loaded;
  }();
  CheckLogitBias(flags.sampling.options, text.tokenizer->vocab_size());
  LineEditor editor;
  ChatSession session(flags, model, text, editor);
  if (flags.sampling.show_seed) Note(fmt::format("seed {}", flags.sampling.options.seed));
  if (editor.on_terminal()) Note("/help lists the commands");
  const int exit_code = Converse(session, editor);
  session.Close();
  return exit_code;
}

}  // namespace

void AddChatCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("chat", "Talk to a model, in its own chat template, with an editable history");
  auto flags = std::make_shared<ChatFlags>();
  AddModelFlag(*command, "MODEL,-m,--model", flags->model);
  AddTokenizerFlag(*command, flags->tokenizer);
  AddDTypeFlag(*command, flags->dtype);
  AddKvDTypeFlag(*command, flags->kv_dtype);
  AddBudgetFlag(*command, flags->budget);
  command->add_option("--system", flags->system, "A system message before the conversation")->type_name("TEXT");
  command->add_option("--stop", flags->stop, "End an answer where the model writes this text (repeatable)")
      ->type_name("TEXT")
      ->allow_extra_args(false)
      ->check([](const std::string& text) { return std::string(text.empty() ? "the text is empty" : ""); });
  command->add_option("--max-tokens", flags->max_tokens, "Tokens of an answer at most")
      ->check(WholeNumber(1, kMostTokens))
      ->capture_default_str();
  command->add_option("--cache-memory", flags->cache_memory, "MiB for states of texts that were read; 0: none is kept")
      ->check(WholeNumber(0, int64_t{1} << 40))
      ->capture_default_str();
  command->add_option("--cache", flags->cache, "A folder that keeps them for later, made if it does not exist")
      ->type_name("DIR");
  AddSamplingFlags(*command, flags->sampling);
  AddLoadFlags(*command);
  AddThreadsFlag(*command);
  command->callback([command, flags, &exit_code] {
    FinishSamplingFlags(*command, flags->sampling);
    exit_code = RunChat(*flags);
  });
}

}  // namespace taipan
