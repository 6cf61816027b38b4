#pragma once
// Readers of published data sets: each renders the items as lm-evaluation-harness (0.4) does.

#include <string>
#include <string_view>
#include <vector>

#include "eval/task.h"

namespace taipan {

using EvalItems = std::vector<EvalItem>;

// An item whose options share the context; each choice stands behind a space.
EvalItem ChoiceItem(const std::string& where, const std::string& context, const std::vector<std::string>& choices,
                    size_t right);
EvalItem CompletionItem(const std::string& where, const std::string& prompt, std::vector<std::string> answers);

EvalItems ReadArc(const std::string& file, const std::string& labels);
EvalItems ReadOpenBookQa(const std::string& file, const std::string& labels);
EvalItems ReadPiqa(const std::string& file, const std::string& labels);
EvalItems ReadHellaSwag(const std::string& file, const std::string& labels);
EvalItems ReadWinoGrande(const std::string& file, const std::string& labels);
EvalItems ReadBoolQ(const std::string& file, const std::string& labels);
EvalItems ReadRace(const std::string& file_or_folder, const std::string& labels);
EvalItems ReadTruthfulQa1(const std::string& file, const std::string& labels);
EvalItems ReadTruthfulQa2(const std::string& file, const std::string& labels);
EvalItems ReadLambada(const std::string& file, const std::string& labels);
EvalItems ReadDocuments(const std::string& file, const std::string& labels);  // SWDE, FDA
EvalItems ReadSquad(const std::string& file, const std::string& labels);
EvalItems ReadOwnQuestions(const std::string& file, const std::string& labels);

// HellaSwag's texts without what WikiHow's pages left in them.
std::string CleanHellaSwag(std::string_view text);

}  // namespace taipan
