// taipan convert: a model in another format or element type.

#include "base/error.h"
#include "base/file_checks.h"
#include "base/files.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/model_argument.h"
#include "cli/new_folder.h"
#include "cli/output.h"
#include "cli/tokenizer_files.h"
#include "model/checkpoint.h"
#include "model/export.h"
#include "model/model_files.h"
#include "model/parameters.h"

namespace taipan {
namespace {

struct ConvertOptions {
  std::string in, out, to, dtype = "f32";
};

void ConvertToGguf(const Checkpoint& in, const ConvertOptions& o, GgmlType type) {
  if (PathExists(o.out))
    throw UserError(
        {.where = o.out, .problem = "exists already", .expected = "a new file", .hint = "nothing was written"});
  CheckCanWrite(o.out);
  LanguageModel model = LoadModel(in, Binding::kView);
  const GgufMetadata tokenizer = TokenizerMetadata(in);
  ExportGguf(model, type, tokenizer, o.out, in.path);
  Note(fmt::format("wrote {}: {} parameters, {}{}", o.out, FormatExact(CountParameters(model.config())), o.dtype,
                   tokenizer.empty() ? ", no tokenizer" : ""));
}

void ConvertToFolder(const Checkpoint& in, const ConvertOptions& o, GgmlType type) {
  const std::string target = NewFolderTarget(o.out);
  const ModelConfig& config = in.config;
  const Naming naming = o.to == "taipan"      ? Naming::kTaipan
                        : o.to == "mamba_ssm" ? Naming::kMambaSsm
                                              : TransformersNaming(config, in.path);
  if (naming != Naming::kTaipan) ForeignConfigJson(config, naming, "", in.path);  // refuses before the weights are read
  const TemporaryFolder folder(target);
  LanguageModel model = LoadModel(in, Binding::kView);
  ExportFolder(model, naming, type, folder.path(), in.path);
  const size_t files = WriteTokenizer(in, folder.path());
  ReplaceDirectory(folder.path(), target);
  Note(fmt::format("wrote {}: {} parameters, {}{}", target, FormatExact(CountParameters(config)), o.dtype,
                   files == 0 ? ", no tokenizer" : ""));
}

void RunConvert(ConvertOptions o) {
  const bool gguf = HasGgufName(o.out);
  if (o.to.empty()) o.to = gguf ? "gguf" : "taipan";
  if ((o.to == "gguf") != gguf) {
    throw UserError({"--to", "does not fit the name of OUT", gguf ? "gguf" : "a file that ends in .gguf",
                     fmt::format("{} and {}", o.to, o.out)});
  }
  const Checkpoint in = OpenModel(o.in);
  const GgmlType type = ParseExportType(o.dtype);
  gguf ? ConvertToGguf(in, o, type) : ConvertToFolder(in, o, type);
}

}  // namespace

void AddConvertCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("convert", "Write a model in another format or element type");
  auto o = std::make_shared<ConvertOptions>();
  command->add_option("IN", o->in, "A model directory or GGUF file")->required();
  command->add_option("OUT", o->out, "A new or empty folder, or a new .gguf file")->required();
  command
      ->add_option("--to", o->to,
                   "taipan, hf (transformers: the architecture that the model is of), mamba_ssm or gguf (default: gguf "
                   "where OUT ends in .gguf, else taipan)")
      ->check(CLI::IsMember({"taipan", "hf", "mamba_ssm", "gguf"}));
  command->add_option("--dtype", o->dtype, "Element type of the weights: f32, f16, bf16; in GGUF also q8_0")
      ->check(CLI::IsMember({"f32", "f16", "bf16", "q8_0"}))
      ->capture_default_str();
  AddLoadFlags(*command);
  AddThreadsFlag(*command);
  command->callback([o] { RunConvert(*o); });
}

}  // namespace taipan
