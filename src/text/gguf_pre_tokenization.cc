#include "text/gguf_pre_tokenization.h"

#include <algorithm>

#include "base/error.h"
#include "text/bpe_tokenizer.h"
#include "text/one_line.h"
#include "text/word_pattern.h"

namespace taipan {
namespace {

constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
// Mistral's: a capital opens a word inside of another.
constexpr const char* kTekken = R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
                                R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
                                R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace

const std::vector<PreTokenization>& KnownPreTokenizations() {
  static const std::vector<PreTokenization> kKnown = {
      {{"gpt-2", "phi-2", "mpt", "olmo", "jais", "mellum", "modern-bert"}, {kGpt2Pattern}},
      {{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}, {R"(\p{N})", kGpt2Pattern}},
      {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"}, {kLlama3Pattern}, true, true},
      {{"dbrx", "smaug-bpe", "chatglm-bpe"}, {kLlama3Pattern}},
      {{"glm4"}, {kLlama3Pattern}, true},
      {{"qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"}, {kQwen2}},
      {{"tekken"}, {kTekken}, true, true},
      {{"falcon"}, {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2Pattern, "[0-9][0-9][0-9]"}},
      {{"default"}, {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Pattern, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
  };
  return kKnown;
}

const PreTokenization& FindPreTokenization(const std::string& given, const std::string& where) {
  const std::string name = given.empty() ? "default" : given;
  std::vector<std::string> names;
  for (const PreTokenization& known : KnownPreTokenizations()) {
    for (const char* one : known.names) {
      if (name == one) return known;
      names.emplace_back(one);
    }
  }
  std::sort(names.begin(), names.end());
  throw UserError({where, "tokenizer.ggml.pre names a word pattern that is not supported",
                   fmt::format("{}", fmt::join(names, ", ")), OneLine(name), ""});
}

}  // namespace taipan
