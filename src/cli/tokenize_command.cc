// taipan tokenize: text to shards of token ids.

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "data/tokenize.h"
#include "train/run_text.h"

namespace taipan {
namespace {

struct TokenizeFlags {
  TokenizeRequest request;
  std::string tokenizer, eos = "auto";
  bool json = false;
};

void RunTokenize(TokenizeFlags& flags) {
  TokenizeRequest& request = flags.request;
  const RunTokenizer text = LoadRunTokenizer(flags.tokenizer);
  request.tokenizer = text.tokenizer.get();
  request.chat = text.chat.get();
  request.tokenizer_name = text.source;
  request.tokenizer_files = text.files;
  request.eos = ChooseEos(flags.eos, request.tokenizer, std::nullopt, request.tokenizer->vocab_size());
  const ShardManifest made = TokenizeData(request);
  Note(fmt::format("{}: {} tokens in {} documents, {} shards, end of text {}", request.out, FormatExact(made.tokens()),
                   FormatExact(made.documents()), made.shards.size(), NameOfEos(request.eos, request.tokenizer)));
  if (!flags.json) return;
  PrintJson({{"out", request.out},
             {"tokens", made.tokens()},
             {"documents", made.documents()},
             {"shards", made.shards.size()},
             {"tokenizer", made.tokenizer}});
}

}  // namespace

void AddTokenizeCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("tokenize", "Turn text into shards of token ids, once, for many runs");
  auto flags = std::make_shared<TokenizeFlags>();
  CLI::Option* data =
      command->add_option("--data", flags->request.data,
                          "Text, JSONL with {\"text\": ...} a line, gzip or Zstandard of these, folders "
                          "of them; - is standard input");
  TakeTextsAsTheyAre(*data->type_name("PATH ...")->required());
  command->add_option("--tokenizer", flags->tokenizer, "byte, a tokenizer file or a folder that has one")
      ->type_name("FILE|DIR")
      ->required();
  command
      ->add_option("-o,--out", flags->request.out,
                   "A folder for the shards; one that was stopped goes on with the same command")
      ->type_name("DIR")
      ->required();
  command
      ->add_option("--eos", flags->eos,
                   "The token behind every document: auto (the tokenizer's own), none, an id, a token")
      ->type_name("auto|none|ID|TOKEN")
      ->capture_default_str();
  command->add_option("--shard-tokens", flags->request.shard_tokens, "Tokens a shard; one ends with a document")
      ->check(WholeNumber(1, int64_t{1} << 40))
      ->capture_default_str();
  AddJsonFlag(*command, flags->json);
  AddThreadsFlag(*command);
  command->callback([flags] { RunTokenize(*flags); });
}

}  // namespace taipan
