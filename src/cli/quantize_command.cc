// taipan quantize: a model whose matrices are blocks of few bits.

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/file_checks.h"
#include "base/files.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/model_argument.h"
#include "cli/new_folder.h"
#include "cli/output.h"
#include "cli/token_lines.h"
#include "cli/tokenizer_files.h"
#include "infer/divergence.h"
#include "infer/quant_calibration.h"
#include "model/model_files.h"
#include "model/quantize.h"

namespace taipan {
namespace {

struct QuantizeFlags {
  std::string in, out, type, text, calibrate, tokenizer;
  std::vector<std::string> keep;
  int64_t context = 512, calibrate_tokens = QuantCalibration().most_tokens;
  bool json = false;
};

// Tokens of --calibrate; none where it is not given.
std::vector<int32_t> CalibrationTokens(const Checkpoint& in, const QuantizeFlags& o) {
  if (o.calibrate.empty()) return {};
  const ModelText text = RequireText(in, o.tokenizer);
  std::vector<int32_t> tokens = EncodeText(*text.tokenizer, ReadInput(o.calibrate));
  CheckCalibration({.tokens = tokens, .where = InputName(o.calibrate)}, in.config);
  return tokens;
}

RoundedBlocks Calibrate(const Checkpoint& in, const QuantizeFlags& o, const TypeOfTensor& types,
                        const std::vector<int32_t>& tokens) {
  if (o.calibrate.empty()) return {};
  LanguageModel model = LoadModel(in);
  std::optional<CountProgress> progress;
  QuantCalibration calibration = {.tokens = tokens, .context = o.context, .most_tokens = o.calibrate_tokens};
  calibration.where = InputName(o.calibrate);
  calibration.on_progress = [&](int64_t done, int64_t all) {
    if (!progress) progress.emplace("calibrating:", all, "steps");
    progress->Update(done);
  };
  RoundedBlocks rounded = CalibrateBlocks(model, types, calibration);
  progress->Finish();
  return rounded;
}

void Write(LanguageModel& model, const Checkpoint& in, const QuantizeFlags& o, GgmlType type,
           const Quantization& quantization) {
  if (HasGgufName(o.out)) {
    ExportQuantizedGguf(model, quantization, type, TokenizerMetadata(in), o.out, in.path);
    return;
  }
  const std::string target = NewFolderTarget(o.out);
  const TemporaryFolder folder(target);
  ExportQuantizedFolder(model, quantization, folder.path());
  WriteTokenizer(in, folder.path());
  ReplaceDirectory(folder.path(), target);
}

double RelativeError(const QuantizedTensor& t) { return t.squares > 0 ? std::sqrt(t.error_squares / t.squares) : 0; }

// Those of one group and type together, in the order of the first; `name` counts them.
struct TensorGroup {
  QuantizedTensor sum;
  int64_t tensors = 0;
};
void AddTo(QuantizedTensor& sum, const QuantizedTensor& t) {
  sum.values += t.values;
  sum.bytes_before += t.bytes_before;
  sum.bytes_after += t.bytes_after;
  sum.squares += t.squares;
  sum.error_squares += t.error_squares;
}
std::vector<TensorGroup> Groups(const std::vector<QuantizedTensor>& tensors) {
  std::vector<TensorGroup> groups;
  for (const QuantizedTensor& t : tensors) {
    auto it = std::find_if(groups.begin(), groups.end(),
                           [&](const TensorGroup& g) { return g.sum.group == t.group && g.sum.type == t.type; });
    if (it == groups.end()) {
      it = groups.insert(groups.end(), TensorGroup{});
      it->sum.group = t.group;
      it->sum.type = t.type;
    }
    AddTo(it->sum, t);
    ++it->tensors;
  }
  return groups;
}

std::string MiB(double bytes) { return fmt::format("{:.1f}", bytes / (1 << 20)); }

void PrintGroups(const std::vector<QuantizedTensor>& tensors) {
  std::vector<std::vector<std::string>> rows;
  const auto add = [&](const std::string& name, int64_t count, const QuantizedTensor& t) {
    rows.push_back({name, t.type, std::to_string(count), FormatExact(static_cast<int64_t>(t.values)),
                    MiB(t.bytes_before), MiB(t.bytes_after), fmt::format("{:.3f}", 100 * RelativeError(t))});
  };
  QuantizedTensor all;
  int64_t count = 0;
  for (const TensorGroup& g : Groups(tensors)) {
    add(g.sum.group, g.tensors, g.sum);
    AddTo(all, g.sum);
    count += g.tensors;
  }
  add("all matrices", count, all);
  Print(FormatTable(
      {{"group", true}, {"type", true}, {"tensors"}, {"values"}, {"MiB before"}, {"MiB after"}, {"error %"}}, rows));
}

OrderedJson TensorsJson(const std::vector<QuantizedTensor>& tensors) {
  OrderedJson list = OrderedJson::array();
  for (const QuantizedTensor& t : tensors) {
    list.push_back({{"name", t.name},
                    {"type", t.type},
                    {"bytes_before", t.bytes_before},
                    {"bytes_after", t.bytes_after},
                    {"relative_error", RelativeError(t)}});
  }
  return list;
}

struct TextResult {
  Divergence divergence;
  int64_t bytes = 0;
  double BitsPerByte(double nll) const { return nll / std::numbers::ln2 / static_cast<double>(bytes); }
  double Perplexity(double nll) const { return std::exp(nll / static_cast<double>(divergence.scored)); }
};

// Both in f32: roundings of activations to bf16 would count as much as those of weights to 8 bits.
TextResult Compare(const Checkpoint& in, const Checkpoint& out, const QuantizeFlags& o) {
  const ModelText text = RequireText(in, o.tokenizer);
  const std::string content = ReadInput(o.text);
  const std::vector<int32_t> tokens = EncodeText(*text.tokenizer, content);
  if (tokens.size() < 2) throw UserError({o.text, "nothing to score", "some text", "less than two tokens"});
  const LanguageModel before = LoadModel(in), after = LoadModel(out);
  CountProgress progress("comparing:", static_cast<int64_t>(tokens.size()));
  TextResult result{{}, static_cast<int64_t>(content.size())};
  result.divergence = CompareModels(before, after, tokens, o.context, [&](int64_t done) { progress.Update(done); });
  progress.Finish();
  return result;
}

void PrintText(const TextResult& r) {
  const Divergence& d = r.divergence;
  const double before = r.Perplexity(d.nll_before), after = r.Perplexity(d.nll_after);
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"tokens scored", FormatExact(d.scored)},
      {"bits per byte", fmt::format("{:.6f} -> {:.6f}", r.BitsPerByte(d.nll_before), r.BitsPerByte(d.nll_after))},
      {"perplexity", fmt::format("{:.4f} -> {:.4f} ({:+.3f} %)", before, after, 100 * (after / before - 1))},
      {"KL divergence, mean", fmt::format("{:.6f} nats", d.mean_kl)},
      {"  99.9th percentile", fmt::format("{:.6f} nats", d.high_kl)},
      {"same likeliest token", fmt::format("{:.2f} %", 100 * d.same_top)}};
  std::string text = "\n";
  for (const auto& [name, value] : rows) text += fmt::format("{:<25}{}\n", name, value);
  Print(text);
}

OrderedJson TextJson(const TextResult& r, int64_t context) {
  const Divergence& d = r.divergence;
  return {{"scored_tokens", d.scored},
          {"bytes", r.bytes},
          {"context", context},
          {"bits_per_byte", {r.BitsPerByte(d.nll_before), r.BitsPerByte(d.nll_after)}},
          {"perplexity", {r.Perplexity(d.nll_before), r.Perplexity(d.nll_after)}},
          {"kl_mean", d.mean_kl},
          {"kl_999", d.high_kl},
          {"same_top", d.same_top}};
}

void RunQuantize(const QuantizeFlags& o) {
  const GgmlType type = ParseQuantType(o.type, "--type");
  std::vector<KeepRule> keep;
  for (const std::string& rule : o.keep) keep.push_back(ParseKeepRule(rule));
  const Checkpoint in = OpenModel(o.in);
  if (HasGgufName(o.out) && PathExists(o.out)) {
    throw UserError(
        {.where = o.out, .problem = "exists already", .expected = "a new file", .hint = "nothing was written"});
  }
  if (!HasGgufName(o.out)) NewFolderTarget(o.out);  // refuses before the weights are read
  if (!o.text.empty()) RequireText(in, o.tokenizer);
  CheckCanWrite(o.out);
  Quantization quantization = {QuantTypes(in.config, type, keep)};
  quantization.rounded = Calibrate(in, o, quantization.types, CalibrationTokens(in, o));
  std::vector<QuantizedTensor> tensors;
  Checkpoint out;
  {
    LanguageModel model = LoadModel(in, Binding::kView);
    Write(model, in, o, type, quantization);
    out = OpenCheckpoint(o.out);
    tensors = CompareTensors(model, in, out);
  }
  std::optional<TextResult> text;
  if (!o.text.empty()) text = Compare(in, out, o);
  if (!o.json) {
    PrintGroups(tensors);
    if (text) PrintText(*text);
    return;
  }
  QuantizedTensor all;
  for (const QuantizedTensor& t : tensors) AddTo(all, t);
  OrderedJson json = {{"out", o.out},
                      {"type", NameOf(type)},
                      {"bytes_before", all.bytes_before},
                      {"bytes_after", all.bytes_after},
                      {"relative_error", RelativeError(all)},
                      {"tensors", TensorsJson(tensors)}};
  if (text) json["text"] = TextJson(*text, o.context);
  PrintJson(json);
}

}  // namespace

void AddQuantizeCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("quantize", "Write a model whose matrices are blocks of 4 to 8 bits");
  auto o = std::make_shared<QuantizeFlags>();
  command->add_option("IN", o->in, "A model directory or GGUF file")->required();
  command
      ->add_option("OUT", o->out,
                   "A new or empty folder, or a new .gguf file where llama.cpp has the architecture (mamba2, llama and "
                   "some hybrids)")
      ->required();
  command
      ->add_option("--type", o->type,
                   "Type of matrices: " + QuantTypeNames() +
                       ". The head is q6_k at least; where blocks of 256 do not divide the rows, types of 32 with as "
                       "many bits stand in")
      ->required();
  TakeTextsAsTheyAre(*command->add_option("--keep", o->keep,
                                          "PATTERN=TYPE: tensors whose name has PATTERN in it (or fits it, with *) get "
                                          "TYPE, also f32, f16 or bf16; may be repeated, the first that fits counts"));
  command
      ->add_option("--text", o->text,
                   "Compare the predictions on this text before and after: perplexity, KL divergence, top-1 agreement")
      ->type_name("FILE");
  command
      ->add_option("--calibrate", o->calibrate,
                   "Round for the inputs that matrices get on this text, not each weight to the nearest value; text of "
                   "the kind that the model will read")
      ->type_name("FILE");
  command->add_option("--calibrate-tokens", o->calibrate_tokens, "Tokens of it to read at most, in even distances")
      ->check(WholeNumber(1024, int64_t{1} << 32))
      ->capture_default_str();
  command->add_option("--context", o->context, "Tokens of a window of these texts, each read from a fresh state")
      ->check(WholeNumber(2, int64_t{1} << 20))
      ->capture_default_str();
  AddTokenizerFlag(*command, o->tokenizer);
  AddJsonFlag(*command, o->json);
  AddLoadFlags(*command);
  AddThreadsFlag(*command);
  command->callback([o] { RunQuantize(*o); });
}

}  // namespace taipan
