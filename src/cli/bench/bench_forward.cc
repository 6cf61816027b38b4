// taipan bench prefill and decode: reading a prompt, and generating after one.

#include <algorithm>

#include "cli/bench/bench_reader.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "infer/sequence_reader.h"
#include "model/model_files.h"

namespace taipan {
namespace {

struct PrefillOptions : BenchOptions {
  int64_t prompt = 512, piece = 0;
};
struct DecodeOptions : BenchOptions {
  int64_t context = 0, tokens = 64, batch_size = 1;
};

void RunPrefill(PrefillOptions o) {
  const BenchModel bench = LoadToBench(o);
  const ModelConfig& config = bench.model.config();
  const int64_t piece = std::min(o.piece > 0 ? o.piece : PieceLength(config), o.prompt);
  const std::vector<int32_t> tokens = RandomTokens(o.prompt, config.vocab_size);
  BenchReader reader(bench);
  BenchReport report;
  report.command = "prefill";
  report.model = bench.name;
  report.shape = {{"prompt", o.prompt}, {"context", o.prompt}, {"piece", piece}, {"batch_size", 1}};
  report.shape_text = fmt::format("prompt {} in pieces of {}", o.prompt, piece);
  report.forced = bench.forced_share.has_value();
  report.measured = MeasureRuns(
      o, [] {},
      [&] {
        SequenceState state;
        reader.Prefill(tokens, piece, state);
      });
  report.selected_share = reader.counts().Shares();
  report.work = {.phase = Phase::kPrefill,
                 .context = o.prompt,
                 .forwards = (o.prompt + piece - 1) / piece,
                 .selected_share = MeanShare(bench, report.selected_share),
                 .element_bytes = SizeOf(DTypeOf(o.dtype))};
  report.weights = WeightBytesOf(bench.model);
  PrintReport(o, config, report);
}

void RunDecode(DecodeOptions o) {
  const BenchModel bench = LoadToBench(o);
  const ModelConfig& config = bench.model.config();
  BenchReader reader(bench);
  // The context, or one start token, is read once; every run continues from copies of that state.
  const std::vector<int32_t> prompt = RandomTokens(std::max<int64_t>(o.context, 1), config.vocab_size);
  SequenceState begin;
  if (o.context > 0) reader.Prefill(prompt, PieceLength(config), begin);
  BenchReport report;
  report.command = "decode";
  report.model = bench.name;
  report.shape = {{"context", o.context}, {"tokens", o.tokens}, {"batch_size", o.batch_size}};
  report.shape_text = fmt::format("{} tokens after {}, batch {}", o.tokens, o.context, o.batch_size);
  report.forced = bench.forced_share.has_value();
  std::vector<SequenceState> states;
  std::vector<int32_t> next;
  reader.ResetCounts();
  report.measured = MeasureRuns(
      o,
      [&] {
        states.assign(static_cast<size_t>(o.batch_size), begin);
        next.assign(static_cast<size_t>(o.batch_size), prompt.back());
      },
      [&] {
        for (int64_t i = 0; i < o.tokens; ++i) reader.Step(next, states);
      });
  report.selected_share = reader.counts().Shares();
  report.work = {.phase = Phase::kDecode,
                 .context = o.context,
                 .tokens = o.tokens,
                 .sequences = o.batch_size,
                 .forwards = o.tokens,
                 .selected_share = MeanShare(bench, report.selected_share),
                 .element_bytes = SizeOf(DTypeOf(o.dtype))};
  report.weights = WeightBytesOf(bench.model);
  PrintReport(o, config, report);
}

}  // namespace

void AddBenchPrefill(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand("prefill", "Reading a prompt of random tokens, logits of the last one");
  auto o = std::make_shared<PrefillOptions>();
  AddBenchFlags(*command, *o);
  AddStoredDTypeFlag(*command, o->dtype, ComputeType::kAuto);
  const CLI::Validator count = WholeNumber(1, int64_t{1} << 30);
  command->add_option("--prompt", o->prompt, "Tokens")->check(count)->capture_default_str();
  command->add_option("--piece", o->piece, "Tokens read at once (default: as generation does)")->check(count);
  command->callback([o] { RunPrefill(*o); });
}

void AddBenchDecode(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand("decode", "Generating tokens greedily, one at a time");
  auto o = std::make_shared<DecodeOptions>();
  AddBenchFlags(*command, *o);
  AddStoredDTypeFlag(*command, o->dtype, ComputeType::kAuto);
  AddKvDTypeFlag(*command, o->kv_dtype);
  const int64_t most = int64_t{1} << 30;
  command->add_option("--context", o->context, "Tokens read before, 0: one start token")
      ->check(WholeNumber(0, most))
      ->capture_default_str();
  command->add_option("--tokens", o->tokens, "Tokens a sequence")->check(WholeNumber(1, most))->capture_default_str();
  command->add_option("--batch-size", o->batch_size, "Sequences at once")
      ->check(WholeNumber(1, 1 << 16))
      ->capture_default_str();
  command->callback([o] { RunDecode(*o); });
}

}  // namespace taipan
