#include "train/run_text.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"
#include "base/logging.h"
#include "data/shard_folder.h"
#include "text/end_of_document.h"
#include "text/token_names.h"
#include "text/tokenizer_config.h"
#include "train/task_source.h"

namespace taipan {
namespace {

// Where the files have one; one that cannot be read is an error only where messages need it.
std::shared_ptr<const ChatTemplate> ChatOf(const std::string& folder, const Tokenizer* tokenizer) {
  if (tokenizer == nullptr) return nullptr;
  const TokenizerConfig config = LoadTokenizerConfig(folder);
  if (config.chat_template.empty()) return nullptr;
  try {
    return std::make_shared<ChatTemplate>(config.chat_template, config.chat_template_file,
                                          NamesOfTokens(config, *tokenizer));
  } catch (const UserError& error) {
    LogInfo("{}", error.what());
    return nullptr;
  }
}

RunTokenizer FromFile(const std::string& path) {
  RunTokenizer t;
  t.tokenizer = LoadTokenizer(path);
  t.source = path;
  if (dynamic_cast<const ByteTokenizer*>(t.tokenizer.get())) {
    t.files.emplace_back("tokenizer.json", ByteTokenizerJson());
    return t;
  }
  // Under the name by which a model folder's tokenizer is found, whatever the file was called; with what stands beside
  // it and was read too.
  const std::string parent = std::filesystem::path(path).parent_path().string();
  const std::string folder = parent.empty() ? "." : parent;
  const std::string content = ReadFile(path);
  const bool json = content.find_first_not_of(" \t\r\n") == content.find('{');
  const bool merges = json && !ParseJson(content, path).contains("model") && PathExists(folder + "/merges.txt");
  t.files.emplace_back(merges ? "vocab.json" : json ? "tokenizer.json" : "tokenizer.model", content);
  if (merges) t.files.emplace_back("merges.txt", ReadFile(folder + "/merges.txt"));
  for (auto& file : ReadTokenizerConfigFiles(folder)) t.files.push_back(std::move(file));
  t.chat = ChatOf(folder, t.tokenizer.get());
  return t;
}

RunTokenizer FromFolder(const std::string& directory, bool needed) {
  RunTokenizer t;
  t.source = directory;
  try {
    t.tokenizer = LoadTokenizer(directory);
  } catch (const UserError&) {
    if (needed) throw;  // token files train without it
  }
  t.files = ReadTokenizerFiles(directory);
  t.chat = ChatOf(directory, t.tokenizer.get());
  return t;
}

struct Stamps {
  std::vector<std::string> names, hashes;
  std::vector<double> bytes;  // whole numbers below 2^53
};
void VisitFields(Stamps& s, const FieldVisitor& visit) {
  visit({.name = "names", .required = true}, &s.names);
  visit({.name = "bytes", .required = true}, &s.bytes);
  visit({.name = "hashes", .required = true}, &s.hashes);
}

}  // namespace

void RunTokenizer::WriteFiles(const std::string& directory) const {
  for (const auto& [name, content] : files) WriteFileAtomically(directory + "/" + name, content);
}

std::vector<WeightedPath> DataOf(const TrainSettings& settings) {
  return ReadWeights(settings.data, [](const std::string& name) { return PathExists(name) || IsTask(name); });
}

std::vector<std::string> FilesOf(const TrainSettings& settings) {
  std::vector<std::string> files;
  for (WeightedPath& data : DataOf(settings)) {
    if (!IsTask(data.path)) files.push_back(std::move(data.path));
  }
  return files;
}

RunTokenizer LoadRunTokenizer(const std::string& path) {
  if (!IsDirectory(path)) return FromFile(path);
  RunTokenizer t = FromFolder(path, /*needed=*/true);
  if (t.tokenizer == nullptr) {
    throw UserError({path, "no tokenizer in this folder", "a tokenizer among its files", "none"});
  }
  return t;
}

RunTokenizer ChooseTokenizer(const TrainSettings& settings, const std::string& weights_directory) {
  const std::vector<WeightedPath> data = DataOf(settings);
  const bool text = HoldsText(FilesOf(settings), DataUse::kTraining) ||
                    HoldsText(settings.valid_data, DataUse::kValidation) ||
                    std::any_of(data.begin(), data.end(),
                                [](const WeightedPath& d) { return IsTask(d.path) && TaskNeedsTokenizer(d.path); });
  if (!settings.tokenizer.empty()) return LoadRunTokenizer(settings.tokenizer);
  if (!weights_directory.empty() && HasTokenizer(weights_directory)) return FromFolder(weights_directory, text);
  for (const std::string& path : FilesOf(settings)) {
    const std::string folder = path + "/tokenizer";
    if (IsShardFolder(path) && HasTokenizer(folder)) return FromFolder(folder, /*needed=*/true);
  }
  if (text) return FromFile("byte");
  RunTokenizer none;
  none.source = "none";
  return none;
}

std::optional<int32_t> ChooseEos(const std::string& eos, const Tokenizer* tokenizer, std::optional<int64_t> of_model,
                                 int64_t vocab_size) {
  if (eos == "none") return std::nullopt;
  const int64_t size = tokenizer ? tokenizer->vocab_size() : vocab_size;
  if (eos.empty() || eos == "auto") {
    if (!tokenizer || dynamic_cast<const ByteTokenizer*>(tokenizer)) return std::nullopt;
    if (!tokenizer->eos() && of_model && *of_model < size) return static_cast<int32_t>(*of_model);
    const std::optional<int32_t> own = EndOfDocument(*tokenizer);
    if (!own) LogInfo("the tokenizer has no end-of-text token: texts follow each other without one (--eos names one)");
    return own;
  }
  int64_t id = 0;
  const bool number = ParseId(eos, id);
  if (!number && tokenizer) {
    if (const std::optional<int32_t> named = tokenizer->TokenId(eos)) return named;
  }
  if (number && id < size) return static_cast<int32_t>(id);
  throw UserError({"--eos", "no token of the vocabulary", fmt::format("auto, none, an id below {} or a token", size),
                   "\"" + eos + "\""});
}

std::string NameOfEos(std::optional<int32_t> eos, const Tokenizer* tokenizer) {
  if (!eos) return "none";
  const bool named = tokenizer && tokenizer->IsAdded(*eos);
  return named ? std::string(tokenizer->TokenBytes(*eos)) : fmt::format("{}", *eos);
}

void CheckSameEos(const std::string& saved, const std::string& now, const std::string& where) {
  if (saved == now) return;
  throw UserError({where, "the run was begun with another \"eos\"", saved, now, "resume with --eos " + saved});
}

void CheckVocabulary(const RunTokenizer& t, int64_t vocab_size, const std::string& model) {
  if (!t.tokenizer || t.tokenizer->vocab_size() <= vocab_size) return;
  throw UserError({model, fmt::format("the tokenizer {} gives ids that the model does not have", t.source),
                   fmt::format("a vocabulary of at least {}", t.tokenizer->vocab_size()), std::to_string(vocab_size)});
}

void SaveStamps(const std::vector<FileStamp>& stamps, const std::string& path) {
  Stamps s;
  for (const FileStamp& stamp : stamps) {
    s.names.push_back(stamp.name);
    s.bytes.push_back(static_cast<double>(stamp.bytes));
    s.hashes.push_back(fmt::format("{:016x}", stamp.hash));
  }
  WriteFileAtomically(path, WriteFields(s));
}

void CheckStamps(const std::vector<FileStamp>& stamps, const std::string& path) {
  if (!PathExists(path)) {
    LogWarning("{} is missing: whether the data is that of the run so far cannot be told", path);
    return;
  }
  Stamps s;
  ReadFields(ParseJson(ReadFile(path), path), path, s);
  if (s.names.size() != s.bytes.size() || s.names.size() != s.hashes.size()) {
    throw UserError(path, "not the stamps of a run's data: lists of different lengths");
  }
  std::vector<FileStamp> saved;
  for (size_t i = 0; i < s.names.size(); ++i) {
    saved.push_back({s.names[i], static_cast<int64_t>(s.bytes[i]), std::strtoull(s.hashes[i].c_str(), nullptr, 16)});
  }
  CheckSameData(saved, stamps, path);
}

}  // namespace taipan
