#pragma once
// Models in other programs' formats.

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "formats/gguf.h"
#include "model/model.h"
#include "model/tensor_names.h"

namespace taipan {

// "f32", "f16", "bf16" or, in GGUF only, "q8_0" for matrices; vectors, norms and convolutions stay f32 in GGUF, where
// llama.cpp wants them so. UserError for other names.
GgmlType ParseExportType(const std::string& name);

// The type of each tensor of the format; matrices alone are asked for. Rows hold whole blocks of it.
using TypeOfTensor = std::function<GgmlType(const ForeignTensor&)>;
// Whether a tensor of the format is a matrix that products or look-ups of tokens read.
bool IsMatrix(const ForeignTensor& tensor);

// Matrices that are rounded already, by parameter: blocks [rows, bytes of a row], rows as we have them.
using RoundedBlocks = std::map<std::string, Tensor>;

struct Quantization {
  TypeOfTensor types;
  RoundedBlocks rounded = {};  // of the types; the others are rounded when they are written
};
// The same as below with quantized matrices: a folder of our own, in which the others are f32; GGUF. `type` names the
// file's type there.
void ExportQuantizedFolder(LanguageModel& model, const Quantization& quantization, const std::string& folder);
void ExportQuantizedGguf(LanguageModel& model, const Quantization& quantization, GgmlType type,
                         const GgufMetadata& tokenizer, const std::string& path, const std::string& where);

// Writes config.json and safetensors (in shards of at most 5 GB) of a naming other than kGguf into an existing folder.
// `where` names the model in UserErrors: what the format cannot say, values that the type cannot hold.
void ExportFolder(LanguageModel& model, Naming naming, GgmlType type, const std::string& folder,
                  const std::string& where);

// `tokenizer`: metadata of the vocabulary; empty: the file is marked as having none.
void ExportGguf(LanguageModel& model, GgmlType type, const GgufMetadata& tokenizer, const std::string& path,
                const std::string& where);

}  // namespace taipan
