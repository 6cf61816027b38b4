#include "text/tokenizer_json_write.h"

namespace taipan {

using OrderedJson = nlohmann::ordered_json;

OrderedJson AddedTokenJson(const AddedToken& token) {
  return {{"id", token.id},          {"content", token.content}, {"single_word", token.single_word},
          {"lstrip", token.lstrip},  {"rstrip", token.rstrip},   {"normalized", token.normalized},
          {"special", token.special}};
}

OrderedJson ByteLevelEntry(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

std::string WriteTokenizerJson(ByteLevelBpeFile file) {
  OrderedJson added = OrderedJson::array(), vocab = OrderedJson::object(), merges = OrderedJson::array();
  for (const AddedToken& token : file.added) added.push_back(AddedTokenJson(token));
  // ordered_json looks for equal keys at every insertion by name; there are none here.
  auto& entries = vocab.get_ref<OrderedJson::object_t&>();
  entries.reserve(file.vocab.size());
  for (auto& [text, id] : file.vocab) entries.Container::emplace_back(std::move(text), id);
  for (std::string& merge : file.merges) merges.push_back(std::move(merge));
  const OrderedJson json = {{"version", "1.0"},
                            {"truncation", nullptr},
                            {"padding", nullptr},
                            {"added_tokens", std::move(added)},
                            {"normalizer", nullptr},
                            {"pre_tokenizer", std::move(file.pre_tokenizer)},
                            {"post_processor", std::move(file.post_processor)},
                            {"decoder", ByteLevelEntry(true)},
                            {"model",
                             {{"type", "BPE"},
                              {"dropout", nullptr},
                              {"unk_token", nullptr},
                              {"continuing_subword_prefix", nullptr},
                              {"end_of_word_suffix", nullptr},
                              {"fuse_unk", false},
                              {"byte_fallback", false},
                              {"ignore_merges", file.ignore_merges},
                              {"vocab", std::move(vocab)},
                              {"merges", std::move(merges)}}}};
  return json.dump(1) + "\n";
}

}  // namespace taipan
