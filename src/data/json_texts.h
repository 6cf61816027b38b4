#pragma once
// The objects of JSON files, one after the other.

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "data/file_kind.h"

namespace taipan {

// where: of the object, for errors.
using ObjectUse = std::function<void(nlohmann::json object, const std::string& where)>;

// kind: kJsonLines, an object a line, blank lines are skipped; kJsonList, a list of them. UserError naming the path and
// the line for what is no JSON.
void ForEachObject(std::string_view all, DataKind kind, const std::string& path, const ObjectUse& use);
nlohmann::json ParseObject(std::string_view object, const std::string& where);
// The elements of a list, each as JSON.
std::vector<std::string> ElementsOf(std::string_view list, const std::string& path);
std::string WhereOfElement(const std::string& path, int64_t number);

// Its string "text"; UserError where it has none.
const std::string& TextOf(const nlohmann::json& object, const std::string& where);

}  // namespace taipan
