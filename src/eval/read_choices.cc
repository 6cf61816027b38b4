// Tasks whose items are a short context and a few endings.

#include <algorithm>

#include "base/error.h"
#include "base/files.h"
#include "eval/readers.h"
#include "eval/records.h"
#include "text/unicode/python_text.h"

namespace taipan {
namespace {

struct Labelled {
  std::vector<std::string> texts;
  size_t right = 0;
};

// [{"text", "label"}, ...] and the label of the right one.
Labelled LabelledChoices(const Record& record, const Record& question) {
  const std::string key(PythonStrip(record.Text("answerKey")));
  Labelled result;
  bool found = false;
  for (const Record& choice : question.Objects("choices")) {
    if (!found && choice.Text("label") == key) {
      found = true;
      result.right = result.texts.size();
    }
    result.texts.push_back(choice.Text("text"));
  }
  if (!found) record.RefuseNoAnswer(fmt::format("\"answerKey\": \"{}\"", key));
  return result;
}

std::string AsQuestion(const std::string& question) { return "Question: " + question + "\nAnswer:"; }

}  // namespace

EvalItem ChoiceItem(const std::string& where, const std::string& context, const std::vector<std::string>& choices,
                    size_t right) {
  EvalItem item;
  item.where = where;
  for (const std::string& choice : choices) {
    item.options.push_back({.context = context, .continuation = " " + choice, .text = choice});
  }
  item.right.assign(choices.size(), false);
  item.right.at(right) = true;
  return item;
}

EvalItems ReadArc(const std::string& file, const std::string&) {
  EvalItems items;
  for (const Record& record : ReadRecords(file)) {
    const Record question = record.Object("question");
    const Labelled choices = LabelledChoices(record, question);
    items.push_back(ChoiceItem(record.where(), AsQuestion(question.Text("stem")), choices.texts, choices.right));
  }
  return items;
}

EvalItems ReadOpenBookQa(const std::string& file, const std::string&) {
  EvalItems items;
  for (const Record& record : ReadRecords(file)) {
    const Record question = record.Object("question");
    const Labelled choices = LabelledChoices(record, question);
    items.push_back(ChoiceItem(record.where(), question.Text("stem"), choices.texts, choices.right));
  }
  return items;
}

EvalItems ReadPiqa(const std::string& file, const std::string& labels_file) {
  const std::vector<Record> records = ReadRecords(file);
  const std::vector<std::string> labels = ReadLabels(labels_file);
  CheckLabelCount(labels, labels_file, records.size(), file);
  EvalItems items;
  for (size_t i = 0; i < records.size(); ++i) {
    if (labels[i] != "0" && labels[i] != "1") {
      throw UserError({fmt::format("{}: label {}", labels_file, i + 1), "no right answer", "0 or 1", labels[i]});
    }
    const std::vector<std::string> choices = {records[i].Text("sol1"), records[i].Text("sol2")};
    items.push_back(
        ChoiceItem(records[i].where(), AsQuestion(records[i].Text("goal")), choices, labels[i] == "1" ? 1 : 0));
  }
  return items;
}

std::string CleanHellaSwag(std::string_view raw) {
  std::string text = ReplaceAll(PythonStrip(raw), " [title]", ". ");
  // Brackets go with what stands in them, within a line.
  for (size_t begin = text.find('['); begin != text.npos; begin = text.find('[', begin)) {
    const size_t end = text.find_first_of("]\n", begin);
    if (end != text.npos && text[end] == ']') {
      text.erase(begin, end - begin + 1);
    } else {
      ++begin;
    }
  }
  return ReplaceAll(text, "  ", " ");
}

EvalItems ReadHellaSwag(const std::string& file, const std::string&) {
  EvalItems items;
  for (const Record& record : ReadRecords(file)) {
    std::vector<std::string> endings = record.Texts("endings");
    std::string query;
    if (record.Has("query")) {  // cleaned already
      query = record.Text("query");
    } else {
      query = CleanHellaSwag(record.Text("activity_label") + ": " + record.Text("ctx_a") + " " +
                             PythonCapitalize(record.Text("ctx_b")));
      for (std::string& ending : endings) ending = CleanHellaSwag(ending);
    }
    items.push_back(ChoiceItem(record.where(), query, endings, record.Index("label", endings.size())));
  }
  return items;
}

// Partial evaluation: the sentence up to the blank with each name in its place, and what follows the blank is scored.
EvalItems ReadWinoGrande(const std::string& file, const std::string& labels_file) {
  const std::vector<Record> records = ReadRecords(file);
  std::vector<std::string> labels;
  if (PathExists(labels_file)) {
    labels = ReadLabels(labels_file);
    CheckLabelCount(labels, labels_file, records.size(), file);
  }
  EvalItems items;
  for (size_t i = 0; i < records.size(); ++i) {
    const Record& record = records[i];
    const std::string sentence = record.Text("sentence");
    const size_t blank = sentence.find('_');
    if (blank == sentence.npos) record.Refuse("the sentence has no blank", "an _ for the name", sentence);
    const std::string rest = " " + std::string(PythonStrip(std::string_view(sentence).substr(blank + 1)));
    const std::string key = record.Has("answer") ? record.Text("answer") : labels.empty() ? "" : labels[i];
    if (key != "1" && key != "2") record.RefuseNoAnswer(fmt::format("\"answer\": \"{}\"", key));
    if (!labels.empty() && labels[i] != key) {
      throw UserError({fmt::format("{}: label {}", labels_file, i + 1),
                       "not the answer that " + record.where() + " has", key, labels[i],
                       "do the files belong together?"});
    }
    EvalItem item;
    item.where = record.where();
    for (const char* name : {"option1", "option2"}) {
      const std::string context = sentence.substr(0, blank) + record.Text(name);
      item.options.push_back({.context = context, .continuation = rest, .text = context});
    }
    item.right = {key == "1", key == "2"};
    items.push_back(std::move(item));
  }
  return items;
}

}  // namespace taipan
