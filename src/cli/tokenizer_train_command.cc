// taipan tokenizer train: a byte-level BPE tokenizer from text.

#include <set>

#include "base/error.h"
#include "base/file_checks.h"
#include "base/files.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "data/corpus.h"
#include "text/bpe/bpe_train.h"
#include "text/tokenizer.h"
#include "text/unicode/byte_alphabet.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

struct TokenizerTrainFlags {
  int64_t vocab_size = 0;
  std::vector<std::string> data, special_tokens;
  std::string out;
};

constexpr size_t kPiece = size_t{1} << 20;  // bytes

// Where to cut a text of which more follows: after a line end between two characters that are no spaces, where a word
// ends whatever follows. 0 where the last piece has none. A text that grows without such a place (a script outside of
// ASCII, a table) is cut after any character, which splits a word at most every 16 MiB.
size_t LastCut(std::string_view text) {
  const auto letter = [&](size_t i) { return text[i] > ' ' && static_cast<uint8_t>(text[i]) < 0x80; };
  const size_t first = std::max<size_t>(2, text.size() - std::min(text.size(), kPiece));
  for (size_t i = text.size(); i-- > first;) {
    if (text[i - 1] == '\n' && letter(i) && letter(i - 2)) return i;
  }
  if (text.size() < 16 * kPiece) return 0;
  size_t end = text.size();
  while (end > text.size() - 4 && (static_cast<uint8_t>(text[end - 1]) & 0xC0) == 0x80) --end;
  return end - 1;
}

void CountWords(const Corpus& bytes, WordCounts& words) {
  constexpr auto kStep = static_cast<int64_t>(kPiece);
  ProgressLine progress;
  std::vector<int32_t> ids(kPiece);
  std::string text;
  for (int64_t at = 0; at < bytes.size(); at += kStep) {
    const int64_t count = std::min(kStep, bytes.size() - at);
    bytes.Read(at, count, ids.data());
    for (int64_t i = 0; i < count; ++i) text += static_cast<char>(ids[static_cast<size_t>(i)]);
    const size_t cut = LastCut(text);
    words.Add(std::string_view(text).substr(0, cut));
    text.erase(0, cut);
    progress.Update(fmt::format("counting words: {} of {}", FormatBytes(at + count), FormatBytes(bytes.size())));
  }
  words.Add(text);
  progress.Finish();
}

void CheckFlags(const TokenizerTrainFlags& flags) {
  const auto specials = static_cast<int64_t>(flags.special_tokens.size());
  if (flags.vocab_size < 256 + specials) {
    throw UserError({"--vocab-size", "too small for the bytes and the special tokens",
                     fmt::format("at least {}", 256 + specials), std::to_string(flags.vocab_size)});
  }
  std::set<std::string> seen;
  for (const std::string& token : flags.special_tokens) {
    if (token.empty()) throw UserError("--special-token", "an empty token");
    if (ToValidUtf8(token) != token) throw UserError("--special-token", "not valid UTF-8");
    if (token.size() < 2)
      throw UserError({.where = "--special-token", .problem = "a single byte has a token already", .found = token});
    if (!seen.insert(token).second)
      throw UserError({.where = "--special-token", .problem = "given twice", .found = token});
  }
}

// A vocabulary has each spelling once.
void CheckSpellings(const TrainedBpe& bpe) {
  const std::set<std::string> specials(bpe.special_tokens.begin(), bpe.special_tokens.end());
  for (const std::string& token : bpe.tokens) {
    if (specials.count(SpellBytes(token)) == 0) continue;
    throw UserError(
        {.where = "--special-token", .problem = "the text has this as an ordinary token", .found = SpellBytes(token)});
  }
}

void RunTokenizerTrain(const TokenizerTrainFlags& flags) {
  CheckFlags(flags);
  const bool folder = IsDirectory(flags.out) || !flags.out.ends_with(".json");
  const std::string path = folder ? flags.out + "/tokenizer.json" : flags.out;
  folder && !IsDirectory(flags.out) ? CheckCanMakeFolder(flags.out) : CheckCanWrite(path);
  const ByteTokenizer bytes;
  const bool text = HoldsText(flags.data, DataUse::kTraining);
  const Corpus corpus(flags.data, &bytes, bytes.vocab_size());
  if (!corpus.bytes_are_tokens() || !text) {
    throw UserError("--data", "a tokenizer is trained on text, not on token files");
  }
  WordCounts words;
  CountWords(corpus, words);
  ProgressLine progress;
  const auto show = [&](int64_t n) { progress.Update(fmt::format("merging: {} of {} tokens", n, flags.vocab_size)); };
  const TrainedBpe bpe = TrainBpe(words, flags.vocab_size, flags.special_tokens, show);
  progress.Finish();
  CheckSpellings(bpe);
  if (folder) MakeDirectories(flags.out);
  WriteFileAtomically(path, TokenizerJson(bpe));
  Note(fmt::format("wrote {}: {} tokens from {} bytes with {} different words", path, FormatExact(bpe.vocab_size()),
                   FormatExact(corpus.size()), FormatExact(static_cast<int64_t>(words.counts().size()))));
  if (bpe.vocab_size() < flags.vocab_size) Note("fewer than asked for: no pair is left that occurs twice");
}

}  // namespace

void AddTokenizerTrain(CLI::App& tokenizer) {
  CLI::App* command = tokenizer.add_subcommand("train", "Learn a byte-level BPE tokenizer from text");
  auto flags = std::make_shared<TokenizerTrainFlags>();
  command->add_option("--vocab-size", flags->vocab_size, "Tokens, the 256 bytes and the special tokens among them")
      ->check(WholeNumber(256, int64_t{1} << 24))
      ->required();
  CLI::Option* data =
      command->add_option("--data", flags->data,
                          "Text, JSONL with {\"text\": ...} a line, gzip or Zstandard of these, folders of them; - is "
                          "standard input");
  TakeTextsAsTheyAre(*data->type_name("PATH ...")->required());
  command->add_option("-o,--out", flags->out, "A file NAME.json to write, or a folder that gets a tokenizer.json")
      ->type_name("FILE|DIR")
      ->required();
  command
      ->add_option("--special-token", flags->special_tokens,
                   "A token that stands for no text, such as <|endoftext|>; the first has id 0 (repeatable)")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  AddThreadsFlag(*command);
  command->callback([flags] { RunTokenizerTrain(*flags); });
}

}  // namespace taipan
