// Recall from documents: the model writes on, and what it writes has to contain the value that stands in the text.

#include "base/error.h"
#include "eval/readers.h"
#include "eval/records.h"
#include "text/unicode/python_text.h"

namespace taipan {

EvalItem CompletionItem(const std::string& where, const std::string& prompt, std::vector<std::string> answers) {
  EvalItem item;
  item.where = where;
  item.prompt = prompt;
  item.answers = std::move(answers);
  return item;
}

// A text that ends with the name of what is asked for; where it does not, "NAME:" comes on a line of its own.
EvalItems ReadDocuments(const std::string& file, const std::string&) {
  EvalItems items;
  for (const Record& record : ReadRecords(file)) {
    std::string prompt(PythonStrip(record.Text("text")));
    const std::string key = record.Has("key") ? std::string(PythonStrip(record.Text("key"))) : "";
    if (!key.empty() && !prompt.ends_with(key) && !prompt.ends_with(key + ":")) prompt += "\n" + key + ":";
    std::vector<std::string> answers =
        record.Has("all_values") ? record.Texts("all_values") : std::vector<std::string>{record.Text("value")};
    for (std::string& answer : answers) {
      answer = PythonStrip(answer);
      if (answer.empty()) record.RefuseNoAnswer("an empty text");
    }
    items.push_back(CompletionItem(record.where(), prompt, std::move(answers)));
  }
  return items;
}

EvalItems ReadSquad(const std::string& file, const std::string& labels) {
  if (file.ends_with(".jsonl")) return ReadDocuments(file, labels);
  EvalItems items;
  const Record all(ParseJson(ReadTextFile(file), file), file);
  for (const Record& article : all.Objects("data")) {
    for (const Record& paragraph : article.Objects("paragraphs")) {
      const std::string before =
          "Title: " + article.Text("title") + "\n\nBackground: " + paragraph.Text("context") + "\n\nQuestion: ";
      for (const Record& question : paragraph.Objects("qas")) {
        if (question.Has("is_impossible") && question.Flag("is_impossible")) continue;
        const std::string where = fmt::format("{}: question {}", file, question.Text("id"));
        std::vector<std::string> answers;
        for (const Record& answer : question.Objects("answers")) answers.push_back(answer.Text("text"));
        if (answers.empty()) Record(Json::object(), where).RefuseNoAnswer("no \"answers\"");
        items.push_back(CompletionItem(where, before + question.Text("question") + "\n\nAnswer:", std::move(answers)));
      }
    }
  }
  if (items.empty()) throw UserError({file, "no questions", "questions with answers", "none"});
  return items;
}

}  // namespace taipan
