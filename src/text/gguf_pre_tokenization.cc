#include "text/gguf_pre_tokenization.h"

#include <algorithm>

#include "base/error.h"
#include "text/word_pattern.h"

namespace taipan {
namespace {

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace

const std::vector<PreTokenization>& KnownPreTokenizations() {
  static const std::vector<PreTokenization> kKnown = {
      {{"gpt-2", "phi-2", "mpt", "olmo", "jais", "mellum", "modern-bert"}, {kGpt2Pattern}},
      {{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}, {R"(\p{N})", kGpt2Pattern}},
      {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"}, {kLlama3}, true, true},
      {{"dbrx", "smaug-bpe", "chatglm-bpe"}, {kLlama3}},
      {{"glm4"}, {kLlama3}, true},
      {{"qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"}, {kQwen2}},
      {{"tekken"}, {kTekken}, true, true},
      {{"falcon"}, {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2Pattern, "[0-9][0-9][0-9]"}},
      {{"default"}, {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Pattern, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
  };
  return kKnown;
}

const PreTokenization& FindPreTokenization(const std::string& name, const std::string& where) {
  std::vector<std::string> names;
  for (const PreTokenization& known : KnownPreTokenizations()) {
    for (const char* one : known.names) {
      if (name == one) return known;
      names.emplace_back(one);
    }
  }
  std::sort(names.begin(), names.end());
  throw UserError({where, "tokenizer.ggml.pre names a word pattern that is not supported",
                   fmt::format("{}", fmt::join(names, ", ")), name.empty() ? "none" : name.substr(0, 64), ""});
}

}  // namespace taipan
