#pragma once
// Models in other programs' formats.

#include <optional>
#include <string>

#include "formats/gguf.h"
#include "model/model.h"
#include "model/tensor_names.h"

namespace taipan {

// "f32", "f16", "bf16" or, in GGUF only, "q8_0" for matrices; vectors, norms and convolutions stay f32 in GGUF, where
// llama.cpp wants them so. UserError for other names.
GgmlType ParseExportType(const std::string& name);

// Writes config.json and safetensors (in shards of at most 5 GB) of a naming other than kGguf into an existing folder.
// `where` names the model in UserErrors: what the format cannot say, values that the type cannot hold.
void ExportFolder(LanguageModel& model, Naming naming, GgmlType type, const std::string& folder,
                  const std::string& where);

// `tokenizer`: metadata of the vocabulary; empty: the file is marked as having none.
void ExportGguf(LanguageModel& model, GgmlType type, const GgufMetadata& tokenizer, const std::string& path,
                const std::string& where);

}  // namespace taipan
