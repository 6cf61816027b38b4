// A user's own questions: one JSON object a line.

#include <algorithm>

#include "base/error.h"
#include "eval/readers.h"
#include "eval/records.h"

namespace taipan {
namespace {

// An index from 0, or the text of a choice.
size_t RightChoice(const Record& record, const Json& answer, const std::vector<std::string>& choices) {
  if (answer.is_number_unsigned() && answer.get<uint64_t>() < choices.size()) return answer.get<size_t>();
  if (answer.is_string()) {
    const auto found = std::find(choices.begin(), choices.end(), answer.get<std::string>());
    if (found != choices.end()) return static_cast<size_t>(found - choices.begin());
  }
  record.Refuse(
      "no right answer",
      fmt::format("\"answer\": an index from 0 to {}, the text of a choice, or a list of them", choices.size() - 1),
      DescribeJson(answer));
}

}  // namespace

// "question" is asked as ARC's are; "context" stands there as it is.
EvalItems ReadOwnQuestions(const std::string& file, const std::string&) {
  EvalItems items;
  for (const Record& record : ReadRecords(file)) {
    const std::vector<std::string> choices = record.Texts("choices");
    if (choices.size() < 2) record.Refuse("a single choice", "two choices or more", "one");
    const std::string context =
        record.Has("context") ? record.Text("context") : "Question: " + record.Text("question") + "\nAnswer:";
    EvalItem item = ChoiceItem(record.where(), context, choices, 0);
    item.right.assign(choices.size(), false);
    const Json& answer = record.Value("answer");
    const Json all = answer.is_array() ? answer : Json::array({answer});
    if (all.empty()) RightChoice(record, answer, choices);
    for (const Json& one : all) item.right[RightChoice(record, one, choices)] = true;
    items.push_back(std::move(item));
  }
  return items;
}

}  // namespace taipan
