#include "cli/inspect_selection.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/file_checks.h"
#include "base/files.h"
#include "cli/flags.h"
#include "cli/model_argument.h"
#include "cli/output.h"
#include "cli/selection_page.h"
#include "cli/token_lines.h"
#include "infer/gate_benefit.h"
#include "infer/selection_report.h"

namespace taipan {
namespace {

constexpr int64_t kMostPageTokens = 65536;  // a browser lays out an element a token

struct SelectionFlags {
  bool selection = false;
  std::string text, out, tokenizer;
  int64_t tokens = 4096, context = 1024;
  ComputeType dtype = ComputeType::kAuto;
  std::optional<double> budget;
  bool gate_auc = false;
  int64_t gate_samples = 64;
};

// Reports by every measure; rankings stay empty without --gate-auc.
struct Findings {
  SelectionTrace trace;
  SelectionReport report;
  std::vector<GateRanking> rankings;
};

// The first tokens of the text; no more of it is read than they can take.
std::vector<int32_t> FirstTokens(const Tokenizer& tokenizer, const SelectionFlags& flags) {
  size_t longest = 16;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) longest = std::max(longest, tokenizer.TokenBytes(id).size());
  const auto bytes = flags.tokens * static_cast<int64_t>(std::min<size_t>(longest, 256)) + 1024;
  const TextHead head = ReadInputHead(flags.text, bytes);
  std::vector<int32_t> tokens = EncodeText(tokenizer, head.text);
  if (tokens.empty()) throw UserError({InputName(flags.text), "nothing to read", "some text", "an empty file"});
  NoteDoubledBos(tokenizer, tokens);
  const auto most = static_cast<size_t>(flags.tokens);
  if (tokens.size() > most || !head.whole) {
    tokens.resize(std::min(tokens.size(), most));
    Note(fmt::format("reads the first {} tokens of the text (--tokens takes another number)",
                     FormatExact(static_cast<int64_t>(tokens.size()))));
  }
  return tokens;
}

OrderedJson GroupsJson(const std::vector<SelectedGroup>& groups, const char* name) {
  OrderedJson list = OrderedJson::array();
  for (const SelectedGroup& g : groups) {
    list.push_back({{name, g.name}, {"tokens", g.tokens}, {"selected_share", g.share}});
  }
  return list;
}

std::vector<int64_t> SalLayers(const ModelConfig& config) {
  std::vector<int64_t> layers;
  for (size_t i = 0; i < config.layer_pattern.size(); ++i) {
    if (config.layer_pattern[i] == LayerKind::kSelectiveAttention) layers.push_back(static_cast<int64_t>(i));
  }
  return layers;
}

void AddRankings(const std::vector<GateRanking>& rankings, OrderedJson& json) {
  const auto add = [&](const char* key, double GateRanking::*value) {
    for (const GateRanking& ranking : rankings) json[key].push_back(ranking.*value);  // NaN becomes null
  };
  add("gate_auc", &GateRanking::auc);
  add("gate_auc_equal_alpha", &GateRanking::equal_auc);
  add("surprise_auc_equal_alpha", &GateRanking::surprise_auc);
  add("gate_auc_exact", &GateRanking::exact_auc);
  add("benefit_correlation", &GateRanking::correlation);
  add("benefit_selected", &GateRanking::benefit_selected);
  add("benefit_other", &GateRanking::benefit_other);
  if (!rankings.empty()) json["gate_samples"] = rankings[0].exact.size();
}

OrderedJson ReportJson(const std::string& name, const LanguageModel& model, const SelectionFlags& flags,
                       const Findings& findings) {
  const auto& [trace, report, rankings] = findings;
  const ModelConfig& config = model.config();
  OrderedJson json = {{"model", name},
                      {"text", InputName(flags.text)},
                      {"tokens", trace.size()},
                      {"context", trace.context},
                      {"dtype", ComputesIn(model)},
                      {"refinement", NameIn(config.refinement)},
                      {"selection", NameIn(config.selection)},
                      {"selection_threshold", config.selection_threshold},
                      {"layers", SalLayers(config)},
                      {"selected_share", report.all.share},
                      {"mean_alpha", report.mean_alpha},
                      {"by_position", GroupsJson(report.by_position, "positions")},
                      {"by_class", GroupsJson(report.by_class, "class")},
                      {"by_token", GroupsJson(report.by_token, "text")}};
  if (flags.budget) json["budget"] = *flags.budget;
  json["agreement"] = report.agreement;  // NaN becomes null
  AddRankings(rankings, json);
  return json;
}

std::string Digits(const auto& flags) {
  std::string text;
  for (const bool flag : flags) text += flag ? '1' : '0';
  return text;
}

OrderedJson Rounded(const auto& values, double unit) {
  OrderedJson list = OrderedJson::array();
  for (const double v : values) list.push_back(std::round(v / unit) * unit);
  return list;
}

// The report with what the page shows of every token.
OrderedJson PageJson(OrderedJson json, const Findings& findings) {
  const auto& [trace, report, rankings] = findings;
  json["texts"] = report.texts;
  json["before_hit"] = Digits(report.before_hit);
  for (const SelectionTrace::Sal& sal : trace.sals) {
    json["selected"].push_back(Digits(sal.selected));
    json["alpha"].push_back(Rounded(sal.alpha, 1e-3));
    json["margin"].push_back(Rounded(sal.margin, 1e-3));
  }
  for (const GateRanking& ranking : rankings) json["benefit"].push_back(Rounded(ranking.first_order, 1e-6));
  return json;
}

void PrintReport(const Findings& findings, const std::vector<int64_t>& layers) {
  const auto& [trace, report, rankings] = findings;
  std::vector<Column> columns = {{"SAL"}, {"layer"}, {"selected"}, {"mean alpha"}};
  if (!rankings.empty())
    columns.insert(columns.end(),
                   {{"gate AUC"}, {"at equal alpha"}, {"of surprise"}, {"on the sample"}, {"rank correlation"}});
  std::vector<std::vector<std::string>> rows;
  const auto number = [](double x) { return std::isnan(x) ? std::string("-") : fmt::format("{:.3f}", x); };
  for (size_t s = 0; s < layers.size(); ++s) {
    std::vector<std::string>& row = rows.emplace_back();
    row = {std::to_string(s), std::to_string(layers[s]), number(report.all.share[s]), number(report.mean_alpha[s])};
    if (rankings.empty()) continue;
    const GateRanking& r = rankings[s];
    for (const double x : {r.auc, r.equal_auc, r.surprise_auc, r.exact_auc, r.correlation}) row.push_back(number(x));
  }
  Print(fmt::format("{} tokens in windows of {}\n\n", FormatExact(trace.size()), FormatExact(trace.context)));
  Print(FormatTable(columns, rows));
  const auto groups = [&](const char* name, const std::vector<SelectedGroup>& list, size_t most) {
    rows.clear();
    for (size_t i = 0; i < std::min(list.size(), most); ++i) {
      rows.push_back({list[i].name, FormatExact(list[i].tokens), FormatShares(list[i].share)});
    }
    Print("\n" + FormatTable({{name, true}, {"tokens"}, {"selected, a SAL each"}}, rows));
  };
  groups("class", report.by_class, report.by_class.size());
  groups("most selected", report.by_token, 10);
}

std::vector<GateRanking> MeasureGates(const LanguageModel& model, const SelectionTrace& trace,
                                      const SelectionFlags& flags) {
  CountProgress progress("measuring benefits:", RankGatesWork(trace, flags.gate_samples));
  std::vector<GateRanking> rankings = RankGates(model, trace, flags.budget.value_or(model.config().attention_budget),
                                                flags.gate_samples, [&](int64_t done) { progress.Update(done); });
  progress.Finish();
  return rankings;
}

void InspectSelection(const std::string& name, const SelectionFlags& flags, bool json) {
  const NamedConfig named = ResolveConfig(name);
  if (named.config.num_sals() == 0) {
    throw UserError({name, "the model has no selective attention layers", "a model with some", "none"});
  }
  if (flags.text != "-") CheckCanRead(flags.text);
  if (!flags.out.empty()) CheckCanWrite(flags.out);
  const Checkpoint checkpoint = named.checkpoint ? *named.checkpoint : OpenModel(name);  // refuses what has no weights
  const auto tokenizer = RequireText(checkpoint, flags.tokenizer).tokenizer;
  // Differences of losses are small: rounding to bf16 would drown them.
  const bool exact = flags.dtype == ComputeType::kAuto && flags.gate_auc;
  LanguageModel model = LoadToRun(checkpoint, exact ? ComputeType::kF32 : flags.dtype);
  UseBudgetIfGiven(model, checkpoint, flags.budget);
  const std::vector<int32_t> tokens = FirstTokens(*tokenizer, flags);
  NoteLongContext(model.config(), std::min(flags.context, flags.tokens), "a window has");
  Findings findings;
  CountProgress progress("reading:", static_cast<int64_t>(tokens.size()));
  findings.trace =
      TraceSelection(model, tokens, flags.context, InputName(flags.text), [&](int64_t done) { progress.Update(done); });
  progress.Finish();
  findings.report = ReportSelection(findings.trace, *tokenizer, {.reach = model.config().conv_kernel});
  if (flags.gate_auc) findings.rankings = MeasureGates(model, findings.trace, flags);
  const OrderedJson summary = ReportJson(name, model, flags, findings);
  if (!flags.out.empty()) WriteFileAtomically(flags.out, SelectionPage(PageJson(summary, findings)));
  if (json) {
    PrintJson(summary);
  } else {
    PrintReport(findings, SalLayers(model.config()));
  }
  if (!flags.out.empty()) Note(fmt::format("wrote {}", flags.out));
}

}  // namespace

std::function<bool(const std::string&, bool)> AddSelectionFlags(CLI::App& command) {
  auto flags = std::make_shared<SelectionFlags>();
  CLI::Option* selection =
      command.add_flag("--selection", flags->selection, "Instead: which tokens of a text the selective layers pick");
  const auto add = [&](CLI::Option* option) { return option->needs(selection); };
  add(command.add_option("--text", flags->text, "With --selection: the text, - for standard input")->type_name("FILE"));
  add(command.add_option("--out", flags->out, "With --selection: a page for a browser, every token coloured")
          ->type_name("PAGE.html"));
  add(command.add_option("--tokens", flags->tokens, "With --selection: the first N tokens of the text")
          ->type_name("N")
          ->capture_default_str()
          ->check(WholeNumber(1, kMostPageTokens)));
  add(command
          .add_option("--context", flags->context,
                      "With --selection: read in windows of this many tokens, each from a fresh state")
          ->type_name("N")
          ->capture_default_str()
          ->check(WholeNumber(1, kMostPageTokens)));
  AddBudgetFlag(command, flags->budget);
  add(command.get_option("--budget"));
  AddTokenizerFlag(command, flags->tokenizer);
  add(command.get_option("--tokenizer"));
  CLI::Option* dtype = AddDTypeFlag(command, flags->dtype);
  add(dtype->description(dtype->get_description() + "; with --gate-auc f32"));
  add(command.add_flag("--gate-auc", flags->gate_auc,
                       "With --selection: also what attending is worth at each token, and how well the gates rank the "
                       "tokens by it"));
  add(command
          .add_option("--gate-samples", flags->gate_samples,
                      "With --gate-auc: of so many tokens a layer exactly, by reading the window again; 0 for none")
          ->type_name("N")
          ->capture_default_str()
          ->check(WholeNumber(0, kMostPageTokens)));
  return [flags](const std::string& model, bool json) {
    if (!flags->selection) return false;
    if (flags->text.empty()) throw CLI::RequiredError("inspect --selection: --text");
    InspectSelection(model, *flags, json);
    return true;
  };
}

}  // namespace taipan
