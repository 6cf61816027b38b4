// taipan bench prefill and decode: reading a prompt, and generating after one.

#include <algorithm>
#include <numeric>

#include "cli/bench/bench_run.h"
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

// Forwards with a selection that may be forced, and logits: what a prompt and a token cost.
class Reader {
 public:
  explicit Reader(const BenchModel& bench) : model_(bench.model), gate_(GateOf(bench)) {}

  // The prompt in pieces, then the logits of its last token.
  void Prefill(std::span<const int32_t> tokens, int64_t piece, SequenceState& state) {
    ForEachPiece(state.position, static_cast<int64_t>(tokens.size()), piece, [&](int64_t begin, int64_t count) {
      const auto part = tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(count));
      batch_.tokens.assign(part.begin(), part.end());
      batch_.segments.assign(
          1,
          Segment{.begin = 0, .length = count, .row_begin = state.position, .state_in = &state, .state_out = &state});
      Forward();
    });
    rows_.assign(1, batch_.size() - 1);
    Logits();
  }

  // One token for each sequence; the likeliest next ones replace `tokens`.
  void Step(std::vector<int32_t>& tokens, std::vector<SequenceState>& states) {
    batch_.tokens = tokens;
    batch_.segments.clear();
    for (size_t i = 0; i < states.size(); ++i) {
      const int64_t row = static_cast<int64_t>(i);
      batch_.segments.push_back({.begin = row,
                                 .length = 1,
                                 .row = row,
                                 .row_begin = states[i].position,
                                 .state_in = &states[i],
                                 .state_out = &states[i]});
    }
    Forward();
    rows_.resize(tokens.size());
    std::iota(rows_.begin(), rows_.end(), int64_t{0});
    Logits();
    const OpTimer timer("argmax");
    for (size_t i = 0; i < tokens.size(); ++i) {
      const float* row = logits_.F32() + static_cast<int64_t>(i) * model_.config().vocab_size;
      tokens[i] = static_cast<int32_t>(std::max_element(row, row + model_.config().vocab_size) - row);
    }
  }

  const SelectionCounts& counts() const { return counts_; }
  void ResetCounts() { counts_ = {}; }

 private:
  void Forward() {
    model_.Forward(batch_, gate_, /*keep=*/false, context_);
    counts_.Add(context_, batch_.size());
  }
  void Logits() {
    const int64_t n = static_cast<int64_t>(rows_.size());
    if (logits_.size() != n * model_.config().vocab_size) logits_ = Tensor({n, model_.config().vocab_size});
    model_.Logits(context_, rows_, logits_.Matrix());
  }

  const LanguageModel& model_;
  const GateOptions gate_;
  SelectionCounts counts_;
  ForwardContext context_;
  Batch batch_;
  std::vector<int64_t> rows_;
  Tensor logits_;  // [rows, V]
};

void RunPrefill(PrefillOptions o) {
  const BenchModel bench = LoadToBench(o);
  const ModelConfig& config = bench.model.config();
  const int64_t piece = std::min(o.piece > 0 ? o.piece : PieceLength(config), o.prompt);
  const std::vector<int32_t> tokens = RandomTokens(o.prompt, config.vocab_size);
  Reader reader(bench);
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
  Reader reader(bench);
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
  o->dtype = ComputeType::kAuto;
  AddEnumFlag(
      *command, "--dtype", o->dtype,
      "Number format of activations and of the weights in products; auto: quantized weights as they are stored, "
      "others in f32",
      {"auto", "f32", "bf16"});
  const CLI::Validator count = WholeNumber(1, int64_t{1} << 30);
  command->add_option("--prompt", o->prompt, "Tokens")->check(count)->capture_default_str();
  command->add_option("--piece", o->piece, "Tokens read at once (default: as generation does)")->check(count);
  command->callback([o] { RunPrefill(*o); });
}

void AddBenchDecode(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand("decode", "Generating tokens greedily, one at a time");
  auto o = std::make_shared<DecodeOptions>();
  AddBenchFlags(*command, *o);
  o->dtype = ComputeType::kAuto;
  AddEnumFlag(
      *command, "--dtype", o->dtype,
      "Number format of activations and of the weights in products; auto: quantized weights as they are stored, "
      "others in f32",
      {"auto", "f32", "bf16"});
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
