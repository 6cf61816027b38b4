// From --tasks to items that can be asked.

#include <algorithm>

#include "base/error.h"
#include "cli/eval_internal.h"
#include "cli/length_list.h"
#include "cli/model_argument.h"
#include "cli/token_lines.h"
#include "eval/probes.h"
#include "model/memory_plan.h"

namespace taipan {
namespace {

const std::vector<std::string> kZeroShot = {"winogrande",    "piqa",       "hellaswag",      "arc_easy",
                                            "arc_challenge", "openbookqa", "truthfulqa_mc1", "truthfulqa_mc2",
                                            "race",          "boolq"};

bool IsNeedle(const std::string& name) {
  const std::vector<std::string> names = NeedleNames();
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string Names(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

void NoteOddItems(const PreparedTask& task, const ContextLimit& limit) {
  int64_t cut = 0, joined = 0;
  for (const EncodedItem& item : task.items) cut += item.cut, joined += item.joined;
  const std::string all = FormatExact(std::ssize(task.items));
  if (cut > 0) {
    Note(fmt::format("{}: {} of {} items are longer than {} tokens ({}) and lose their beginning", task.task.name,
                     FormatExact(cut), all, FormatExact(limit.tokens), limit.from));
  }
  if (joined > 0) {
    Note(
        fmt::format("{}: in {} of {} items a token holds the end of the context and the begin of an answer; what "
                    "follows as many tokens as the context alone has is scored",
                    task.task.name, FormatExact(joined), all));
  }
}

// Those lengths that fit into memory beside the weights, with a line for each that does not.
std::vector<int64_t> LengthsThatFit(const EvalFlags& flags, const std::string& task, const Checkpoint& checkpoint) {
  std::vector<int64_t> fit;
  for (const int64_t length : ParseLengths(flags.lengths, "--lengths")) {
    if (KeepsAllKeys(checkpoint.config)) {
      try {
        RequireRunMemory(checkpoint, {flags.dtype, flags.kv_dtype}, length, task);
      } catch (const UserError& error) {
        if (fit.empty()) throw;
        Note(fmt::format("{} tokens are left out: {}", LengthText(length), error.what()));
        break;
      }
    }
    fit.push_back(length);
  }
  NoteLongContext(checkpoint.config, fit.back(), task + " reads up to");
  return fit;
}

NeedleOptions NeedleOptionsOf(const EvalFlags& flags, const std::string& task, const Checkpoint& checkpoint) {
  NeedleOptions options;
  options.lengths = LengthsThatFit(flags, task, checkpoint);
  options.depths.clear();
  for (int64_t i = 0; i < flags.depths; ++i) {
    options.depths.push_back(flags.depths == 1 ? 0.5 : static_cast<double>(i) / static_cast<double>(flags.depths - 1));
  }
  options.each = flags.each > 0 ? flags.each : 5;
  options.seed = flags.seed;
  if (!flags.text.empty()) options.text = ReadInput(flags.text);
  return options;
}

ProbeOptions ProbeOptionsOf(const EvalFlags& flags, const Checkpoint& checkpoint, const Tokenizer* tokenizer) {
  ProbeOptions options{.vocab = checkpoint.config.vocab_size, .seed = flags.seed, .tokenizer = tokenizer};
  if (flags.each > 0) options.each = flags.each;
  options.state_bytes = [config = checkpoint.config](int64_t length) {
    return static_cast<double>(PlanMemory(config, {length}).run.at(0).state_bytes());
  };
  return options;
}

// The longest item has to fit beside the weights.
void RequireMemoryFor(const PreparedTask& task, const EvalFlags& flags, const Checkpoint& checkpoint) {
  if (!KeepsAllKeys(checkpoint.config) || task.items.empty()) return;
  const auto longest = std::max_element(task.items.begin(), task.items.end(),
                                        [](const auto& a, const auto& b) { return a.tokens < b.tokens; });
  RequireRunMemory(checkpoint, {flags.dtype, flags.kv_dtype}, longest->tokens,
                   task.task.items[static_cast<size_t>(longest - task.items.begin())].where);
}

}  // namespace

std::vector<std::string> EvalTaskNames(const std::string& list) {
  std::vector<std::string> names;
  const auto add = [&](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      throw UserError({"--tasks", "a task stands twice", "each once", name});
    }
    names.push_back(name);
  };
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const std::string name = list.substr(begin, end - begin);
    begin = end + 1;
    if (name.empty())
      throw UserError({"--tasks", "an empty name", "names with commas between them", "\"" + list + "\""});
    if (name != "zero-shot") {
      add(name);
      continue;
    }
    for (const std::string& one : kZeroShot) add(one);
  }
  return names;
}

bool NeedsText(const std::string& task) { return !IsProbe(task); }

void AddJobs(const EvalFlags& flags, const Checkpoint& checkpoint, const Tokenizer* tokenizer,
             const ContextLimit& limit, EvalJobs& jobs) {
  for (const std::string& name : EvalTaskNames(flags.tasks)) {
    EvalJob& job = jobs.emplace_back();
    if (IsNeedle(name)) {
      job.needles.emplace(name, NeedleOptionsOf(flags, name, checkpoint), *tokenizer);
    } else {
      const bool probe = IsProbe(name);
      EvalTask task =
          probe ? MakeProbe(name, ProbeOptionsOf(flags, checkpoint, tokenizer)) : LoadTask(name, flags.data);
      job.prepared = PrepareTask(std::move(task), probe ? 0 : flags.limit, tokenizer, limit);
      NoteOddItems(job.prepared, limit);
      RequireMemoryFor(job.prepared, flags, checkpoint);
    }
    const std::string& own = job.task().task.name;
    for (const EvalJob& other : jobs) {
      if (&other != &job && other.task().task.name == own) {
        throw UserError({"--tasks", "two tasks have the same name", "names that differ", own});
      }
    }
  }
}

std::string EvalTasksHelp() {
  std::string help = "Names with commas between them. With --data: ";
  for (const TaskInfo& task : AllTasks()) help += task.name + ", ";
  return help + "zero-shot (the nine that the paper has: winogrande to race, and boolq). Made by seed: " +
         Names(NeedleNames()) + ", " + Names(ProbeNames()) +
         " (one setting: mqar:256x16). Your own: files of questions, a JSON object a line, {\"question\", \"choices\", "
         "\"answer\"}, under names that end in .jsonl";
}

}  // namespace taipan
