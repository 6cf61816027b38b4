#include "cli/generate_report.h"

#include "base/cpu.h"
#include "base/signals.h"

namespace taipan {
namespace {

OrderedJson ToJson(const TokenLogprob& entry) { return {{"token", entry.token}, {"logprob", entry.logprob}}; }

OrderedJson ToJson(const std::vector<TokenLogprobs>& logprobs) {
  OrderedJson list = OrderedJson::array();
  for (const TokenLogprobs& of : logprobs) {
    OrderedJson entry = ToJson(of.chosen), top = OrderedJson::array();
    for (const TokenLogprob& likely : of.top) top.push_back(ToJson(likely));
    entry["top"] = top;
    list.push_back(entry);
  }
  return list;
}

OrderedJson ChoiceJson(const WrittenText& written, bool logprobs) {
  OrderedJson json = {{"text", written.text},
                      {"tokens", written.tokens},
                      {"stop_reason", NameOf(written.stop_reason)},
                      {"mean_logprob", written.mean_logprob},
                      {"candidate", written.candidate},
                      {"seed", written.seed}};
  if (logprobs) json["logprobs"] = ToJson(written.logprobs);
  return json;
}

std::string EndOf(StopReason reason) {
  switch (reason) {
    case StopReason::kStopToken:
      return "; end of text";
    case StopReason::kStopText:
      return "; stop text";
    case StopReason::kStopped:
      return "; stopped by " + SignalName(StopSignal());
    default:
      return "";
  }
}

}  // namespace

OrderedJson ToJson(const Outcome& outcome, bool logprobs) {
  const GenerationStats& stats = outcome.stats;
  const WrittenText best = outcome.texts.empty() ? WrittenText() : outcome.texts[0];
  OrderedJson json = {{"text", best.text},
                      {"tokens", best.tokens},
                      {"restored_tokens", outcome.restored},
                      {"prompt_tokens", stats.prompt_tokens},
                      {"generated_tokens", stats.generated_tokens},
                      {"position", outcome.position},
                      {"stop_reason", NameOf(stats.stop_reason)},
                      {"prompt_tokens_per_second", stats.prompt_tokens_per_second()},
                      {"tokens_per_second", stats.generated_tokens_per_second()},
                      {"dtype", outcome.dtype},
                      {"selected_share", stats.selected_share},
                      {"peak_rss_bytes", PeakResidentBytes()}};
  json["seed"] = outcome.seed ? OrderedJson(*outcome.seed) : OrderedJson(nullptr);
  if (logprobs) json["logprobs"] = ToJson(best.logprobs);
  if (outcome.drafts) {
    json["draft"] = {
        {"drafted", stats.draft.drafted}, {"accepted", stats.draft.accepted}, {"share", stats.draft.share()}};
  }
  if (outcome.best_of == 1) return json;
  json["best_of"] = outcome.best_of;
  json["choices"] = OrderedJson::array();
  for (const WrittenText& written : outcome.texts) json["choices"].push_back(ChoiceJson(written, logprobs));
  return json;
}

std::string ReportLine(const Outcome& outcome) {
  const GenerationStats& stats = outcome.stats;
  std::string line;
  if (outcome.restored > 0) line = fmt::format("restored {} tokens; ", FormatExact(outcome.restored));
  line += fmt::format("prompt {} tokens, {:.1f} tokens/s; generated {} tokens, {:.1f} tokens/s",
                      FormatExact(stats.prompt_tokens), stats.prompt_tokens_per_second(),
                      FormatExact(stats.generated_tokens), stats.generated_tokens_per_second());
  line += "; " + outcome.dtype;
  if (outcome.drafts) {
    line += fmt::format("; drafts: {} of {} tokens accepted ({:.1f} %)", FormatExact(stats.draft.accepted),
                        FormatExact(stats.draft.drafted), 100 * stats.draft.share());
  }
  if (!stats.selected_share.empty()) line += "; selected share " + FormatShares(stats.selected_share);
  if (outcome.best_of == 1) return line + EndOf(stats.stop_reason);
  line += fmt::format("; best of {}: ", outcome.best_of);
  if (outcome.texts.empty()) return line + "none" + EndOf(stats.stop_reason);
  const WrittenText& best = outcome.texts[0];
  line += fmt::format("seed {}, {:.3f} nats a token", best.seed, -best.mean_logprob);
  return line + EndOf(best.stop_reason);
}

}  // namespace taipan
