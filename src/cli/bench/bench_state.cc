// taipan bench state: what keeping and restoring a sequence's state costs, against reading its text again.

#include <filesystem>

#include "base/cpu.h"
#include "base/parallel.h"
#include "base/temporary.h"
#include "cli/bench/bench_run.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/model_argument.h"
#include "infer/prefix_cache.h"
#include "infer/state_io.h"

namespace taipan {
namespace {

constexpr int64_t kNewTokens = 16;  // of a text that goes on from the cached beginning

struct StateOptions : BenchOptions {
  int64_t context = 4096;
  std::string folder;
};

double SecondsOf(const auto& f) {
  const double start = NowSeconds();
  f();
  return NowSeconds() - start;
}

struct StateCosts {
  int64_t state_bytes = 0, file_bytes = 0, reused = 0;
  std::vector<double> read, save, restore;      // seconds, a run each
  std::vector<double> first_token, with_cache;  // until the logits after the context and kNewTokens
};

void MeasureOnce(const LanguageModel& model, std::span<const int32_t> text, const std::string& file, StateCosts& to) {
  const auto context = text.first(text.size() - kNewTokens);
  Generator reading(model), other(model);
  const double read = SecondsOf([&] { reading.Read(context); });
  to.read.push_back(read);
  to.first_token.push_back(read + SecondsOf([&] { reading.Read(text.last(kNewTokens)); }));
  to.state_bytes = reading.state().bytes();

  Generator fresh(model);
  PrefixCache cache(model);
  cache.Read(context, {}, fresh);
  const SequenceSnapshot snapshot = fresh.Snapshot();
  to.save.push_back(SecondsOf([&] { SaveSequence(model, snapshot, file); }));
  to.file_bytes = static_cast<int64_t>(std::filesystem::file_size(file));
  to.restore.push_back(SecondsOf([&] { other.Continue(LoadSequence(model, file)); }));
  Generator next(model);
  to.with_cache.push_back(SecondsOf([&] { to.reused = cache.Read(text, {}, next).reused; }));
}

void PrintCosts(const StateOptions& o, const std::string& name, const LanguageModel& model, const StateCosts& costs) {
  const Spread read = SpreadOf(costs.read), save = SpreadOf(costs.save), restore = SpreadOf(costs.restore);
  const Spread first = SpreadOf(costs.first_token), cached = SpreadOf(costs.with_cache);
  const double restored_faster = read.median / (save.median + restore.median);
  const double cached_share = cached.median / first.median;
  if (o.json) {
    return PrintJson({{"bench", "state"},
                      {"model", name},
                      {"dtype", NameIn(o.dtype)},
                      {"context", o.context},
                      {"threads", NumThreads()},
                      {"cpu", CpuModelName()},
                      {"state_bytes", costs.state_bytes},
                      {"file_bytes", costs.file_bytes},
                      {"read_seconds", ToJson(read)},
                      {"save_seconds", ToJson(save)},
                      {"restore_seconds", ToJson(restore)},
                      {"read_over_save_and_restore", restored_faster},
                      {"first_token_seconds", ToJson(first)},
                      {"first_token_seconds_with_cache", ToJson(cached)},
                      {"reused_tokens", costs.reused},
                      {"share_with_cache", cached_share}});
  }
  const auto row = [](const char* what, const Spread& s, const std::string& note) {
    return std::vector<std::string>{what, fmt::format("{:.2f} ms", 1e3 * s.median), note};
  };
  Print(fmt::format("{}, {} tokens, state {}, file {}\n\n", name, FormatExact(o.context),
                    FormatBytes(costs.state_bytes), FormatBytes(costs.file_bytes)));
  Print(FormatTable(
      {{"", true}, {"median"}, {"", true}},
      {row("read", read, ""), row("save", save, ""),
       row("restore", restore, fmt::format("save and restore: {:.0f} times faster", restored_faster)),
       row("first token after it", first, fmt::format("{} tokens more", kNewTokens)),
       row("with the prefix cache", cached,
           fmt::format("{} tokens reused, {:.2f} % of the time", FormatExact(costs.reused), 100 * cached_share))}));
}

void RunState(StateOptions o) {
  const std::filesystem::path folder(o.folder.empty() ? std::filesystem::temp_directory_path().string() : o.folder);
  const TemporaryPath own(folder / "taipan-bench", TemporaryPath::Kind::kFolder);
  const std::string file = own.path() + "/state";
  const BenchModel bench = LoadToBench(o);
  const std::vector<int32_t> text = RandomTokens(o.context + kNewTokens, bench.model.config().vocab_size);
  StateCosts costs, warm;
  for (int64_t i = 0; i < o.warmup; ++i) MeasureOnce(bench.model, text, file, warm);
  for (int64_t i = 0; i < o.runs; ++i) MeasureOnce(bench.model, text, file, costs);
  PrintCosts(o, bench.name, bench.model, costs);
}

}  // namespace

void AddBenchState(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand(
      "state",
      "Saving and restoring a sequence's state, and a beginning found in the prefix cache, against reading it");
  auto o = std::make_shared<StateOptions>();
  o->runs = 3;
  o->warmup = 1;
  AddModelToBenchFlag(*command, *o);
  AddRunsFlags(*command, *o);
  AddStoredDTypeFlag(*command, o->dtype, ComputeType::kAuto);
  command->add_option("--context", o->context, "Tokens read")
      ->check(WholeNumber(1, int64_t{1} << 30))
      ->capture_default_str();
  command->add_option("--folder", o->folder, "Where the state is saved (default: the system's temporary folder)")
      ->type_name("DIR");
  AddJsonFlag(*command, o->json);
  AddLoadFlags(*command);
  AddThreadsFlag(*command);
  command->callback([o] { RunState(*o); });
}

}  // namespace taipan
