#include "cli/tokenizer_files.h"

#include "base/error.h"
#include "base/files.h"
#include "cli/output.h"
#include "infer/gguf_text.h"
#include "text/gguf/gguf_vocabulary_files.h"
#include "text/tokenizer_config.h"

namespace taipan {
namespace {

// What f gives, nothing where the tokenizer's files are damaged or say what the other format cannot: the weights are
// of use without it.
template <class F>
auto OrWithoutTokenizer(const F& f) -> decltype(f()) {
  try {
    return f();
  } catch (const UserError& error) {
    Note(fmt::format("the tokenizer stays behind: {}", error.what()));
    return {};
  }
}

}  // namespace

GgufMetadata TokenizerMetadata(const Checkpoint& in) {
  if (in.gguf) {
    GgufMetadata tokenizer;
    for (const auto& [key, value] : in.gguf->metadata()) {
      if (key.starts_with("tokenizer.")) tokenizer[key] = value;
    }
    return tokenizer;
  }
  if (!HasTokenizer(in.path)) return {};
  return OrWithoutTokenizer([&] {
    FolderVocabulary read = ReadFolderVocabulary(in.path, in.config.vocab_size);
    if (in.config.eos_token_id) read.vocabulary.AddStop(static_cast<int32_t>(*in.config.eos_token_id));
    if (!read.remark.empty()) Note(fmt::format("{}: {}", in.path, read.remark));
    return VocabularyMetadata(read.vocabulary);
  });
}

size_t WriteTokenizer(const Checkpoint& in, const std::string& folder) {
  std::vector<std::pair<std::string, std::string>> files;
  if (!in.gguf) {
    files = ReadTokenizerFiles(in.path);
  } else if (HasVocabulary(*in.gguf)) {
    files = OrWithoutTokenizer([&] { return TokenizerFiles(ReadGgufVocabulary(*in.gguf), in.path); });
  }
  for (const auto& [name, content] : files) WriteFileAtomically(folder + "/" + name, content);
  return files.size();
}

}  // namespace taipan
