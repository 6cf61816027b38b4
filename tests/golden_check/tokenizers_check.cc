// tokenizers/samples.jsonl: the ids of texts under public tokenizers, and what decoding them gives. The vocabularies
// are no part of the folder: TAIPAN_TOKENIZERS names one that has them.

#include <fmt/format.h>

#include <cstdlib>
#include <map>

#include "base/files.h"
#include "golden_check/golden.h"
#include "text/tokenizer.h"

namespace taipan::golden {
namespace {

const std::map<std::string, std::string> kFiles = {
    {"gpt-neox", "gpt-neox-20b/tokenizer.json"},   {"gpt2", "gpt2/vocab.json"},
    {"mistral-v1", "mistral/tokenizer.model.v1"},  {"mistral-v3", "mistral/tokenizer.model.v3"},
    {"llama3-tiktoken", "llama3/tokenizer.model"}, {"llama3.1", "llama3/tokenizer.json"}};

}  // namespace

std::string TokenizerFile(const std::string& name) {
  const char* folder = std::getenv("TAIPAN_TOKENIZERS");
  const auto file = kFiles.find(name);
  if (folder == nullptr || *folder == '\0' || file == kFiles.end()) return "";
  const std::string path = fmt::format("{}/{}", folder, file->second);
  return PathExists(path) ? path : "";
}

void CheckTokenizer(const std::string& name) {
  const auto tokenizer = LoadTokenizer(TokenizerFile(name));
  ASSERT_NE(tokenizer, nullptr);
  for (const nlohmann::json& sample : ReadJsonLines("tokenizers/samples.jsonl")) {
    if (!sample.at("ids").contains(name)) continue;
    const auto text = sample.at("text").get<std::string>();
    const auto expected = sample.at("ids").at(name).get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer->Encode(text), expected) << text;
    const auto decoded = sample.value("decoded", nlohmann::json::object());
    EXPECT_EQ(tokenizer->Decode(expected), decoded.value(name, text)) << text;
  }
}

}  // namespace taipan::golden
