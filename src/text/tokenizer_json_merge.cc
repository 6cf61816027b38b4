// MergeIntoTokenizerJson: what stands beside a tokenizer.json as a part of it.

#include "text/json_part.h"
#include "text/tokenizer_json.h"
#include "text/tokenizer_json_write.h"

namespace taipan {
namespace {

void MergeTokens(const TokenizerConfig& config, const std::string& where, Json& json) {
  const Json& vocab = json["model"]["vocab"];
  FileTokens file;
  const JsonPart root(json, where);
  for (size_t i = 0; root.Has("added_tokens") && i < root.Member("added_tokens").ListSize(); ++i) {
    file.added.push_back(ReadAddedToken(root.Member("added_tokens").Item(i)));
  }
  file.find = [&](const std::string& content) -> std::optional<int32_t> {
    const auto it = vocab.find(content);
    return it != vocab.end() && it->is_number_integer() ? std::optional(it->get<int32_t>()) : std::nullopt;
  };
  file.size = static_cast<int64_t>(vocab.size());
  std::vector<bool> taken;  // by the model, whose merges know its tokens by their spelling
  file.keeps = [&](int32_t id) {
    for (auto it = vocab.begin(); taken.empty() && it != vocab.end(); ++it) {
      if (!it->is_number_integer() || *it < 0 || *it > 2 * file.size) continue;
      const auto at = it->get<size_t>();
      if (at >= taken.size()) taken.resize(at + 1);
      taken[at] = true;
    }
    return static_cast<size_t>(id) < taken.size() && taken[static_cast<size_t>(id)];
  };
  const std::vector<AddedToken> merged = MergeAddedTokens(config, file);
  if (merged == file.added) return;
  Json list = Json::array();
  for (const AddedToken& token : merged) list.push_back(Json(AddedTokenJson(token)));
  json["added_tokens"] = std::move(list);
}

// Classes of one model build their pre-tokenizer anew; the general one takes it as the file has it.
bool ActsOnPrefixSpace(const std::string& tokenizer_class) {
  return !tokenizer_class.empty() && !tokenizer_class.starts_with("PreTrainedTokenizer") &&
         tokenizer_class != "TokenizersBackend";
}

void SetPrefixSpace(bool wanted, Json& step) {
  if (!step.is_object()) return;
  const auto type = step.find("type");
  if (type == step.end()) return;
  if (*type == "ByteLevel") step["add_prefix_space"] = wanted;
  if (*type == "Metaspace" && !wanted) step["prepend_scheme"] = "never";
  if (*type == "Metaspace" && wanted && step.value("prepend_scheme", Json()) == "never")
    step["prepend_scheme"] = "first";
  const auto steps = step.find("pretokenizers");
  if (steps == step.end() || !steps->is_array()) return;
  for (Json& inner : *steps) SetPrefixSpace(wanted, inner);
}

}  // namespace

void MergeIntoTokenizerJson(const TokenizerConfig& config, const std::string& where, Json& json) {
  const auto model = json.is_object() ? json.find("model") : json.end();
  if (model == json.end() || !model->is_object()) return;
  const auto vocab = model->find("vocab");
  if (vocab == model->end() || !vocab->is_object()) return;
  const auto added = json.find("added_tokens");
  if (added != json.end() && !added->is_null() && !added->is_array()) return;
  MergeTokens(config, where, json);
  if (config.add_prefix_space && ActsOnPrefixSpace(config.tokenizer_class) && json.contains("pre_tokenizer")) {
    SetPrefixSpace(*config.add_prefix_space, json["pre_tokenizer"]);
  }
}

}  // namespace taipan
