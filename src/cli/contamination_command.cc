// taipan contamination: what of evaluation data stands in training data.

#include <algorithm>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "data/contamination.h"

namespace taipan {
namespace {

struct ContaminationFlags {
  std::vector<std::string> data, eval;
  int64_t ngram = 13, show = 20;
  bool json = false;
};

OrderedJson ToJson(const ContaminationReport& report, const std::vector<EvaluationDocument>& found) {
  OrderedJson list = OrderedJson::array();
  for (const EvaluationDocument& d : found) {
    list.push_back({{"document", d.name}, {"ngrams", d.ngrams}, {"found", d.found}, {"share", d.share()}});
  }
  return {{"ngram", report.ngram},
          {"training_documents", report.training_documents},
          {"evaluation_documents", report.documents.size()},
          {"short_documents", report.short_documents},
          {"contaminated", list}};
}

void RunContamination(const ContaminationFlags& flags) {
  ProgressLine progress;
  const ContaminationReport report =
      FindContamination(flags.data, flags.eval, flags.ngram, [&](int64_t read, int64_t all) {
        progress.Update(all > 0 ? fmt::format("{} of {} read", FormatBytes(read), FormatBytes(all))
                                : fmt::format("{} read", FormatBytes(read)));
      });
  progress.Finish();
  std::vector<EvaluationDocument> found;
  for (const EvaluationDocument& d : report.documents) {
    if (d.found > 0) found.push_back(d);
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const EvaluationDocument& a, const EvaluationDocument& b) { return a.share() > b.share(); });
  Note(fmt::format("{} of {} evaluation documents share {} words in a row with {} training documents", found.size(),
                   report.documents.size(), flags.ngram, FormatExact(report.training_documents)));
  if (report.short_documents > 0) {
    Note(fmt::format("{} have fewer words and are looked for as a whole", report.short_documents));
  }
  if (flags.json) return PrintJson(ToJson(report, found));
  if (found.empty()) return;
  std::vector<std::vector<std::string>> rows;
  for (const EvaluationDocument& d : found) {
    if (static_cast<int64_t>(rows.size()) == flags.show) break;
    rows.push_back({d.name, FormatExact(d.ngrams), FormatExact(d.found), fmt::format("{:.3f}", d.share())});
  }
  Print(FormatTable({{"document", true}, {"n-grams"}, {"in training"}, {"share"}}, rows));
  if (found.size() > rows.size()) Note(fmt::format("and {} more (--show, --json)", found.size() - rows.size()));
}

}  // namespace

void AddContaminationCommand(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("contamination", "Find evaluation documents whose words stand in training data, too");
  auto flags = std::make_shared<ContaminationFlags>();
  TakeTextsAsTheyAre(*command
                          ->add_option("--data", flags->data,
                                       "Training data: text, JSONL, gzip or Zstandard of these, folders of them")
                          ->type_name("PATH ...")
                          ->required());
  TakeTextsAsTheyAre(
      *command
           ->add_option("--eval", flags->eval,
                        "Evaluation data of the same kinds; of objects without \"text\" every string counts")
           ->type_name("PATH ...")
           ->required());
  command->add_option("--ngram", flags->ngram, "Words in a row that must be the same")
      ->check(WholeNumber(1, 1000))
      ->capture_default_str();
  command->add_option("--show", flags->show, "Most lines of the table")
      ->check(WholeNumber(0, int64_t{1} << 40))
      ->capture_default_str();
  AddJsonFlag(*command, flags->json);
  AddThreadsFlag(*command);
  command->callback([flags] { RunContamination(*flags); });
}

}  // namespace taipan
